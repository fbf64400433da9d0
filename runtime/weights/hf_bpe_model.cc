#include "runtime/weights/hf_bpe_model.h"

#include <charconv>
#include <utility>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/weights/json_fields.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"
#include "runtime/weights/vocabulary_checks.h"

namespace lorc {
namespace {

using Kind = Vocabulary::Kind;

class TokenTable {
 public:
  TokenTable(int32_t embedding_rows, const std::string& source, Vocabulary* vocabulary)
      : embedding_rows_(embedding_rows), source_(source), tokens_(vocabulary->tokens) {}

  absl::Status AddNormal(const std::string& text, const nlohmann::json& id) {
    LORC_ASSIGN_OR_RETURN(Vocabulary::Token * token, Slot(text, id));
    if (token->kind != Kind::kUnused)
      return Invalid(absl::StrCat("tokens ", Printable(token->text), " and ", Printable(text),
                                  " have the same id ", id.get<int64_t>()));
    *token = {text, Kind::kNormal};
    return absl::OkStatus();
  }

  // An added token gives an id of the model's vocabulary another kind, or takes a new id.
  absl::Status AddSpecial(const std::string& text, const nlohmann::json& id, Kind kind) {
    if (text.empty()) return Invalid("an added token is empty");
    LORC_ASSIGN_OR_RETURN(Vocabulary::Token * token, Slot(text, id));
    if (token->kind != Kind::kUnused && token->text != text)
      return Invalid(absl::StrCat("added token ", Printable(text), " has the id ",
                                  id.get<int64_t>(), " of token ", Printable(token->text)));
    *token = {text, kind};
    return absl::OkStatus();
  }

 private:
  absl::Status Invalid(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(Printable(source_), ": ", what));
  }

  absl::StatusOr<Vocabulary::Token*> Slot(const std::string& text, const nlohmann::json& id) {
    const bool is_id = id.is_number_integer() && (id.is_number_unsigned() || id >= 0);
    if (!is_id) return Invalid(absl::StrCat("the id of token ", Printable(text), " is no integer"));
    const auto place = id.get<uint64_t>();
    if (place >= static_cast<uint64_t>(embedding_rows_))
      return Invalid(absl::StrCat("token ", Printable(text), " has id ", place,
                                  ", but the embedding only ", embedding_rows_,
                                  " rows; tokenizer and weights are of two models"));
    if (place >= tokens_.size())
      tokens_.resize(static_cast<size_t>(place) + 1, {std::string(), Kind::kUnused});
    return &tokens_[static_cast<size_t>(place)];
  }

  int32_t embedding_rows_;
  const std::string& source_;
  std::vector<Vocabulary::Token>& tokens_;
};

// Settings of a BPE model that change its result, at any value but the plain one.
absl::Status CheckVariations(const JsonFields& model) {
  LORC_ASSIGN_OR_RETURN(const std::string type, model.String("type", "BPE"));
  if (type != "BPE")
    return model.Unimplemented(absl::StrCat("the tokenizer's model is ", Printable(type),
                                            "; only byte-level BPE is supported"));
  LORC_ASSIGN_OR_RETURN(const bool byte_fallback, model.Bool("byte_fallback", false));
  if (byte_fallback)
    return model.Unimplemented(
        "byte_fallback is true (a converted SentencePiece model); only byte-level BPE is "
        "supported");
  LORC_ASSIGN_OR_RETURN(const double dropout, model.Number("dropout", 0.0, 1.0, 0.0));
  if (dropout != 0.0) return model.Unimplemented("dropout is not 0; it is not supported");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    LORC_ASSIGN_OR_RETURN(const std::string affix, model.String(key, ""));
    if (!affix.empty())
      return model.Unimplemented(
          absl::StrCat(key, " is ", Printable(affix), "; byte-level BPE has none"));
  }
  return absl::OkStatus();
}

absl::Status ReadMerges(const JsonFields& model, Vocabulary* vocabulary) {
  const nlohmann::json* merges = model.Find("merges");
  if (merges == nullptr || !merges->is_array())
    return model.Invalid("merges is not an array of merges");
  if (static_cast<int64_t>(merges->size()) > kMaxMerges)
    return model.Invalid(
        absl::StrCat("has ", merges->size(), " merges; at most ", kMaxMerges, " are supported"));
  for (const nlohmann::json& merge : *merges) {
    if (merge.is_string()) {
      auto parts = SplitMerge(merge.get_ref<const std::string&>());
      if (!parts.ok()) return model.Invalid(std::string(parts.status().message()));
      vocabulary->merges.push_back(*std::move(parts));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      vocabulary->merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      return model.Invalid("a merge is neither \"a b\" nor [\"a\", \"b\"]");
    }
  }
  return absl::OkStatus();
}

absl::Status AddToken(const nlohmann::json& token, const nlohmann::json& id,
                      const std::string& source, TokenTable* table) {
  if (!token.is_object())
    return absl::InvalidArgumentError(
        absl::StrCat(Printable(source), ": an added token is not an object"));
  const JsonFields fields(token, source);
  LORC_ASSIGN_OR_RETURN(const std::string content, fields.String("content", ""));
  LORC_ASSIGN_OR_RETURN(const bool special, fields.Bool("special", false));
  for (const char* key : {"single_word", "lstrip", "rstrip"}) {
    LORC_ASSIGN_OR_RETURN(const bool value, fields.Bool(key, false));
    if (value)
      return fields.Unimplemented(absl::StrCat("added token ", Printable(content), " has ", key,
                                               "; tokens are matched as they are written only"));
  }
  return table->AddSpecial(content, id, special ? Kind::kControl : Kind::kUserDefined);
}

absl::Status ReadAddedTokens(const nlohmann::json* added_tokens, const std::string& source,
                             TokenTable* table) {
  if (added_tokens == nullptr) return absl::OkStatus();
  if (!added_tokens->is_array())
    return absl::InvalidArgumentError(
        absl::StrCat(Printable(source), ": added_tokens is not an array"));
  for (const nlohmann::json& token : *added_tokens) {
    const nlohmann::json id = token.is_object() ? token.value("id", nlohmann::json()) : nullptr;
    LORC_RETURN_IF_ERROR(AddToken(token, id, source, table));
  }
  return absl::OkStatus();
}

// {"128000": {"content": ...}, ...}
absl::Status ReadDecoder(const nlohmann::json* decoder, const std::string& source,
                         TokenTable* table) {
  if (decoder == nullptr) return absl::OkStatus();
  if (!decoder->is_object())
    return absl::InvalidArgumentError(
        absl::StrCat(Printable(source), ": added_tokens_decoder is not an object"));
  for (const auto& [key, token] : decoder->items()) {
    uint64_t id = 0;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size())
      return absl::InvalidArgumentError(absl::StrCat(Printable(source),
                                                     ": added_tokens_decoder has the key ",
                                                     Printable(key), ", which is no id"));
    LORC_RETURN_IF_ERROR(AddToken(token, nlohmann::json(id), source, table));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadHfBpeModel(const nlohmann::json& tokenizer,
                            const nlohmann::json* added_tokens_decoder, int32_t embedding_rows,
                            const std::string& source, Vocabulary* vocabulary) {
  const JsonFields fields(tokenizer, source);
  const nlohmann::json* json = fields.Find("model");
  if (json == nullptr || !json->is_object()) return fields.Invalid("model is not an object");
  const JsonFields model(*json, absl::StrCat(source, ", model"));
  LORC_RETURN_IF_ERROR(CheckVariations(model));
  const nlohmann::json* vocab = model.Find("vocab");
  if (vocab == nullptr || !vocab->is_object())
    return model.Invalid("vocab is not an object of tokens and ids");
  TokenTable table(embedding_rows, source, vocabulary);
  for (const auto& [text, id] : vocab->items()) LORC_RETURN_IF_ERROR(table.AddNormal(text, id));
  LORC_RETURN_IF_ERROR(ReadMerges(model, vocabulary));
  LORC_ASSIGN_OR_RETURN(vocabulary->ignore_merges, model.Bool("ignore_merges", false));
  LORC_RETURN_IF_ERROR(ReadAddedTokens(fields.Find("added_tokens"), source, &table));
  return ReadDecoder(added_tokens_decoder, source, &table);
}

}  // namespace lorc
