#include "runtime/compress/statistics.h"

#include <algorithm>

#include "runtime/compress/linear_algebra.h"
#include "runtime/kv/rope.h"
#include "runtime/model/local_sequences.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

class MomentTap final : public KeyValueTap {
 public:
  MomentTap(const ModelConfig& config, int32_t anchor, int64_t max_positions, Moments* moments)
      : config_(config), anchor_(anchor), moments_(*moments) {
    const int64_t half = config.head_dim / 2;
    const int64_t positions = anchor > 0 ? std::min<int64_t>(anchor, max_positions) : max_positions;
    cosines_.resize(positions * half);
    sines_.resize(positions * half);
    FillRopeTables(config, positions, cosines_.data(), sines_.data());
  }

  void OnKeysValues(int32_t layer, std::span<const SequenceSpan> sequences, int64_t num_rows,
                    const float* keys, const float* values, int64_t stride) override {
    const int64_t n = config_.kv_width();
    LayerMoments& moments = moments_.layers[layer];
    rows_.resize(num_rows * n);
    Copy(keys, num_rows, stride);
    AddOuterProducts(rows_.data(), num_rows, n, moments.unrotated_keys.data());
    for (const SequenceSpan& sequence : sequences) {
      for (int64_t t = 0; t < sequence.count; ++t) Rotate(sequence.row + t, sequence.first + t);
    }
    AddOuterProducts(rows_.data(), num_rows, n, moments.anchored_keys.data());
    Copy(values, num_rows, stride);
    AddOuterProducts(rows_.data(), num_rows, n, moments.values.data());
    if (layer == 0) moments_.num_tokens += num_rows;
  }

 private:
  void Copy(const float* from, int64_t num_rows, int64_t stride) {
    const int64_t n = config_.kv_width();
    for (int64_t t = 0; t < num_rows; ++t) {
      std::copy_n(from + t * stride, n, rows_.begin() + t * n);
    }
  }

  void Rotate(int64_t row, int64_t position) {
    const int64_t half = config_.head_dim / 2;
    const int64_t turn = anchor_ > 0 ? position % anchor_ : position;
    const float* cosine = cosines_.data() + turn * half;
    const float* sine = sines_.data() + turn * half;
    double* head = rows_.data() + row * config_.kv_width();
    for (int32_t i = 0; i < config_.num_kv_heads; ++i, head += config_.head_dim) {
      for (int64_t j = 0; j < half; ++j) {
        const double a = head[j];
        const double b = head[j + half];
        head[j] = a * cosine[j] - b * sine[j];
        head[j + half] = b * cosine[j] + a * sine[j];
      }
    }
  }

  const ModelConfig& config_;
  const int32_t anchor_;
  Moments& moments_;
  std::vector<float> cosines_, sines_;
  std::vector<double> rows_;
};

}  // namespace

absl::StatusOr<Moments> CollectMoments(ModelExecutor& executor,
                                       const std::vector<std::vector<TokenId>>& windows,
                                       int32_t anchor, const Progress& progress) {
  const ModelConfig& config = executor.model().config();
  const auto square = static_cast<size_t>(config.kv_width()) * config.kv_width();
  Moments moments;
  moments.anchor = anchor;
  moments.layers.resize(config.num_layers);
  for (LayerMoments& layer : moments.layers) {
    layer.unrotated_keys.assign(square, 0.0);
    layer.anchored_keys.assign(square, 0.0);
    layer.values.assign(square, 0.0);
  }
  int64_t longest = 0;
  for (const auto& window : windows) longest = std::max<int64_t>(longest, std::ssize(window));
  MomentTap tap(config, anchor, longest, &moments);
  LocalSequences sequences(executor.kv_geometry());
  const int sequence = sequences.Add();
  executor.set_tap(&tap);
  absl::Status status;
  for (size_t i = 0; i < windows.size() && status.ok(); ++i) {
    const auto length = static_cast<int32_t>(windows[i].size());
    for (int32_t first = 0; first < length && status.ok(); first += executor.max_step_tokens()) {
      const int32_t count = std::min(executor.max_step_tokens(), length - first);
      auto work = sequences.Prepare(sequence, windows[i], length, first, count);
      status = work.status();
      StepResult unused;
      if (status.ok()) status = executor.Execute({&*work, 1}, {&unused, 1});
      sequences.Finish(sequence, first + count);
    }
    sequences.Clear(sequence);
    if (progress) progress(static_cast<double>(i + 1) / static_cast<double>(windows.size()));
  }
  executor.set_tap(nullptr);
  if (!status.ok()) return status;
  return moments;
}

}  // namespace lorc
