#include "runtime/compress/build_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/check.h"
#include "runtime/compress/bit_allocation.h"
#include "runtime/compress/effective_rank.h"
#include "runtime/compress/head_grouping.h"
#include "runtime/compress/linear_algebra.h"
#include "runtime/compress/option_error.h"
#include "runtime/compress/orthogonal_mix.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

std::string Where(int32_t layer, bool is_key) {
  return absl::StrCat("layer ", layer, is_key ? " W_k: " : " W_v: ");
}

std::vector<float> ReadWeight(const Checkpoint& checkpoint, TensorRole role, int32_t layer) {
  const TensorShape shape = checkpoint.Shape(role, layer);
  std::vector<float> values(shape.rows * shape.columns);
  checkpoint.ReadRows(role, layer, 0, shape.rows, values.data());
  return values;
}

absl::StatusOr<WeightSpectrum> SpectrumOf(const Checkpoint& checkpoint, TensorRole role,
                                          int32_t layer) {
  const TensorShape shape = checkpoint.Shape(role, layer);
  const std::string where = Where(layer, role == TensorRole::kKey);
  if (shape.rows > shape.columns) {
    return absl::UnimplementedError(
        absl::StrCat(where, "more rows (", shape.rows, ") than columns (", shape.columns, ")"));
  }
  const std::vector<float> values = ReadWeight(checkpoint, role, layer);
  auto svd = SingularValues({values.begin(), values.end()}, shape.rows, shape.columns);
  if (!svd.ok()) {
    return absl::Status(svd.status().code(), absl::StrCat(where, svd.status().message(),
                                                          "; is the checkpoint damaged?"));
  }
  return WeightSpectrum{std::move(svd->values)};
}

std::vector<double> NineOf(const std::vector<double>& energies) {
  std::vector<double> values;
  for (size_t i = 0; i <= 8; ++i) {
    values.push_back(std::sqrt(std::max(energies[i * (energies.size() - 1) / 8], 0.0)));
  }
  return values;
}

TensorPlan FullTensor(const ModelConfig& config) {
  return KvPlan::Full(config, SegmentType::kBf16).layers[0].key;
}

// What the i-th numbers of all groups give together.
std::vector<double> SumGains(const std::vector<GroupBasis>& groups) {
  std::vector<double> gains(groups[0].gains.size(), 0.0);
  for (const GroupBasis& group : groups) {
    for (size_t i = 0; i < gains.size(); ++i) gains[i] += group.gains[i];
  }
  return gains;
}

double Total(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

// One spectrum [n] for all groups: every group keeps the same rank, so its i-th columns come
// together.
std::vector<double> MeanEnergies(const std::vector<GroupBasis>& groups) {
  std::vector<double> energies;
  for (const double gain : SumGains(groups)) {
    energies.insert(energies.end(), groups.size(), gain / static_cast<double>(groups.size()));
  }
  return energies;
}

int32_t SegmentWidth(const CompressionOptions& options) {
  return HasScale(options.latent_type) ? options.segment_width : kMaxSegmentWidth;
}

// out[i] = sum_j mix[i, j] rows[j], rows of `width` numbers.
void Mix(const std::vector<double>& mix, const double* rows, int64_t count, int64_t width,
         float* out) {
  std::vector<double> sum(width);
  for (int64_t i = 0; i < count; ++i) {
    std::fill(sum.begin(), sum.end(), 0.0);
    for (int64_t j = 0; j < count; ++j) {
      for (int64_t k = 0; k < width; ++k) sum[k] += mix[i * count + j] * rows[j * width + k];
    }
    std::copy(sum.begin(), sum.end(), out + i * width);
  }
}

// The kept numbers of a group, mixed inside each segment that has a scale: as rows.
std::vector<float> MixedRows(const std::vector<double>& rows, int64_t width,
                             const std::vector<CacheSegment>& segments, int32_t rank) {
  std::vector<float> out(rank * width);
  int64_t first = 0;
  for (const CacheSegment& segment : segments) {
    const double* from = rows.data() + first * width;
    float* to = out.data() + first * width;
    if (HasScale(segment.type)) {
      Mix(OrthogonalMix(segment.width, static_cast<uint64_t>(first)), from, segment.width, width,
          to);
    } else {
      std::copy_n(from, segment.width * width, to);
    }
    first += segment.width;
  }
  return out;
}

TensorPlan MakeTensor(const std::vector<GroupBasis>& groups, std::vector<CacheSegment> segments,
                      KvLayoutKind layout, const WeightSpectrum& weight) {
  TensorPlan tensor;
  tensor.layout = layout;
  tensor.groups = static_cast<int32_t>(groups.size());
  for (const CacheSegment& segment : segments) tensor.rank += segment.width;
  tensor.segments = std::move(segments);
  double kept = 0;
  std::vector<double> energies;
  for (const GroupBasis& group : groups) {
    const int64_t width = group.width();
    const auto encoder = MixedRows(group.encoder, width, tensor.segments, tensor.rank);
    tensor.encoder.insert(tensor.encoder.end(), encoder.begin(), encoder.end());
    const auto decoder = MixedRows(group.decoder, width, tensor.segments, tensor.rank);
    for (int64_t i = 0; i < width; ++i) {
      for (int64_t r = 0; r < tensor.rank; ++r) tensor.decoder.push_back(decoder[r * width + i]);
    }
    kept += std::accumulate(group.gains.begin(), group.gains.begin() + tensor.rank, 0.0);
    energies.insert(energies.end(), group.gains.begin(), group.gains.end());
  }
  std::sort(energies.begin(), energies.end(), std::greater<>());
  const double condition = weight.condition_number();
  const double total = Total(energies);
  tensor.facts.condition_number = std::isfinite(condition) ? condition : 0.0;
  tensor.facts.effective_rank = EffectiveRank(energies) / static_cast<double>(energies.size());
  tensor.facts.kept_energy = total > 0 ? std::clamp(kept / total, 0.0, 1.0) : 0.0;
  tensor.facts.singular_values = NineOf(energies);
  return tensor;
}

// What the segments lose of the gains.
double LossOf(const std::vector<double>& gains, const std::vector<CacheSegment>& segments) {
  double loss = 0;
  auto gain = gains.begin();
  for (const CacheSegment& segment : segments) {
    loss += QuantiserDistortion(segment.type) * std::accumulate(gain, gain + segment.width, 0.0);
    gain += segment.width;
  }
  return std::accumulate(gain, gains.end(), loss);
}

// Gains of all tensors, K before V, in one unit: nats where the method knows them, else shares.
std::vector<TensorGains> ComparableGains(const ModelBases& bases) {
  std::vector<TensorGains> tensors;
  for (const LayerBases& layer : bases.layers) {
    for (const auto* groups : {&layer.key, &layer.value}) {
      TensorGains tensor;
      tensor.groups = static_cast<int32_t>(groups->size());
      tensor.gains = SumGains(*groups);
      const double total = Total(tensor.gains);
      const double unit = bases.loss_per_gain > 0 ? bases.loss_per_gain
                          : total > 0             ? 1.0 / total
                                                  : 0.0;
      for (double& gain : tensor.gains) gain *= unit;
      tensors.push_back(std::move(tensor));
    }
  }
  return tensors;
}

ProgressiveOptions ProgressiveOptionsOf(const ModelConfig& config,
                                        const CompressionOptions& options) {
  ProgressiveOptions progressive;
  progressive.full_rank = config.kv_width();
  if (options.min_rank.has_value()) {
    progressive.min_rank = *options.min_rank;
  } else {
    progressive.target_kept = options.target_kept;
  }
  progressive.threshold = options.threshold;
  return progressive;
}

std::vector<LayerRanks> ChooseRanks(const ModelConfig& config,
                                    const std::vector<LayerSpectra>& spectra,
                                    const ModelBases& bases, const CompressionOptions& options) {
  switch (options.rank_rule) {
    case RankRule::kUniform:
      return UniformRanks(config.num_layers, config.kv_width(), options.target_kept);
    case RankRule::kProgressive:
      return ProgressiveRanks(LogConditions(spectra), ProgressiveOptionsOf(config, options));
    case RankRule::kEnergy: {
      std::vector<std::vector<double>> keys, values;
      for (const LayerBases& layer : bases.layers) {
        keys.push_back(MeanEnergies(layer.key));
        values.push_back(MeanEnergies(layer.value));
      }
      return EnergyRanks(keys, values, options.target_kept, kRankMultiple * options.groups);
    }
    case RankRule::kTail:
      break;
  }
  std::vector<LayerRanks> ranks;
  const auto tail = [&options](const std::vector<GroupBasis>& groups) {
    std::vector<std::vector<double>> gains;
    for (const GroupBasis& group : groups) gains.push_back(group.gains);
    return options.groups * TailRank(gains, options.tail_energy);
  };
  for (const LayerBases& layer : bases.layers)
    ranks.push_back({tail(layer.key), tail(layer.value)});
  return ranks;
}

// The ranks that the schedule cannot give up: of the first layers, which it leaves nearly whole.
absl::Status CheckTargetKept(const ModelConfig& config, const std::vector<LayerSpectra>& spectra,
                             const CompressionOptions& options) {
  const ProgressiveOptions progressive = ProgressiveOptionsOf(config, options);
  double kept = 0;
  for (const LayerRanks& ranks : ProgressiveRanks(LogConditions(spectra), progressive)) {
    kept += ranks.key;
  }
  kept /= config.num_layers;
  if (kept <= options.target_kept * progressive.full_rank + 1) return absl::OkStatus();
  return Expected("target-kept",
                  absl::StrFormat("at least %.3f, which progressive ranks keep of this model "
                                  "(--ranks uniform keeps less)",
                                  kept / progressive.full_rank),
                  options.target_kept);
}

absl::Status CheckRankRule(const ModelConfig& config, const CompressionOptions& options) {
  if (!(options.target_kept > 0 && options.target_kept <= 1)) {
    return Expected("target-kept", "a share in (0, 1]", options.target_kept);
  }
  if (!(options.tail_energy > 0 && options.tail_energy < 1)) {
    return Expected("tail-energy", "a share between 0 and 1", options.tail_energy);
  }
  if (options.min_rank.has_value() &&
      (*options.min_rank < 1 || *options.min_rank > config.kv_width())) {
    return Expected("min-rank", absl::StrCat("1 to ", config.kv_width()), *options.min_rank);
  }
  const bool progressive =
      options.rank_rule == RankRule::kProgressive && !options.bytes_per_token.has_value();
  if (!progressive && (options.min_rank.has_value() || options.threshold.has_value())) {
    return absl::InvalidArgumentError(
        "--min-rank and --threshold belong to the progressive ranks (--ranks progressive)");
  }
  if (options.threshold.has_value() && !std::isfinite(*options.threshold)) {
    return Expected("threshold", "a finite number", *options.threshold);
  }
  return absl::OkStatus();
}

}  // namespace

bool CompressionOptions::needs_text() const {
  if (keeps_all()) return false;
  return method_info().needs_text() || (moments.has_value() && NeedsText(*moments));
}

absl::Status CompressionOptions::Validate(const ModelConfig& config) const {
  if (!keeps_all() && FindMethod(method) == nullptr) {
    std::vector<std::string> names = {"full"};
    for (const Method& known : Methods()) names.emplace_back(known.name);
    return Expected("method", absl::StrJoin(names, ", "), method);
  }
  if (groups <= 0 || config.num_kv_heads % groups != 0) {
    return Expected("groups", absl::StrCat("a divisor of ", config.num_kv_heads, " KV heads"),
                    groups);
  }
  if (segment_width < 8 || segment_width % 8 != 0 || segment_width > kMaxSegmentWidth) {
    return Expected("segment-width", absl::StrCat("a multiple of 8 up to ", kMaxSegmentWidth),
                    segment_width);
  }
  LORC_RETURN_IF_ERROR(CheckRankRule(config, *this));
  LORC_RETURN_IF_ERROR(CheckTokens("--exact-prefix", exact_prefix));
  LORC_RETURN_IF_ERROR(CheckTokens("--exact-window", exact_window));
  return CheckTokens("--anchor", anchor);
}

absl::StatusOr<KvPlan> BuildFullPlan(const ModelConfig& config, const CompressionOptions& options) {
  LORC_RETURN_IF_ERROR(options.Validate(config));
  KvPlan plan = KvPlan::Full(config, options.latent_type, SegmentWidth(options));
  plan.exact_prefix = options.exact_prefix;
  plan.exact_window = options.exact_window;
  LORC_RETURN_IF_ERROR(plan.Validate(config));
  return plan;
}

absl::StatusOr<std::vector<LayerSpectra>> ComputeWeightSpectra(const Checkpoint& checkpoint,
                                                               const Progress& progress) {
  std::vector<LayerSpectra> spectra;
  const int32_t num_layers = checkpoint.config().num_layers;
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    LayerSpectra of_layer;
    LORC_ASSIGN_OR_RETURN(of_layer.key, SpectrumOf(checkpoint, TensorRole::kKey, layer));
    LORC_ASSIGN_OR_RETURN(of_layer.value, SpectrumOf(checkpoint, TensorRole::kValue, layer));
    spectra.push_back(std::move(of_layer));
    if (progress) progress(static_cast<double>(layer + 1) / num_layers);
  }
  return spectra;
}

std::vector<double> LogConditions(const std::vector<LayerSpectra>& spectra) {
  std::vector<double> logs;
  logs.reserve(spectra.size());
  for (const LayerSpectra& layer : spectra) {
    logs.push_back(std::log(layer.key.condition_number()) +
                   std::log(layer.value.condition_number()));
  }
  return logs;
}

absl::Status CheckSpectra(const ModelConfig& config, const std::vector<LayerSpectra>& spectra,
                          const CompressionOptions& options) {
  LORC_RETURN_IF_ERROR(options.Validate(config));
  LORC_CHECK_EQ(std::ssize(spectra), config.num_layers);
  if (options.rank_rule != RankRule::kProgressive || options.bytes_per_token.has_value()) {
    return absl::OkStatus();
  }
  for (int32_t l = 0; l < config.num_layers; ++l) {
    for (const WeightSpectrum* spectrum : {&spectra[l].key, &spectra[l].value}) {
      if (std::isfinite(spectrum->condition_number())) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          Where(l, spectrum == &spectra[l].key),
          "has not full rank, so its condition number, which progressive ranks need, is infinite; "
          "use --ranks uniform"));
    }
  }
  return options.min_rank.has_value() ? absl::OkStatus()
                                      : CheckTargetKept(config, spectra, options);
}

namespace {

// Heads whose keys and values are alike, K and V counting the same.
std::vector<int32_t> HeadOrder(const TensorSource& key, const TensorSource& value,
                               const CompressionOptions& options) {
  const ModelConfig& config = *key.config;
  const Method& method = options.method_info();
  std::vector<double> similarity;
  for (const TensorSource* source : {&key, &value}) {
    const std::vector<double> moment =
        SecondMoment(*source, options.moments.value_or(method.moments), method.beyond_prefix);
    const std::vector<double> alike = HeadSimilarity(moment, config.num_kv_heads, config.head_dim);
    similarity.resize(alike.size(), 0.0);
    for (size_t i = 0; i < alike.size(); ++i) similarity[i] += alike[i];
  }
  return SimilarHeadsTogether(similarity, options.groups);
}

}  // namespace

absl::StatusOr<ModelBases> ComputeBases(const Checkpoint& checkpoint, const Statistics* statistics,
                                        const CompressionOptions& options,
                                        const Progress& progress) {
  const ModelConfig& config = checkpoint.config();
  const Method& method = options.method_info();
  LORC_CHECK(statistics != nullptr || !options.needs_text());
  ModelBases bases;
  if (method.predicts_loss) {
    bases.loss_per_gain = 0.5 / static_cast<double>(statistics->num_far_tokens) /
                          static_cast<double>(statistics->num_gradient_tokens);
  }
  for (int32_t l = 0; l < config.num_layers; ++l) {
    TensorSource sources[2];  // K, V
    for (const bool is_key : {true, false}) {
      TensorSource& source = sources[is_key ? 0 : 1];
      source.config = &config;
      source.is_key = is_key;
      source.layout = options.keys;
      source.anchor = options.anchor;
      source.read = [&checkpoint, l](TensorRole role) { return ReadWeight(checkpoint, role, l); };
      source.statistics = statistics == nullptr ? nullptr : &statistics->layers[l];
    }
    LayerBases layer;
    if (options.group_similar_heads) layer.head_order = HeadOrder(sources[0], sources[1], options);
    for (TensorSource& source : sources) {
      source.head_order = layer.head_order;
      auto groups =
          MakeBases(method, options.moments.value_or(method.moments), source, options.groups);
      if (!groups.ok()) {
        return absl::Status(groups.status().code(),
                            absl::StrCat("layer ", l, source.is_key ? " key: " : " value: ",
                                         groups.status().message()));
      }
      (source.is_key ? layer.key : layer.value) = *std::move(groups);
    }
    bases.layers.push_back(std::move(layer));
    if (progress) progress(static_cast<double>(l + 1) / config.num_layers);
  }
  return bases;
}

ByteRange MixedByteRange(const ModelConfig& config, const CompressionOptions& options) {
  const TensorGains tensor = {std::vector<double>(config.kv_width() / options.groups, 0.0),
                              options.groups};
  const std::vector<TensorGains> gains(2 * static_cast<size_t>(config.num_layers), tensor);
  return {LeastBytes(gains, options.segment_width), MostBytes(gains, options.segment_width)};
}

absl::StatusOr<double> PredictLoss(const ModelBases& bases, const CompressionOptions& options) {
  LORC_ASSIGN_OR_RETURN(
      const BitAllocation allocation,
      AllocateBits(ComparableGains(bases), options.segment_width, *options.bytes_per_token));
  return allocation.loss;
}

absl::StatusOr<BuiltPlan> BuildPlan(const ModelConfig& config,
                                    const std::vector<LayerSpectra>& spectra,
                                    const ModelBases& bases, const CompressionOptions& options) {
  LORC_RETURN_IF_ERROR(CheckSpectra(config, spectra, options));
  LORC_CHECK_EQ(std::ssize(bases.layers), config.num_layers);
  const std::vector<TensorGains> gains = ComparableGains(bases);
  const int32_t group_width = config.kv_width() / options.groups;
  BuiltPlan built;
  std::vector<std::vector<CacheSegment>> segments;  // K before V
  if (options.bytes_per_token.has_value()) {
    LORC_ASSIGN_OR_RETURN(BitAllocation allocation,
                          AllocateBits(gains, options.segment_width, *options.bytes_per_token));
    segments = std::move(allocation.segments);
  } else {
    built.ranks = ChooseRanks(config, spectra, bases, options);
    for (const LayerRanks& ranks : built.ranks) {
      for (const int32_t rank : {ranks.key, ranks.value}) {
        segments.push_back(EqualSegments(options.latent_type,
                                         RoundRank(rank / options.groups, group_width),
                                         SegmentWidth(options)));
      }
    }
  }
  KvPlan& plan = built.plan;
  plan.method = options.method;
  plan.exact_prefix = options.exact_prefix;
  plan.exact_window = options.exact_window;
  plan.anchor = options.keys == KvLayoutKind::kDirect ? options.anchor : 0;
  for (int32_t l = 0; l < config.num_layers; ++l) {
    if (!built.ranks.empty() && built.ranks[l].left_alone) {
      plan.layers.push_back({FullTensor(config), FullTensor(config), bases.layers[l].head_order});
      continue;
    }
    built.predicted_loss += LossOf(gains[2 * l].gains, segments[2 * l]) +
                            LossOf(gains[2 * l + 1].gains, segments[2 * l + 1]);
    plan.layers.push_back(
        {MakeTensor(bases.layers[l].key, segments[2 * l], options.keys, spectra[l].key),
         MakeTensor(bases.layers[l].value, segments[2 * l + 1], KvLayoutKind::kDirect,
                    spectra[l].value),
         bases.layers[l].head_order});
  }
  LORC_RETURN_IF_ERROR(plan.Validate(config));
  return built;
}

}  // namespace lorc
