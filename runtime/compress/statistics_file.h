// Statistics on the way: one safetensors file with a JSON header ("lorc_statistics" of the
// metadata) and the sums in F64, so that an interrupted run goes on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/compress/statistics.h"
#include "runtime/model/model_config.h"

namespace lorc {

// Of which model, windows and options statistics are.
struct StatisticsSource {
  std::string fingerprint;   // Checkpoint::Fingerprint
  std::string windows_hash;  // HashWindows
  int64_t num_windows = 0;
  int32_t anchor = 0;
  int32_t exact_prefix = 0;
  int32_t exact_window = 0;
  int32_t gradient_windows = 0;
  uint64_t seed = 0;

  friend bool operator==(const StatisticsSource&, const StatisticsSource&) = default;
};

struct StatisticsProgress {
  StatisticsSource source;
  int64_t windows_done = 0;  // the first of them are in the sums
  Statistics statistics;
};

// 32 hexadecimal digits: XXH3-128 over lengths and tokens.
std::string HashWindows(const std::vector<std::vector<TokenId>>& windows);

// Whole or not at all; read back before success is reported.
absl::Status WriteStatistics(const StatisticsProgress& progress, const std::string& path);

// Of the header alone; errors as below.
absl::StatusOr<StatisticsSource> ReadStatisticsSource(const std::string& path);

// The file is hostile until proven otherwise. INVALID_ARGUMENT names the file, what was expected
// and what came, also where the sums have not the extents of `config`.
absl::StatusOr<StatisticsProgress> ReadStatistics(const std::string& path,
                                                  const ModelConfig& config);

}  // namespace lorc
