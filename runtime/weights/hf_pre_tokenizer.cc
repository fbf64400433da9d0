#include "runtime/weights/hf_pre_tokenizer.h"

#include <string_view>
#include <vector>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/weights/json_fields.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Every part of a pre-tokenizer is written as a word; the words together name the whole.
struct KnownSequence {
  std::string_view parts;
  const char* name;
};
constexpr KnownSequence kKnown[] = {
    {"byte-level-gpt2", "gpt2"},
    {"split-gpt2, byte-level", "gpt2"},
    {"digits, byte-level-gpt2", "smollm"},
    {"split-llama3, byte-level", "llama3"},
};

absl::StatusOr<std::string> DescribeByteLevel(const JsonFields& part) {
  LORC_ASSIGN_OR_RETURN(const bool prefix_space, part.Bool("add_prefix_space", true));
  if (prefix_space)
    return part.Unimplemented(
        "ByteLevel with add_prefix_space puts a space before every text; it "
        "is not supported");
  LORC_ASSIGN_OR_RETURN(const bool use_regex, part.Bool("use_regex", true));
  return std::string(use_regex ? "byte-level-gpt2" : "byte-level");
}

absl::StatusOr<std::string> DescribeSplit(const JsonFields& part) {
  const nlohmann::json* pattern = part.Find("pattern");
  std::string regex;
  if (pattern != nullptr && pattern->is_object() && pattern->contains("Regex") &&
      (*pattern)["Regex"].is_string())
    regex = (*pattern)["Regex"].get<std::string>();
  LORC_ASSIGN_OR_RETURN(const std::string behavior, part.String("behavior", ""));
  LORC_ASSIGN_OR_RETURN(const bool invert, part.Bool("invert", false));
  // Where a pattern covers every text, keeping the matches and keeping them apart is the same.
  const bool isolates = behavior == "Isolated" && !invert;
  const bool keeps_matches = behavior == "Removed" && invert;
  if (isolates || keeps_matches) {
    if (regex == kGpt2Pattern) return std::string("split-gpt2");
    if (regex == kLlama3Pattern) return std::string("split-llama3");
  }
  return part.Unimplemented(absl::StrCat("the Split pattern ", Printable(regex), " (behavior ",
                                         Printable(behavior),
                                         ") is not known; those of GPT-2 and LLaMA 3 are"));
}

absl::StatusOr<std::string> DescribePart(const nlohmann::json& json, const std::string& source) {
  const JsonFields part(json, source);
  LORC_ASSIGN_OR_RETURN(const std::string type, part.String("type", ""));
  if (type == "ByteLevel") return DescribeByteLevel(part);
  if (type == "Split") return DescribeSplit(part);
  if (type == "Digits") {
    LORC_ASSIGN_OR_RETURN(const bool individual, part.Bool("individual_digits", false));
    return std::string(individual ? "digits" : "digit-runs");
  }
  return part.Unimplemented(absl::StrCat("a pre-tokenizer of type ", Printable(type),
                                         " is not supported; only byte-level BPE is"));
}

}  // namespace

absl::StatusOr<std::string> PreTokenizerName(const nlohmann::json& pre_tokenizer,
                                             const std::string& source) {
  const std::string where = absl::StrCat(source, ", pre_tokenizer");
  const auto parts = pre_tokenizer.find("pretokenizers");
  const bool is_sequence = pre_tokenizer.is_object() && parts != pre_tokenizer.end();
  const nlohmann::json list =
      is_sequence ? *parts : nlohmann::json(nlohmann::json::array({pre_tokenizer}));
  std::vector<std::string> words;
  for (const nlohmann::json& part : list) {
    if (!part.is_object())
      return absl::InvalidArgumentError(
          absl::StrCat(Printable(where), ": a part is not an object"));
    LORC_ASSIGN_OR_RETURN(std::string word, DescribePart(part, where));
    words.push_back(std::move(word));
  }
  const std::string description = absl::StrJoin(words, ", ");
  for (const KnownSequence& known : kKnown)
    if (description == known.parts) return std::string(known.name);
  return absl::UnimplementedError(
      absl::StrCat(Printable(where), ": the sequence (", description,
                   ") is not known; those of GPT-2, SmolLM and LLaMA 3 are"));
}

}  // namespace lorc
