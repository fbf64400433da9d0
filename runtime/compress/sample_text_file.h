// Text that the model wrote itself, kept for the next run: one safetensors file with a JSON header
// ("lorc_written_text" of the metadata) and the tokens in I32, [windows, window].
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/compress/calibration_text.h"

namespace lorc {

// What the text follows from.
struct WrittenTextSource {
  std::string fingerprint;  // Checkpoint::Fingerprint
  std::string weight_type;  // as the model ran
  int32_t num_windows = 0;
  int32_t window = 0;           // tokens
  int32_t vocabulary_size = 0;  // tokens are below it
  uint64_t seed = 0;

  friend bool operator==(const WrittenTextSource&, const WrittenTextSource&) = default;
};

// Whole or not at all. `windows` are as the source says.
absl::Status WriteWrittenText(const WrittenTextSource& source, const TokenWindows& windows,
                              const std::string& path);

// The file is hostile until proven otherwise: INVALID_ARGUMENT names it, what was expected and what
// came. FAILED_PRECONDITION where it is of another source.
absl::StatusOr<TokenWindows> ReadWrittenText(const WrittenTextSource& wanted,
                                             const std::string& path);

}  // namespace lorc
