// The KV plan: what is cached instead of keys and values, layer by layer. Plain data, made by
// runtime/compress, kept in one file (plan_file.h), used by whoever runs the model. Our format; the
// layouts are design words of ARCHITECTURE.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kernels/ops/kv_cache.h"
#include "runtime/model/model_config.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

enum class KvLayoutKind {
  kFull,     // all g*d numbers, no basis
  kDirect,   // the latent enters attention as it is
  kRebuilt,  // keys only: taken before RoPE, rebuilt and rotated when they are read
};

const char* Name(KvLayoutKind kind);  // "full", "direct", "rebuilt"

inline constexpr int32_t kMostPlanTokens = 1 << 20;  // of an exact prefix, window or anchor

// INVALID_ARGUMENT where a number of tokens, called `what`, is not of whole blocks of 16 or beyond
// kMostPlanTokens.
absl::Status CheckTokens(const char* what, int32_t tokens);

// What the method knew of a tensor when it chose; for reports. Unknown numbers are 0.
struct TensorFacts {
  double condition_number = 0;  // of the weight, largest over smallest singular value
  double effective_rank = 0;    // normalised: exp(entropy of the singular values) / n, in (0, 1]
  double kept_energy = 0;       // share of the squared singular values that the basis keeps
  std::vector<double>
      singular_values;  // nine of them, evenly spaced from the largest to the smallest
};

struct TensorPlan {
  KvLayoutKind layout = KvLayoutKind::kFull;
  int32_t groups = 0;                  // each of g / groups KV heads
  int32_t rank = 0;                    // numbers per token and group
  std::vector<CacheSegment> segments;  // of every group, in falling importance; widths sum to rank
  // Row-major floats; empty for kFull. Group i's latent of its heads' x [group_width] is encoder[i]
  // x.
  std::vector<float> encoder;  // [groups, rank, group_width]
  std::vector<float>
      decoder;  // [groups, group_width, rank]; empty: the encoder transposed (orthonormal rows)
  TensorFacts facts;

  int64_t BytesPerToken() const;
  // The decoder, also where it is only implied.
  std::vector<float> FullDecoder(int32_t group_width) const;
};

// `rank` numbers in segments of `width`; the last one may be narrower.
std::vector<CacheSegment> EqualSegments(SegmentType type, int32_t rank, int32_t width);

struct LayerPlan {
  TensorPlan key;
  TensorPlan value;
  // [g]: the model's KV head at each place; groups are of neighbouring places. Empty: as they are.
  std::vector<int32_t> head_order = {};
};

// What `lorc compress` measured of its own plan.
struct PlanMeasurement {
  int32_t num_tokens = 0;  // 0: not measured
  double perplexity_full = 0;
  double perplexity = 0;
  double recall_full = 0;  // nats; 0: not measured
  double recall = 0;
  double predicted_loss = 0;  // nats per token, by the method; 0: it predicts none
};

struct KvPlan {
  std::string name;
  std::string method;                          // "full" or a method of runtime/compress
  std::map<std::string, std::string> options;  // as the method was called, for reports
  std::string base_fingerprint;                // of the checkpoint it was made for; empty: of any
  std::string base_name;
  int32_t exact_prefix = 0;  // tokens, multiples of 16
  int32_t exact_window = 0;
  int32_t anchor = 0;  // tokens; keys of `direct` layers; 0: absolute positions
  std::vector<LayerPlan> layers;
  PlanMeasurement measured;

  // All keys and values in segments of one type, per KV head: with f32 or bf16 the uncompressed
  // cache as a plan. Nothing is exact beside it; its keys are rotated by absolute positions.
  static KvPlan Full(const ModelConfig& config, SegmentType type,
                     int32_t segment_width = kMaxSegmentWidth);

  // INVALID_ARGUMENT where the plan does not fit the model or itself: says what was expected and
  // what came.
  absl::Status Validate(const ModelConfig& config) const;

  // FAILED_PRECONDITION with both fingerprints where the plan was made for another model.
  absl::Status CheckBase(const std::string& fingerprint, const std::string& model_name) const;

  // Of a token beyond the exact ones, over all layers, scales included.
  int64_t BytesPerToken() const;
};

// Whether the plan is for the checkpoint's model: FAILED_PRECONDITION with both fingerprints,
// INVALID_ARGUMENT where its shapes do not fit.
absl::Status CheckPlan(const KvPlan& plan, const Checkpoint& checkpoint);

}  // namespace lorc
