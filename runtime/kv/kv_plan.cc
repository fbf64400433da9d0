#include "runtime/kv/kv_plan.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr int32_t kTokenMultiple = 16;  // the smallest block

std::string Where(size_t layer, const char* tensor) {
  return absl::StrCat("layer ", layer, " ", tensor, ": ");
}

absl::Status CheckSegments(const TensorPlan& tensor, const std::string& where) {
  int64_t width = 0;
  for (const CacheSegment& segment : tensor.segments) {
    if (segment.width <= 0 || segment.width % 8 != 0 || segment.width > kMaxSegmentWidth) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, "expected segment widths that are multiples of 8 up to ",
                       kMaxSegmentWidth, ", got ", segment.width));
    }
    width += segment.width;
  }
  if (width != tensor.rank || width == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, "segments have ", width, " numbers, the rank says ", tensor.rank));
  }
  return absl::OkStatus();
}

absl::Status CheckTensor(const TensorPlan& tensor, const ModelConfig& config, bool is_key,
                         const std::string& where) {
  if (tensor.groups <= 0 || config.num_kv_heads % tensor.groups != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, "expected a number of groups that divides ", config.num_kv_heads,
                     " KV heads, got ", tensor.groups));
  }
  const int64_t group_width = config.kv_width() / tensor.groups;
  if (tensor.layout == KvLayoutKind::kRebuilt && !is_key) {
    return absl::InvalidArgumentError(absl::StrCat(where, "only keys can be rebuilt"));
  }
  if (tensor.rank > group_width) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, "rank ", tensor.rank, " exceeds the group's width ", group_width));
  }
  LORC_RETURN_IF_ERROR(CheckSegments(tensor, where));
  if (tensor.layout == KvLayoutKind::kFull) {
    if (tensor.rank != group_width || !tensor.encoder.empty() || !tensor.decoder.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, "a full layout has rank ", group_width, " and no bases"));
    }
    return absl::OkStatus();
  }
  const auto size = static_cast<size_t>(tensor.groups * tensor.rank * group_width);
  if (tensor.encoder.size() != size || (!tensor.decoder.empty() && tensor.decoder.size() != size)) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, "expected bases of ", size, " numbers, got an encoder of ",
                     tensor.encoder.size(), " and a decoder of ", tensor.decoder.size()));
  }
  for (const auto* basis : {&tensor.encoder, &tensor.decoder}) {
    for (const float value : *basis) {
      if (!std::isfinite(value)) {
        return absl::InvalidArgumentError(
            absl::StrCat(where, "a basis has a number that is not finite"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckHeadOrder(const std::vector<int32_t>& order, int32_t num_kv_heads, size_t layer) {
  if (order.empty()) return absl::OkStatus();
  std::vector<bool> there(num_kv_heads, false);
  for (const int32_t head : order) {
    if (head >= 0 && head < num_kv_heads) there[head] = true;
  }
  if (std::ssize(order) != num_kv_heads ||
      std::find(there.begin(), there.end(), false) != there.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("layer ", layer, ": expected a head_order with each of the ", num_kv_heads,
                     " KV heads once, got ", order.size(), " entries"));
  }
  return absl::OkStatus();
}

}  // namespace

const char* Name(KvLayoutKind kind) {
  switch (kind) {
    case KvLayoutKind::kFull:
      return "full";
    case KvLayoutKind::kDirect:
      return "direct";
    case KvLayoutKind::kRebuilt:
      return "rebuilt";
  }
  return "";
}

absl::Status CheckTokens(const char* what, int32_t tokens) {
  if (tokens < 0 || tokens > kMostPlanTokens || tokens % kTokenMultiple != 0) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": expected a multiple of ",
                                                   kTokenMultiple, " tokens up to ",
                                                   kMostPlanTokens, ", or 0, got ", tokens));
  }
  return absl::OkStatus();
}

int64_t TensorPlan::BytesPerToken() const {
  int64_t bytes = 0;
  for (const CacheSegment& segment : segments) bytes += segment.BytesPerToken();
  return bytes * groups;
}

std::vector<float> TensorPlan::FullDecoder(int32_t group_width) const {
  if (!decoder.empty()) return decoder;
  std::vector<float> out(encoder.size());
  for (int64_t group = 0; group < groups; ++group) {
    const float* from = encoder.data() + group * rank * group_width;
    float* to = out.data() + group * rank * group_width;
    for (int64_t r = 0; r < rank; ++r) {
      for (int64_t i = 0; i < group_width; ++i) to[i * rank + r] = from[r * group_width + i];
    }
  }
  return out;
}

std::vector<CacheSegment> EqualSegments(SegmentType type, int32_t rank, int32_t width) {
  std::vector<CacheSegment> segments;
  for (int32_t begin = 0; begin < rank; begin += width) {
    segments.push_back({type, std::min(width, rank - begin)});
  }
  return segments;
}

KvPlan KvPlan::Full(const ModelConfig& config, SegmentType type, int32_t segment_width) {
  TensorPlan tensor;
  tensor.groups = config.num_kv_heads;
  tensor.rank = config.head_dim;
  tensor.segments = EqualSegments(type, config.head_dim, segment_width);
  KvPlan plan;
  plan.name = "full";
  plan.method = "full";
  plan.layers.assign(config.num_layers, LayerPlan{tensor, tensor});
  return plan;
}

absl::Status KvPlan::Validate(const ModelConfig& config) const {
  if (std::ssize(layers) != config.num_layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("the plan has ", layers.size(), " layers, the model ", config.num_layers));
  }
  LORC_RETURN_IF_ERROR(CheckTokens("exact_prefix", exact_prefix));
  LORC_RETURN_IF_ERROR(CheckTokens("exact_window", exact_window));
  LORC_RETURN_IF_ERROR(CheckTokens("anchor", anchor));
  for (size_t i = 0; i < layers.size(); ++i) {
    LORC_RETURN_IF_ERROR(CheckHeadOrder(layers[i].head_order, config.num_kv_heads, i));
    LORC_RETURN_IF_ERROR(CheckTensor(layers[i].key, config, true, Where(i, "key")));
    LORC_RETURN_IF_ERROR(CheckTensor(layers[i].value, config, false, Where(i, "value")));
  }
  return absl::OkStatus();
}

absl::Status KvPlan::CheckBase(const std::string& fingerprint,
                               const std::string& model_name) const {
  if (base_fingerprint.empty() || base_fingerprint == fingerprint) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the plan was made for another model: it names ", base_name, " with fingerprint ",
      base_fingerprint, ", this is ", model_name, " with fingerprint ", fingerprint,
      "; make a plan for this model with `lorc compress`"));
}

int64_t KvPlan::BytesPerToken() const {
  int64_t bytes = 0;
  for (const LayerPlan& layer : layers) {
    bytes += layer.key.BytesPerToken() + layer.value.BytesPerToken();
  }
  return bytes;
}

absl::Status CheckPlan(const KvPlan& plan, const Checkpoint& checkpoint) {
  // First the model: of another one, the shapes would be all that the user hears about.
  if (!plan.base_fingerprint.empty()) {
    LORC_RETURN_IF_ERROR(plan.CheckBase(checkpoint.Fingerprint(), checkpoint.config().name));
  }
  return plan.Validate(checkpoint.config());
}

}  // namespace lorc
