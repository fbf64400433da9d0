#include "runtime/compress/statistics_file.h"

#include <xxhash.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/weights/json_fields.h"
#include "runtime/weights/json_header.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/safetensors.h"
#include "runtime/weights/safetensors_writer.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

using nlohmann::json;

// Raised whenever the sums of a version are not those of the one before.
constexpr int32_t kVersion = 1;
constexpr JsonHeaderKind kHeader = {.key = "lorc_statistics",
                                    .format = "lorc-statistics",
                                    .oldest_version = kVersion,
                                    .newest_version = kVersion,
                                    .file = "a file of statistics",
                                    .content = "the statistics"};
constexpr int32_t kMost = std::numeric_limits<int32_t>::max();

// Calls visit(name, sums) for every tensor of the file; `layers` is const or not.
template <typename Layers, typename Visit>
absl::Status ForEachTensor(Layers& layers, const Visit& visit) {
  for (int64_t l = 0; l < std::ssize(layers); ++l) {
    auto& layer = layers[l];
    const std::string prefix = absl::StrCat("layers.", l, ".");
    LORC_RETURN_IF_ERROR(visit(prefix + "inputs", layer.inputs));
    LORC_RETURN_IF_ERROR(visit(prefix + "queries", layer.queries));
    const auto visit_moments = [&](const std::string& name, auto& moments) {
      LORC_RETURN_IF_ERROR(visit(prefix + name + ".unrotated_keys", moments.unrotated_keys));
      LORC_RETURN_IF_ERROR(visit(prefix + name + ".anchored_keys", moments.anchored_keys));
      return visit(prefix + name + ".values", moments.values);
    };
    LORC_RETURN_IF_ERROR(visit_moments("all", layer.all));
    LORC_RETURN_IF_ERROR(visit_moments("far", layer.far));
    if (!layer.gradients.values.empty()) {
      LORC_RETURN_IF_ERROR(visit_moments("gradients", layer.gradients));
    }
  }
  return absl::OkStatus();
}

// Numbers of 64 bits stand as text: JSON's do not keep them.
template <typename Integer>
absl::Status ReadInteger(const JsonFields& fields, const char* key, Integer* value) {
  LORC_ASSIGN_OR_RETURN(const std::string text, fields.String(key, ""));
  if (absl::SimpleAtoi(text, value) && *value >= 0) return absl::OkStatus();
  return fields.Invalid(
      absl::StrCat(key, ": expected a number, not negative, as text, got ", Printable(text)));
}

absl::Status ReadSource(const JsonFields& fields, StatisticsSource* source) {
  LORC_ASSIGN_OR_RETURN(source->fingerprint, fields.String("fingerprint", ""));
  LORC_ASSIGN_OR_RETURN(source->windows_hash, fields.String("windows_hash", ""));
  LORC_ASSIGN_OR_RETURN(source->num_windows, fields.Integer("num_windows", 0, kMost));
  LORC_ASSIGN_OR_RETURN(source->anchor, fields.Integer("anchor", 0, kMostPlanTokens));
  LORC_ASSIGN_OR_RETURN(source->exact_prefix, fields.Integer("exact_prefix", 0, kMostPlanTokens));
  LORC_ASSIGN_OR_RETURN(source->exact_window, fields.Integer("exact_window", 0, kMostPlanTokens));
  LORC_ASSIGN_OR_RETURN(source->gradient_windows, fields.Integer("gradient_windows", 0, kMost));
  return ReadInteger(fields, "seed", &source->seed);
}

absl::StatusOr<StatisticsProgress> ReadHeader(const Safetensors& file) {
  json header;
  LORC_RETURN_IF_ERROR(ReadJsonHeader(file, kHeader, &header));
  const JsonFields fields(header, file.name());
  StatisticsProgress progress;
  LORC_RETURN_IF_ERROR(ReadSource(fields, &progress.source));
  Statistics& statistics = progress.statistics;
  statistics.anchor = progress.source.anchor;
  statistics.exact_prefix = progress.source.exact_prefix;
  statistics.exact_window = progress.source.exact_window;
  LORC_ASSIGN_OR_RETURN(
      progress.windows_done,
      fields.Integer("windows_done", 0, static_cast<int32_t>(progress.source.num_windows)));
  LORC_RETURN_IF_ERROR(ReadInteger(fields, "num_tokens", &statistics.num_tokens));
  LORC_RETURN_IF_ERROR(ReadInteger(fields, "num_far_tokens", &statistics.num_far_tokens));
  LORC_RETURN_IF_ERROR(ReadInteger(fields, "num_gradient_tokens", &statistics.num_gradient_tokens));
  return progress;
}

// `sums` has the size that the model asks for.
absl::Status ReadSums(const Safetensors& file, const std::string& name, std::vector<double>& sums) {
  const SafetensorsTensor* tensor = file.Find(name);
  if (tensor == nullptr || tensor->type != SafetensorsType::kF64 ||
      tensor->shape != std::vector<int64_t>{std::ssize(sums)}) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.name(), ": tensor ", name, ": expected ", sums.size(),
        " F64 numbers for this model, but it is ", tensor == nullptr ? "missing" : "another"));
  }
  std::memcpy(sums.data(), tensor->data.data(), tensor->data.size());
  for (const double sum : sums) {
    if (!std::isfinite(sum)) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.name(), ": tensor ", name, ": expected finite numbers, got ", sum));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string HashWindows(const std::vector<std::vector<TokenId>>& windows) {
  struct FreeState {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  const std::unique_ptr<XXH3_state_t, FreeState> state(XXH3_createState());
  XXH3_128bits_reset(state.get());
  for (const std::vector<TokenId>& window : windows) {
    const int64_t length = std::ssize(window);
    XXH3_128bits_update(state.get(), &length, sizeof(length));
    XXH3_128bits_update(state.get(), window.data(), window.size() * sizeof(TokenId));
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
}

absl::Status WriteStatistics(const StatisticsProgress& progress, const std::string& path) {
  const StatisticsSource& source = progress.source;
  const Statistics& statistics = progress.statistics;
  const json header = {{"format", kHeader.format},
                       {"version", kVersion},
                       {"fingerprint", source.fingerprint},
                       {"windows_hash", source.windows_hash},
                       {"num_windows", source.num_windows},
                       {"anchor", source.anchor},
                       {"exact_prefix", source.exact_prefix},
                       {"exact_window", source.exact_window},
                       {"gradient_windows", source.gradient_windows},
                       {"seed", absl::StrCat(source.seed)},
                       {"windows_done", progress.windows_done},
                       {"num_tokens", absl::StrCat(statistics.num_tokens)},
                       {"num_far_tokens", absl::StrCat(statistics.num_far_tokens)},
                       {"num_gradient_tokens", absl::StrCat(statistics.num_gradient_tokens)}};
  std::vector<SafetensorsTensor> tensors;
  LORC_RETURN_IF_ERROR(ForEachTensor(
      statistics.layers, [&tensors](const std::string& name, const std::vector<double>& sums) {
        tensors.push_back(
            {name, SafetensorsType::kF64, {std::ssize(sums)}, std::as_bytes(std::span(sums))});
        return absl::OkStatus();
      }));
  return WriteSafetensors(path, tensors, {{kHeader.key, header.dump()}});
}

absl::StatusOr<StatisticsSource> ReadStatisticsSource(const std::string& path) {
  LORC_ASSIGN_OR_RETURN(const Safetensors file, Safetensors::Open(path));
  LORC_ASSIGN_OR_RETURN(StatisticsProgress progress, ReadHeader(file));
  return std::move(progress.source);
}

absl::StatusOr<StatisticsProgress> ReadStatistics(const std::string& path,
                                                  const ModelConfig& config) {
  LORC_ASSIGN_OR_RETURN(const Safetensors file, Safetensors::Open(path));
  LORC_ASSIGN_OR_RETURN(StatisticsProgress progress, ReadHeader(file));
  Statistics& statistics = progress.statistics;
  statistics.layers = EmptyLayerStatistics(config, progress.source.gradient_windows > 0);
  int64_t num_tensors = 0;
  LORC_RETURN_IF_ERROR(
      ForEachTensor(statistics.layers, [&](const std::string& name, std::vector<double>& sums) {
        ++num_tensors;
        return ReadSums(file, name, sums);
      }));
  if (num_tensors != std::ssize(file.tensors())) {
    return absl::InvalidArgumentError(absl::StrCat(file.name(), ": ", file.tensors().size(),
                                                   " tensors, of which the header explains ",
                                                   num_tensors));
  }
  return progress;
}

}  // namespace lorc
