#include "runtime/weights/hf_vocabulary.h"

#include <utility>
#include <vector>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/weights/hf_bpe_model.h"
#include "runtime/weights/hf_post_processor.h"
#include "runtime/weights/hf_pre_tokenizer.h"
#include "runtime/weights/json_fields.h"
#include "runtime/weights/mapped_file.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"
#include "runtime/weights/vocabulary_checks.h"

namespace lorc {
namespace {

TokenId FindToken(const Vocabulary& vocabulary, const std::string& text) {
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id)
    if (vocabulary.tokens[id].text == text &&
        vocabulary.tokens[id].kind != Vocabulary::Kind::kUnused)
      return static_cast<TokenId>(id);
  return kNoToken;
}

// The token named `key` ("bos_token"), written as a text or as {"content": text}; absent, kNoToken.
// Like transformers, makes it a control token.
absl::StatusOr<TokenId> SpecialToken(const JsonFields& fields, const std::string& key,
                                     Vocabulary* vocabulary) {
  const nlohmann::json* value = fields.Find(key);
  if (value == nullptr) return kNoToken;
  const nlohmann::json* text = value;
  if (value->is_object() && value->contains("content")) text = &(*value)["content"];
  if (!text->is_string()) return fields.Invalid(absl::StrCat(key, " is no token's text"));
  const TokenId id = FindToken(*vocabulary, text->get_ref<const std::string&>());
  if (id == kNoToken)
    return fields.Invalid(absl::StrCat(key, " is ", Printable(text->get_ref<const std::string&>()),
                                       ", which is not in the vocabulary"));
  vocabulary->tokens[static_cast<size_t>(id)].kind = Vocabulary::Kind::kControl;
  return id;
}

// An id or a list of ids; absent, none.
absl::StatusOr<std::vector<TokenId>> TokenIds(const JsonFields& fields, const std::string& key,
                                              int32_t embedding_rows) {
  std::vector<TokenId> ids;
  const nlohmann::json* value = fields.Find(key);
  if (value == nullptr) return ids;
  const nlohmann::json list = value->is_array() ? *value : nlohmann::json::array({*value});
  for (const nlohmann::json& id : list) {
    if (!id.is_number_integer() || id < 0 || id >= embedding_rows)
      return fields.Invalid(absl::StrCat(key, " is no token id from 0 to ", embedding_rows - 1));
    ids.push_back(id.get<TokenId>());
  }
  return ids;
}

// The template named "default" where there are several.
absl::StatusOr<std::string> ChatTemplate(const JsonFields& fields) {
  const nlohmann::json* value = fields.Find("chat_template");
  if (value == nullptr || !value->is_array()) return fields.String("chat_template", "");
  for (const nlohmann::json& entry : *value) {
    if (!entry.is_object()) return fields.Invalid("a chat_template is not an object");
    const JsonFields named(entry, "chat_template");
    LORC_ASSIGN_OR_RETURN(const std::string name, named.String("name", ""));
    if (name == "default") return named.String("template", "");
  }
  return std::string();
}

struct JsonFiles {
  nlohmann::json tokenizer;
  nlohmann::json tokenizer_config;
  nlohmann::json special_tokens_map;
  nlohmann::json config;
  nlohmann::json generation_config;
};

absl::Status ParseFiles(const HfTokenizerTexts& texts, const std::string& source,
                        JsonFiles* files) {
  const auto parse = [&](std::string_view text, const char* name, nlohmann::json* json) {
    return ParseJsonObject(text.empty() ? "{}" : text, absl::StrCat(source, "/", name), json);
  };
  LORC_RETURN_IF_ERROR(parse(texts.tokenizer, "tokenizer.json", &files->tokenizer));
  LORC_RETURN_IF_ERROR(
      parse(texts.tokenizer_config, "tokenizer_config.json", &files->tokenizer_config));
  LORC_RETURN_IF_ERROR(
      parse(texts.special_tokens_map, "special_tokens_map.json", &files->special_tokens_map));
  LORC_RETURN_IF_ERROR(parse(texts.config, "config.json", &files->config));
  return parse(texts.generation_config, "generation_config.json", &files->generation_config);
}

absl::Status ReadBosAndEos(const JsonFiles& files, int32_t embedding_rows,
                           const std::string& source, Vocabulary* vocabulary) {
  const JsonFields names(files.tokenizer_config, source + "/tokenizer_config.json");
  const JsonFields map(files.special_tokens_map, source + "/special_tokens_map.json");
  const JsonFields config(files.config, source + "/config.json");
  const JsonFields generation(files.generation_config, source + "/generation_config.json");
  for (const JsonFields* fields : {&generation, &config}) {
    LORC_ASSIGN_OR_RETURN(const std::vector<TokenId> ids,
                          TokenIds(*fields, "eos_token_id", embedding_rows));
    for (const TokenId id : ids) AddEos(id, vocabulary);
  }
  LORC_ASSIGN_OR_RETURN(const TokenId eos, SpecialToken(names.Has("eos_token") ? names : map,
                                                        "eos_token", vocabulary));
  if (eos != kNoToken) AddEos(eos, vocabulary);

  LORC_ASSIGN_OR_RETURN(
      vocabulary->bos, SpecialToken(names.Has("bos_token") ? names : map, "bos_token", vocabulary));
  for (const JsonFields* fields : {&generation, &config}) {
    if (vocabulary->bos != kNoToken) break;
    LORC_ASSIGN_OR_RETURN(const std::vector<TokenId> ids,
                          TokenIds(*fields, "bos_token_id", embedding_rows));
    if (!ids.empty()) vocabulary->bos = ids.front();
  }
  LORC_ASSIGN_OR_RETURN(const bool add_eos, names.Bool("add_eos_token", false));
  if (add_eos)
    return names.Unimplemented(
        "add_eos_token is true; prompts that end with eos are not supported");
  return absl::OkStatus();
}

// The tokenizer's own post-processor adds bos unless tokenizer_config.json says otherwise.
absl::Status ReadAddBos(const JsonFiles& files, const std::string& source, Vocabulary* vocabulary) {
  const std::string path = source + "/tokenizer.json";
  const JsonFields names(files.tokenizer_config, source + "/tokenizer_config.json");
  LORC_ASSIGN_OR_RETURN(
      const std::string leading,
      LeadingToken(files.tokenizer.value("post_processor", nlohmann::json()), path));
  LORC_ASSIGN_OR_RETURN(vocabulary->add_bos, names.Bool("add_bos_token", !leading.empty()));
  if (leading.empty() || !vocabulary->add_bos) return absl::OkStatus();
  const TokenId id = FindToken(*vocabulary, leading);
  if (id == kNoToken)
    return absl::InvalidArgumentError(absl::StrCat(Printable(path), ": the post-processor adds ",
                                                   Printable(leading),
                                                   ", which is not in the vocabulary"));
  vocabulary->bos = id;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Vocabulary> ParseHfVocabulary(const HfTokenizerTexts& texts, int32_t embedding_rows,
                                             const std::string& source) {
  JsonFiles files;
  LORC_RETURN_IF_ERROR(ParseFiles(texts, source, &files));
  const std::string path = source + "/tokenizer.json";
  const JsonFields tokenizer(files.tokenizer, path);
  const JsonFields tokenizer_config(files.tokenizer_config, source + "/tokenizer_config.json");
  if (tokenizer.Has("normalizer"))
    return tokenizer.Unimplemented("has a normalizer; byte-level BPE without one is supported");
  Vocabulary vocabulary;
  LORC_RETURN_IF_ERROR(ReadHfBpeModel(files.tokenizer,
                                      tokenizer_config.Find("added_tokens_decoder"), embedding_rows,
                                      path, &vocabulary));
  const nlohmann::json* pre_tokenizer = tokenizer.Find("pre_tokenizer");
  if (pre_tokenizer == nullptr)
    return tokenizer.Unimplemented("has no pre_tokenizer; only byte-level BPE is supported");
  LORC_ASSIGN_OR_RETURN(vocabulary.pre_tokenizer, PreTokenizerName(*pre_tokenizer, path));
  LORC_RETURN_IF_ERROR(ReadBosAndEos(files, embedding_rows, source, &vocabulary));
  LORC_RETURN_IF_ERROR(ReadAddBos(files, source, &vocabulary));
  vocabulary.chat_template = texts.chat_template;
  if (vocabulary.chat_template.empty()) {
    LORC_ASSIGN_OR_RETURN(vocabulary.chat_template, ChatTemplate(tokenizer_config));
  }
  LORC_RETURN_IF_ERROR(ValidateVocabulary(vocabulary, embedding_rows, path));
  return vocabulary;
}

absl::StatusOr<Vocabulary> ReadHfVocabulary(const std::string& folder, int32_t embedding_rows) {
  std::vector<MappedFile> mapped;
  mapped.reserve(6);
  HfTokenizerTexts texts;
  const std::pair<const char*, std::string_view*> files[] = {
      {"tokenizer.json", &texts.tokenizer},
      {"tokenizer_config.json", &texts.tokenizer_config},
      {"special_tokens_map.json", &texts.special_tokens_map},
      {"config.json", &texts.config},
      {"generation_config.json", &texts.generation_config},
      {"chat_template.jinja", &texts.chat_template},
  };
  for (const auto& [name, text] : files) {
    absl::StatusOr<MappedFile> file = MappedFile::Open(absl::StrCat(folder, "/", name));
    if (absl::IsNotFound(file.status())) continue;
    if (!file.ok()) return file.status();
    mapped.push_back(*std::move(file));
    *text = mapped.back().text();
  }
  if (texts.tokenizer.empty())
    return absl::NotFoundError(
        absl::StrCat(Printable(folder),
                     " holds no tokenizer.json; a SentencePiece tokenizer.model alone is not "
                     "supported. Save the fast tokenizer with save_pretrained"));
  return ParseHfVocabulary(texts, embedding_rows, folder);
}

}  // namespace lorc
