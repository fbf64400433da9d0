#include "runtime/weights/gguf_vocabulary.h"

#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/weights/config_limits.h"
#include "runtime/weights/gguf_fields.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"
#include "runtime/weights/vocabulary_checks.h"

namespace lorc {
namespace {

constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kMerges = "tokenizer.ggml.merges";

// The table of pre-tokenizers has one name for what files spell in several ways.
std::string CanonicalPreTokenizer(const std::string& name) {
  if (name == "gpt-2" || name == "default") return "gpt2";
  if (name == "llama-bpe" || name == "llama-v3") return "llama3";
  return name;
}

std::optional<Vocabulary::Kind> KindFromFile(int64_t type) {
  switch (type) {
    case 1:
      return Vocabulary::Kind::kNormal;
    case 2:  // "unknown": stands for text that has no tokens, of which byte-level BPE has none
    case 3:
      return Vocabulary::Kind::kControl;
    case 4:
      return Vocabulary::Kind::kUserDefined;
    case 5:
      return Vocabulary::Kind::kUnused;
    default:
      return std::nullopt;
  }
}

absl::StatusOr<std::vector<std::string_view>> Strings(const Gguf& gguf, const GgufFields& fields,
                                                      const char* key, int64_t limit) {
  const GgufValue* value = gguf.FindValue(key);
  if (value == nullptr)
    return fields.Invalid(absl::StrCat(key, " is missing; the file has no usable tokenizer"));
  if (value->count > limit)
    return fields.Invalid(
        absl::StrCat(key, " has ", value->count, " entries; at most ", limit, " are supported"));
  std::optional<std::vector<std::string_view>> strings = value->AsStrings();
  if (!strings) return fields.Invalid(absl::StrCat(key, " is not an array of texts"));
  return *std::move(strings);
}

absl::Status ReadTokens(const Gguf& gguf, const GgufFields& fields, Vocabulary* vocabulary) {
  LORC_ASSIGN_OR_RETURN(const std::vector<std::string_view> texts,
                        Strings(gguf, fields, kTokens, kMaxVocabulary));
  for (const std::string_view text : texts)
    vocabulary->tokens.push_back({std::string(text), Vocabulary::Kind::kNormal});
  const GgufValue* types = gguf.FindValue(kTypes);
  if (types == nullptr) return absl::OkStatus();
  if (types->count != static_cast<int64_t>(texts.size()))
    return fields.Invalid(
        absl::StrCat(kTypes, " has ", types->count, " entries for ", texts.size(), " tokens"));
  const std::optional<std::vector<int64_t>> numbers = types->AsIntegers();
  if (!numbers) return fields.Invalid(absl::StrCat(kTypes, " is not an array of integers"));
  for (size_t id = 0; id < texts.size(); ++id) {
    const std::optional<Vocabulary::Kind> kind = KindFromFile((*numbers)[id]);
    if (!kind)
      return fields.Invalid(absl::StrCat(kTypes, " of token ", id, " is ", (*numbers)[id],
                                         "; byte-level BPE has types 1 to 5"));
    vocabulary->tokens[id].kind = *kind;
  }
  return absl::OkStatus();
}

absl::Status ReadMerges(const Gguf& gguf, const GgufFields& fields, Vocabulary* vocabulary) {
  LORC_ASSIGN_OR_RETURN(const std::vector<std::string_view> merges,
                        Strings(gguf, fields, kMerges, kMaxMerges));
  for (const std::string_view merge : merges) {
    auto parts = SplitMerge(merge);
    if (!parts.ok()) return fields.Invalid(absl::StrCat(kMerges, ": ", parts.status().message()));
    vocabulary->merges.push_back(*std::move(parts));
  }
  return absl::OkStatus();
}

absl::Status ReadSpecialTokens(const GgufFields& fields, Vocabulary* vocabulary) {
  constexpr int32_t kHighest = std::numeric_limits<int32_t>::max();
  LORC_ASSIGN_OR_RETURN(vocabulary->bos,
                        fields.Integer("tokenizer.ggml.bos_token_id", 0, kHighest, kNoToken));
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id"}) {
    LORC_ASSIGN_OR_RETURN(const TokenId id, fields.Integer(key, 0, kHighest, kNoToken));
    if (id != kNoToken) AddEos(id, vocabulary);
  }
  // Files of the LLaMA 3 family rely on the reader's knowledge of these two where they are silent.
  const bool llama3 = vocabulary->pre_tokenizer == "llama3";
  vocabulary->ignore_merges = llama3;
  LORC_ASSIGN_OR_RETURN(vocabulary->add_bos, fields.Bool("tokenizer.ggml.add_bos_token",
                                                         llama3 && vocabulary->bos != kNoToken));
  LORC_ASSIGN_OR_RETURN(const bool add_eos, fields.Bool("tokenizer.ggml.add_eos_token", false));
  if (add_eos)
    return fields.Unimplemented(
        "tokenizer.ggml.add_eos_token is true; prompts that end with eos are not supported");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Vocabulary> ReadGgufVocabulary(const Gguf& gguf, int32_t embedding_rows) {
  const GgufFields fields(gguf);
  LORC_ASSIGN_OR_RETURN(const std::string model, fields.String("tokenizer.ggml.model", ""));
  if (model != "gpt2")
    return fields.Unimplemented(absl::StrCat(
        "tokenizer.ggml.model is ", Printable(model),
        "; only \"gpt2\" (byte-level BPE) is supported, not SentencePiece or WordPiece"));
  Vocabulary vocabulary;
  LORC_ASSIGN_OR_RETURN(const std::string pre, fields.String("tokenizer.ggml.pre", "default"));
  vocabulary.pre_tokenizer = CanonicalPreTokenizer(pre);
  LORC_RETURN_IF_ERROR(ReadTokens(gguf, fields, &vocabulary));
  LORC_RETURN_IF_ERROR(ReadMerges(gguf, fields, &vocabulary));
  LORC_RETURN_IF_ERROR(ReadSpecialTokens(fields, &vocabulary));
  LORC_ASSIGN_OR_RETURN(vocabulary.chat_template, fields.String("tokenizer.chat_template", ""));
  LORC_RETURN_IF_ERROR(ValidateVocabulary(vocabulary, embedding_rows, gguf.name()));
  return vocabulary;
}

}  // namespace lorc
