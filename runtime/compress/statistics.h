// What the methods know of a model: second moments of what each layer's cache sees over a text, and
// of the loss' gradients with respect to it. Gathered window by window in float32 with sums in
// double precision; memory does not grow with the text.
//
// Uncentred sums over tokens: KV-CoRE (Swift-SVD Algorithm 1) for keys and values, KQ-SVD's Gram
// form for queries. Gradients are ours: with g the gradient of the window's summed loss, its labels
// sampled from the model's own distribution, G = sum over tokens of g g^T is the Fisher information
// of that key or value, so that an error z - z^ costs about 1/2 (z - z^)^T G (z - z^) nats.
// Far gradients flow only through queries that would read the latent: query at i and key at j with
//   block(i) - block(j) >= exact_window / 16   and   block(j) >= exact_prefix / 16.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/step.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

// Sums over tokens of y y^T, [n, n], n = g*d, row-major, upper triangles (column >= row).
struct KvMoments {
  std::vector<double> unrotated_keys;  // before RoPE
  std::vector<double> anchored_keys;  // rotated by their position inside a chunk of `anchor` tokens
  std::vector<double> values;
};

struct LayerStatistics {
  std::vector<double> inputs;  // [D]: sums of squares of what W_k and W_v multiply
  // [h, d, d], upper triangles: sums of q q^T, q rotated by its distance to the start of each chunk
  // up to its own, one term for each.
  std::vector<double> queries;
  KvMoments all;        // of all tokens
  KvMoments far;        // of tokens beyond the exact prefix
  KvMoments gradients;  // far gradients of those tokens; empty where none were asked for
};

struct Statistics {
  int32_t anchor = 0;  // tokens; 0: absolute positions
  int32_t exact_prefix = 0;
  int32_t exact_window = 0;
  int64_t num_tokens = 0;
  int64_t num_far_tokens = 0;
  int64_t num_gradient_tokens = 0;  // those beyond the prefix in windows with gradients
  std::vector<LayerStatistics> layers;
};

// All sums zero.
std::vector<LayerStatistics> EmptyLayerStatistics(const ModelConfig& config, bool gradients);

struct StatisticsOptions {
  int32_t anchor = 256;       // tokens, a multiple of 16; 0: absolute positions
  int32_t exact_prefix = 16;  // multiples of 16
  int32_t exact_window = 64;
  int32_t gradient_windows = 0;  // so many, spread evenly, the first window first; 0: no gradients
  uint64_t seed = 0;             // of the sampled labels

  int32_t num_threads = 0;  // 0: one per available core; results do not depend on it
  // Windows run together, so that a layer's weights are read once for all: as many, at least one,
  // as keep their residuals (T * D * 4 bytes; for gradients that twice for each layer) below this.
  int64_t batch_bytes = int64_t{1} << 30;
  // A file that the statistics are saved to after every batch and continued from where it is there
  // (runtime/compress/statistics_file.h); empty: none. Results are the same bit for bit. One that
  // is of another model, other windows or other options than anchor, exact_prefix, exact_window,
  // gradient_windows and seed is FAILED_PRECONDITION.
  std::string resume_path = {};

  friend bool operator==(const StatisticsOptions&, const StatisticsOptions&) = default;
};

// Runs the uncompressed model over the windows (each 1 to the model's context in tokens, lengths
// may differ). INVALID_ARGUMENT names the layer where weights, activations or gradients are not
// finite, the window that cannot be run or the option that is out of range. Memory: one layer's
// weights in float32, or those of the head; the batch; the activations of one layer and window.
// OpenBLAS runs single-threaded in this process meanwhile. `progress` gets shares 0..1, from the
// calling thread; may be nullptr.
absl::StatusOr<Statistics> CollectStatistics(const Checkpoint& checkpoint,
                                             const std::vector<std::vector<TokenId>>& windows,
                                             const StatisticsOptions& options,
                                             const std::function<void(double)>& progress);

// The same for several options that differ in their anchors and files alone, at least one, in one
// pass: each of them bit for bit what CollectStatistics gives, and memory for the sums of all.
absl::StatusOr<std::vector<Statistics>> CollectStatisticsTogether(
    const Checkpoint& checkpoint, const std::vector<std::vector<TokenId>>& windows,
    const std::vector<StatisticsOptions>& options, const std::function<void(double)>& progress);

// Whether resume_path can be continued, or is not there: the errors of CollectStatistics, before it
// is called.
absl::Status CheckResume(const Checkpoint& checkpoint,
                         const std::vector<std::vector<TokenId>>& windows,
                         const StatisticsOptions& options);

}  // namespace lorc
