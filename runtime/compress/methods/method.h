// The methods by which bases are found: each is a second moment of the vectors and a metric of
// their errors (runtime/compress/group_basis.h), in a file of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/compress/group_basis.h"
#include "runtime/compress/statistics.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/model/model_config.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

// Where the second moment C of keys and values comes from.
enum class MomentSource {
  kText,     // of the calibration text's own keys and values
  kWeights,  // W W^T: inputs that are white
  kGain,     // W diag(gain^2) W^T: white before the norm's gain
  kInputs,   // W diag(E x^2) W^T: the text's inputs, channel by channel
};
const char* Name(MomentSource source);  // "text", "weights", "gain", "inputs"
bool NeedsText(MomentSource source);

// One layer's K or V as a method sees it.
struct TensorSource {
  const ModelConfig* config = nullptr;
  bool is_key = false;
  KvLayoutKind layout = KvLayoutKind::kDirect;  // direct or rebuilt
  int32_t anchor = 0;                           // tokens; of direct keys
  // Weights of the layer in float32, read by those who need them: kKey and kValue [n, D], n = g*d;
  // kAttentionNorm, the gain before them, [D]; kAttentionOutput [D, h*d].
  std::function<std::vector<float>(TensorRole)> read;
  const LayerStatistics* statistics = nullptr;  // nullptr where there is no text
  std::span<const int32_t> head_order;  // KV heads as the groups want them; empty: as they are

  bool rotated() const { return is_key && layout == KvLayoutKind::kDirect; }
  // The tensor's part of moments: values, or keys before or after RoPE.
  const std::vector<double>& Of(const KvMoments& moments) const;
};

struct Method {
  std::string_view name;
  std::string_view summary;                    // one line, for --help
  MomentSource moments = MomentSource::kText;  // unless another is asked for
  bool needs_gradients = false;
  bool beyond_prefix = false;     // moments of the tokens beyond the exact prefix only
  bool selects_channels = false;  // instead of combining them
  bool predicts_loss = false;     // half a gain, per token, is nats
  // [n, n], upper triangle; empty: the identity. nullptr: always the identity. Needs text.
  std::vector<double> (*metric)(const TensorSource& source) = nullptr;

  // Whichever moments are asked for.
  bool needs_text() const { return metric != nullptr || NeedsText(moments); }
};

// lorc, kv-core, kq-svd, think, loss.
std::span<const Method> Methods();
// nullptr where there is none of that name.
const Method* FindMethod(std::string_view name);

// [n, n], upper triangle. Needs statistics where NeedsText(from).
std::vector<double> SecondMoment(const TensorSource& source, MomentSource from, bool beyond_prefix);

// Per group of n / groups neighbouring numbers.
absl::StatusOr<std::vector<GroupBasis>> MakeBases(const Method& method, MomentSource moments,
                                                  const TensorSource& source, int32_t groups);

// ---- Metrics

// KQ-SVD (arXiv 2512.05916): keys, the sum of q q^T over the queries that read the KV head; values,
// the sum of W_o W_o^T over the group's slices of the output projection. Block diagonal over heads.
std::vector<double> QueryOutputMetric(const TensorSource& source);

// The Fisher information of the loss with respect to what far queries read (ours).
std::vector<double> LossMetric(const TensorSource& source);

}  // namespace lorc
