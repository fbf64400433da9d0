#include "runtime/compress/build_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "runtime/compress/linear_algebra.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

std::string Where(int32_t layer, bool is_key) {
  return absl::StrCat("layer ", layer, is_key ? " W_k: " : " W_v: ");
}

absl::StatusOr<WeightSpectrum> SpectrumOf(const Checkpoint& checkpoint, TensorRole role,
                                          int32_t layer) {
  const TensorShape shape = checkpoint.Shape(role, layer);
  const std::string where = Where(layer, role == TensorRole::kKey);
  if (shape.rows > shape.columns) {
    return absl::UnimplementedError(
        absl::StrCat(where, "more rows (", shape.rows, ") than columns (", shape.columns, ")"));
  }
  std::vector<float> values(shape.rows * shape.columns);
  checkpoint.ReadRows(role, layer, 0, shape.rows, values.data());
  auto svd = SingularValues({values.begin(), values.end()}, shape.rows, shape.columns);
  if (!svd.ok()) {
    return absl::Status(svd.status().code(), absl::StrCat(where, svd.status().message(),
                                                          "; is the checkpoint damaged?"));
  }
  return WeightSpectrum{std::move(svd->values), std::move(svd->left)};
}

// exp(entropy of the normalised singular values) / n (Roy and Vetterli; Swift-SVD equation 11).
double EffectiveRank(const std::vector<double>& energies) {
  double sum = 0;
  for (const double energy : energies) sum += std::sqrt(std::max(energy, 0.0));
  if (sum <= 0) return 0;
  double entropy = 0;
  for (const double energy : energies) {
    const double p = std::sqrt(std::max(energy, 0.0)) / sum;
    if (p > 0) entropy -= p * std::log(p);
  }
  return std::exp(entropy) / static_cast<double>(energies.size());
}

std::vector<double> NineOf(const std::vector<double>& energies) {
  std::vector<double> values;
  for (size_t i = 0; i <= 8; ++i) {
    values.push_back(std::sqrt(std::max(energies[i * (energies.size() - 1) / 8], 0.0)));
  }
  return values;
}

int32_t SegmentWidth(const CompressionOptions& options) {
  return HasScale(options.latent_type) ? options.segment_width : kMaxSegmentWidth;
}

TensorPlan FullTensor(const ModelConfig& config) {
  return KvPlan::Full(config, SegmentType::kBf16).layers[0].key;
}

// One group's directions, best first: rows [n] with their energies.
struct Directions {
  std::vector<double> energies;
  std::vector<double> vectors;
};

absl::StatusOr<Directions> FromMoment(const std::vector<double>& moment, int64_t n, int64_t first,
                                      int64_t width) {
  std::vector<double> block(width * width);
  for (int64_t i = 0; i < width; ++i) {
    std::copy_n(moment.begin() + (first + i) * n + first, width, block.begin() + i * width);
  }
  LORC_ASSIGN_OR_RETURN(EigenDecomposition eigen, SymmetricEigen(std::move(block), width));
  return Directions{std::move(eigen.values), std::move(eigen.vectors)};
}

Directions FromWeight(const WeightSpectrum& spectrum) {
  Directions directions{spectrum.values, spectrum.vectors};
  for (double& value : directions.energies) value *= value;
  return directions;
}

// One spectrum [n] for all groups: every group keeps the same rank, so its i-th columns come
// together.
std::vector<double> MeanEnergies(const std::vector<Directions>& groups) {
  std::vector<double> energies;
  for (size_t i = 0; i < groups[0].energies.size(); ++i) {
    double mean = 0;
    for (const Directions& group : groups) mean += group.energies[i] / std::ssize(groups);
    energies.insert(energies.end(), groups.size(), mean);
  }
  return energies;
}

TensorPlan MakeTensor(const std::vector<Directions>& groups, int32_t rank, KvLayoutKind layout,
                      const CompressionOptions& options, const WeightSpectrum& weight) {
  TensorPlan tensor;
  tensor.layout = layout;
  tensor.groups = static_cast<int32_t>(groups.size());
  tensor.rank = rank;
  tensor.segments = EqualSegments(options.latent_type, rank, SegmentWidth(options));
  double kept = 0;
  double total = 0;
  std::vector<double> energies;
  for (const Directions& group : groups) {
    const int64_t width = std::ssize(group.energies);
    tensor.encoder.insert(tensor.encoder.end(), group.vectors.begin(),
                          group.vectors.begin() + rank * width);
    kept += std::accumulate(group.energies.begin(), group.energies.begin() + rank, 0.0);
    total += std::accumulate(group.energies.begin(), group.energies.end(), 0.0);
    energies.insert(energies.end(), group.energies.begin(), group.energies.end());
  }
  std::sort(energies.begin(), energies.end(), std::greater<>());
  const double condition = weight.condition_number();
  tensor.facts.condition_number = std::isfinite(condition) ? condition : 0.0;
  tensor.facts.effective_rank = EffectiveRank(energies);
  tensor.facts.kept_energy = total > 0 ? std::clamp(kept / total, 0.0, 1.0) : 0.0;
  tensor.facts.singular_values = NineOf(energies);
  return tensor;
}

absl::StatusOr<BuiltPlan> BuildFullPlan(const ModelConfig& config,
                                        const CompressionOptions& options) {
  LORC_RETURN_IF_ERROR(options.Validate(config));
  BuiltPlan built;
  built.plan = KvPlan::Full(config, options.latent_type, SegmentWidth(options));
  built.plan.exact_prefix = options.exact_prefix;
  built.plan.exact_window = options.exact_window;
  built.ranks.assign(config.num_layers, {config.kv_width(), config.kv_width()});
  LORC_RETURN_IF_ERROR(built.plan.Validate(config));
  return built;
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
                                    const std::vector<std::vector<double>>& key_energies,
                                    const std::vector<std::vector<double>>& value_energies,
                                    const CompressionOptions& options) {
  switch (options.rank_rule) {
    case RankRule::kUniform:
      return UniformRanks(config.num_layers, config.kv_width(), options.target_kept);
    case RankRule::kEnergy:
      return EnergyRanks(key_energies, value_energies, options.target_kept,
                         kRankMultiple * options.groups);
    case RankRule::kProgressive:
      break;
  }
  return ProgressiveRanks(LogConditions(spectra), ProgressiveOptionsOf(config, options));
}

absl::Status Expected(const char* option, const std::string& expected, const std::string& came) {
  return absl::InvalidArgumentError(
      absl::StrCat("--", option, ": expected ", expected, ", got ", came));
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
                  absl::StrCat(options.target_kept));
}

}  // namespace

const char* Name(CompressionMethod method) {
  switch (method) {
    case CompressionMethod::kLorc:
      return "lorc";
    case CompressionMethod::kKvCore:
      return "kv-core";
    case CompressionMethod::kFull:
      return "full";
  }
  return "";
}

absl::Status CompressionOptions::Validate(const ModelConfig& config) const {
  if (!(target_kept > 0 && target_kept <= 1)) {
    return Expected("target-kept", "a share in (0, 1]", absl::StrCat(target_kept));
  }
  if (groups <= 0 || config.num_kv_heads % groups != 0) {
    return Expected("groups", absl::StrCat("a divisor of ", config.num_kv_heads, " KV heads"),
                    absl::StrCat(groups));
  }
  if (min_rank.has_value() && (*min_rank < 1 || *min_rank > config.kv_width())) {
    return Expected("min-rank", absl::StrCat("1 to ", config.kv_width()), absl::StrCat(*min_rank));
  }
  if (method == CompressionMethod::kLorc && keys != KvLayoutKind::kRebuilt) {
    return Expected("keys", "rebuilt for method lorc (its basis holds before RoPE)", Name(keys));
  }
  if (method == CompressionMethod::kLorc && groups != 1) {
    return Expected("groups", "1 for method lorc (joint over KV heads)", absl::StrCat(groups));
  }
  if (method == CompressionMethod::kLorc && rank_rule == RankRule::kEnergy) {
    return Expected("ranks", "progressive or uniform for method lorc", "energy");
  }
  if (rank_rule != RankRule::kProgressive && (min_rank.has_value() || threshold.has_value())) {
    return absl::InvalidArgumentError(
        "--min-rank and --threshold belong to the progressive ranks (--ranks progressive)");
  }
  if (threshold.has_value() && !std::isfinite(*threshold)) {
    return Expected("threshold", "a finite number", absl::StrCat(*threshold));
  }
  for (const auto& [option, tokens] : {std::pair("exact-prefix", exact_prefix),
                                       {"exact-window", exact_window},
                                       {"anchor", anchor}}) {
    constexpr int32_t kMost = 1 << 20;  // as KvPlan::Validate
    if (tokens < 0 || tokens > kMost || tokens % 16 != 0) {
      return Expected(option, absl::StrCat("a multiple of 16 tokens up to ", kMost, ", or 0"),
                      absl::StrCat(tokens));
    }
  }
  if (segment_width < 8 || segment_width % 8 != 0 || segment_width > kMaxSegmentWidth) {
    return Expected("segment-width", absl::StrCat("a multiple of 8 up to ", kMaxSegmentWidth),
                    absl::StrCat(segment_width));
  }
  return absl::OkStatus();
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
  const bool progressive = options.rank_rule == RankRule::kProgressive;
  if (options.method != CompressionMethod::kLorc && !progressive) return absl::OkStatus();
  for (int32_t l = 0; l < config.num_layers; ++l) {
    for (const bool is_key : {true, false}) {
      const WeightSpectrum& spectrum = is_key ? spectra[l].key : spectra[l].value;
      if (std::isfinite(spectrum.condition_number())) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          Where(l, is_key),
          "has not full rank, so its condition number, which method lorc and "
          "progressive ranks need, is infinite; use --method kv-core --ranks uniform"));
    }
  }
  return progressive && !options.min_rank.has_value() ? CheckTargetKept(config, spectra, options)
                                                      : absl::OkStatus();
}

absl::StatusOr<BuiltPlan> BuildPlan(const ModelConfig& config,
                                    const std::vector<LayerSpectra>& spectra,
                                    const Moments* moments, const CompressionOptions& options) {
  if (options.method == CompressionMethod::kFull) return BuildFullPlan(config, options);
  LORC_RETURN_IF_ERROR(CheckSpectra(config, spectra, options));
  const int64_t n = config.kv_width();
  const int64_t width = n / options.groups;
  std::vector<std::vector<Directions>> keys, values;
  std::vector<std::vector<double>> key_energies, value_energies;
  for (int32_t l = 0; l < config.num_layers; ++l) {
    std::vector<Directions> key, value;
    if (options.method == CompressionMethod::kLorc) {
      key.push_back(FromWeight(spectra[l].key));
      value.push_back(FromWeight(spectra[l].value));
    } else {
      LORC_CHECK(moments != nullptr);
      const LayerMoments& layer = moments->layers[l];
      const auto& key_moment =
          options.keys == KvLayoutKind::kRebuilt ? layer.unrotated_keys : layer.anchored_keys;
      for (int64_t first = 0; first < n; first += width) {
        LORC_ASSIGN_OR_RETURN(Directions of_key, FromMoment(key_moment, n, first, width));
        LORC_ASSIGN_OR_RETURN(Directions of_value, FromMoment(layer.values, n, first, width));
        key.push_back(std::move(of_key));
        value.push_back(std::move(of_value));
      }
    }
    key_energies.push_back(MeanEnergies(key));
    value_energies.push_back(MeanEnergies(value));
    keys.push_back(std::move(key));
    values.push_back(std::move(value));
  }
  BuiltPlan built;
  built.ranks = ChooseRanks(config, spectra, key_energies, value_energies, options);
  KvPlan& plan = built.plan;
  plan.method = Name(options.method);
  plan.exact_prefix = options.exact_prefix;
  plan.exact_window = options.exact_window;
  plan.anchor = options.keys == KvLayoutKind::kDirect ? options.anchor : 0;
  for (int32_t l = 0; l < config.num_layers; ++l) {
    const LayerRanks& ranks = built.ranks[l];
    if (ranks.left_alone) {
      plan.layers.push_back({FullTensor(config), FullTensor(config)});
      continue;
    }
    const auto round = [&](int32_t rank) {
      return RoundRank(rank / options.groups, static_cast<int32_t>(width));
    };
    plan.layers.push_back(
        {MakeTensor(keys[l], round(ranks.key), options.keys, options, spectra[l].key),
         MakeTensor(values[l], round(ranks.value), KvLayoutKind::kDirect, options,
                    spectra[l].value)});
  }
  LORC_RETURN_IF_ERROR(plan.Validate(config));
  return built;
}

}  // namespace lorc
