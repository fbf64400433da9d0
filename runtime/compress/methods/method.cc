#include "runtime/compress/methods/method.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr std::array kMethods = {
    Method{.name = "lorc",
           .summary = "singular vectors of the weights (LoRC); needs no text",
           .moments = MomentSource::kWeights},
    Method{.name = "kv-core", .summary = "covariance of keys and values (KV-CoRE)"},
    Method{.name = "kq-svd",
           .summary = "best for scores and outputs (KQ-SVD)",
           .metric = QueryOutputMetric},
    Method{.name = "think",
           .summary = "single channels, chosen by queries (ThinK)",
           .selects_channels = true,
           .metric = QueryOutputMetric},
    Method{.name = "loss",
           .summary = "covariance weighted by the loss' gradients",
           .needs_gradients = true,
           .beyond_prefix = true,
           .predicts_loss = true,
           .metric = LossMetric},
};

// The matrix with the heads' blocks in another order; upper triangle.
std::vector<double> Reorder(const std::vector<double>& matrix, int64_t n, int64_t head_dim,
                            std::span<const int32_t> order) {
  if (order.empty()) return matrix;
  const auto source = [&](int64_t i) { return order[i / head_dim] * head_dim + i % head_dim; };
  std::vector<double> reordered(n * n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) {
      const int64_t row = std::min(source(i), source(j));
      const int64_t column = std::max(source(i), source(j));
      reordered[i * n + j] = matrix[row * n + column];
    }
  }
  return reordered;
}

std::vector<double> Block(const std::vector<double>& matrix, int64_t n, int64_t first,
                          int64_t width) {
  std::vector<double> block(width * width);
  for (int64_t i = 0; i < width; ++i) {
    std::copy_n(matrix.begin() + (first + i) * n + first, width, block.begin() + i * width);
  }
  return block;
}

}  // namespace

const char* Name(MomentSource source) {
  switch (source) {
    case MomentSource::kText:
      return "text";
    case MomentSource::kWeights:
      return "weights";
    case MomentSource::kGain:
      return "gain";
    case MomentSource::kInputs:
      return "inputs";
  }
  return "";
}

bool NeedsText(MomentSource source) {
  return source == MomentSource::kText || source == MomentSource::kInputs;
}

std::span<const Method> Methods() { return kMethods; }

const Method* FindMethod(std::string_view name) {
  for (const Method& method : kMethods) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

const std::vector<double>& TensorSource::Of(const KvMoments& moments) const {
  if (!is_key) return moments.values;
  return rotated() ? moments.anchored_keys : moments.unrotated_keys;
}

absl::StatusOr<std::vector<GroupBasis>> MakeBases(const Method& method, MomentSource moments,
                                                  const TensorSource& source, int32_t groups) {
  const int64_t n = source.config->kv_width();
  const int64_t width = n / groups;
  const auto reorder = [&](const std::vector<double>& matrix) {
    return Reorder(matrix, n, source.config->head_dim, source.head_order);
  };
  const std::vector<double> moment = reorder(SecondMoment(source, moments, method.beyond_prefix));
  std::vector<double> metric;
  if (method.metric != nullptr) metric = reorder(method.metric(source));
  std::vector<GroupBasis> bases;
  for (int64_t first = 0; first < n; first += width) {
    std::vector<double> of_group = Block(moment, n, first, width);
    std::vector<double> of_metric;
    if (!metric.empty()) of_metric = Block(metric, n, first, width);
    LORC_ASSIGN_OR_RETURN(GroupBasis basis,
                          method.selects_channels
                              ? ChannelBasis(of_group, of_metric, width)
                              : WeightedBasis(std::move(of_group), std::move(of_metric), width));
    bases.push_back(std::move(basis));
  }
  return bases;
}

}  // namespace lorc
