#include "runtime/compress/sample_text_file.h"

#include <cstring>
#include <limits>
#include <span>
#include <utility>
#include <vector>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "runtime/weights/json_fields.h"
#include "runtime/weights/json_header.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/safetensors.h"
#include "runtime/weights/safetensors_writer.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

using nlohmann::json;

// Raised whenever the same source gives another text.
constexpr int32_t kVersion = 1;
constexpr JsonHeaderKind kHeader = {.key = "lorc_written_text",
                                    .format = "lorc-written-text",
                                    .oldest_version = kVersion,
                                    .newest_version = kVersion,
                                    .file = "a text that a model wrote",
                                    .content = "the text"};
constexpr char kTokens[] = "tokens";
constexpr int32_t kMost = std::numeric_limits<int32_t>::max();

absl::StatusOr<WrittenTextSource> ReadSource(const JsonFields& fields) {
  WrittenTextSource source;
  LORC_ASSIGN_OR_RETURN(source.fingerprint, fields.String("fingerprint", ""));
  LORC_ASSIGN_OR_RETURN(source.weight_type, fields.String("weights", ""));
  LORC_ASSIGN_OR_RETURN(source.num_windows, fields.Integer("num_windows", 0, kMost));
  LORC_ASSIGN_OR_RETURN(source.window, fields.Integer("window", 0, kMost));
  LORC_ASSIGN_OR_RETURN(source.vocabulary_size, fields.Integer("vocabulary_size", 0, kMost));
  const json* seed = fields.Find("seed");
  if (seed == nullptr || !seed->is_number_unsigned()) {
    return fields.Invalid("seed: expected a number that is not negative");
  }
  source.seed = seed->get<uint64_t>();
  return source;
}

std::string Difference(const WrittenTextSource& found, const WrittenTextSource& wanted) {
  if (found.fingerprint != wanted.fingerprint) return "by another model";
  if (found.weight_type != wanted.weight_type) {
    return absl::StrCat("by weights in ", Printable(found.weight_type));
  }
  if (found.num_windows != wanted.num_windows) {
    return absl::StrCat("of ", found.num_windows, " windows instead of ", wanted.num_windows);
  }
  if (found.window != wanted.window) return absl::StrCat("in windows of ", found.window, " tokens");
  if (found.seed != wanted.seed) return absl::StrCat("from seed ", found.seed);
  return absl::StrCat("in a vocabulary of ", found.vocabulary_size, " tokens");
}

}  // namespace

absl::Status WriteWrittenText(const WrittenTextSource& source, const TokenWindows& windows,
                              const std::string& path) {
  LORC_CHECK_EQ(std::ssize(windows), source.num_windows);
  std::vector<TokenId> tokens;
  for (const std::vector<TokenId>& window : windows) {
    LORC_CHECK_EQ(std::ssize(window), source.window);
    tokens.insert(tokens.end(), window.begin(), window.end());
  }
  const json header = {{"format", kHeader.format},
                       {"version", kVersion},
                       {"fingerprint", source.fingerprint},
                       {"weights", source.weight_type},
                       {"num_windows", source.num_windows},
                       {"window", source.window},
                       {"vocabulary_size", source.vocabulary_size},
                       {"seed", source.seed}};
  const SafetensorsTensor tensor = {kTokens,
                                    SafetensorsType::kI32,
                                    {source.num_windows, source.window},
                                    std::as_bytes(std::span(tokens))};
  return WriteSafetensors(path, {&tensor, 1}, {{kHeader.key, header.dump()}});
}

absl::StatusOr<TokenWindows> ReadWrittenText(const WrittenTextSource& wanted,
                                             const std::string& path) {
  LORC_ASSIGN_OR_RETURN(const Safetensors file, Safetensors::Open(path));
  json header;
  LORC_RETURN_IF_ERROR(ReadJsonHeader(file, kHeader, &header));
  LORC_ASSIGN_OR_RETURN(const WrittenTextSource found, ReadSource(JsonFields(header, file.name())));
  if (found != wanted) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": expected the text that this model writes with these options, got one ",
        Difference(found, wanted), "; remove the file or name another"));
  }
  const SafetensorsTensor* tensor = file.Find(kTokens);
  if (tensor == nullptr || tensor->type != SafetensorsType::kI32 ||
      tensor->shape != std::vector<int64_t>{wanted.num_windows, wanted.window}) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.name(), ": tensor ", kTokens, ": expected I32 with ", wanted.num_windows, " x ",
        wanted.window, " tokens, but it is ", tensor == nullptr ? "missing" : "another"));
  }
  TokenWindows windows(wanted.num_windows, std::vector<TokenId>(wanted.window));
  const std::byte* from = tensor->data.data();
  for (std::vector<TokenId>& window : windows) {
    std::memcpy(window.data(), from, window.size() * sizeof(TokenId));
    from += window.size() * sizeof(TokenId);
    for (const TokenId token : window) {
      if (token >= 0 && token < wanted.vocabulary_size) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          file.name(), ": token ", token, " is not in the vocabulary of ", wanted.vocabulary_size));
    }
  }
  return windows;
}

}  // namespace lorc
