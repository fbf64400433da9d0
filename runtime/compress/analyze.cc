#include "runtime/compress/analyze.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/compress/calibration_text.h"
#include "runtime/compress/offline_model.h"
#include "runtime/compress/option_error.h"
#include "runtime/compress/ranks.h"
#include "runtime/compress/sample_text.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

struct WindowedText {
  std::string name;
  TokenWindows windows;
};

absl::StatusOr<TokenWindows> OwnWindows(Backend& backend, const Checkpoint& checkpoint,
                                        const Tokenizer& tokenizer, const AnalysisRequest& request,
                                        const StageProgress& stage) {
  OfflineOptions offline;
  offline.weight_type = request.weight_type;
  offline.max_sequence_tokens = request.window;
  offline.num_sequences = kSampledAtOnce;
  const KvPlan full =
      KvPlan::Full(checkpoint.config(), SegmentTypeOf(ExactType(request.weight_type)));
  LORC_ASSIGN_OR_RETURN(const auto model, MakeOfflineModel(backend, checkpoint, full, offline,
                                                           Named(stage, "reading weights")));
  SampleOptions sample;
  sample.num_windows = request.statistics_windows + request.measure_windows;
  sample.window = request.window;
  sample.seed = request.seed;
  return SampleWindows(*model, tokenizer, sample, Named(stage, "writing text"));
}

// Every text as the same number of windows. What a text lacks is said before the model writes.
absl::StatusOr<std::vector<SplitText>> SplitTexts(Backend& backend, const Checkpoint& checkpoint,
                                                  const Tokenizer& tokenizer,
                                                  const AnalysisRequest& request,
                                                  const StageProgress& stage,
                                                  std::vector<std::string>* names) {
  const int64_t width = checkpoint.config().kv_width();
  // Fewer tokens than numbers span no more directions than they are.
  const int64_t least_windows = (width + request.window - 1) / request.window;
  std::vector<TokenWindows> texts;
  int32_t statistics_windows = request.statistics_windows;
  int32_t measure_windows = request.measure_windows;
  const auto add = [&](const std::string& name, TokenWindows windows) -> absl::Status {
    LORC_ASSIGN_OR_RETURN(const SplitText split, SplitWindows(windows, request.window,
                                                              statistics_windows, measure_windows));
    const auto measured = static_cast<int32_t>(std::ssize(split.measuring) / request.window);
    statistics_windows =
        std::min(statistics_windows, static_cast<int32_t>(split.calibration.size()));
    measure_windows = std::min(measure_windows, measured);
    names->push_back(name);
    texts.push_back(std::move(windows));
    return absl::OkStatus();
  };
  for (const AnalysisText& text : request.texts) {
    const std::vector<TokenId> tokens = tokenizer.Encode(text.text, /*parse_special=*/false);
    TokenWindows windows = CutWindows(tokens, request.window);
    int64_t needed = least_windows + 1;  // SplitWindows keeps a quarter for measuring
    while (needed - needed / 4 < least_windows) ++needed;
    if (std::ssize(windows) < needed) {
      return absl::FailedPreconditionError(absl::StrCat(
          text.name, " has ", tokens.size(), " tokens; at least ", needed * request.window,
          " are needed, ", needed, " windows of ", request.window, ": some for statistics of ",
          width, " numbers and one to measure. Give a longer text or another --window"));
    }
    LORC_RETURN_IF_ERROR(add(text.name, std::move(windows)));
  }
  if (request.own_text || request.texts.empty()) {
    LORC_ASSIGN_OR_RETURN(TokenWindows windows,
                          OwnWindows(backend, checkpoint, tokenizer, request, stage));
    LORC_RETURN_IF_ERROR(add(kOwnTextName, std::move(windows)));
  }
  std::vector<SplitText> splits;
  for (const TokenWindows& windows : texts) {
    LORC_ASSIGN_OR_RETURN(SplitText split, SplitWindows(windows, request.window, statistics_windows,
                                                        measure_windows));
    splits.push_back(std::move(split));
  }
  return splits;
}

std::vector<double> NdPpls(const std::vector<Truncation>& truncations) {
  std::vector<double> values;
  for (const Truncation& truncation : truncations) values.push_back(truncation.nd_ppl.value);
  return values;
}

// One text after the other.
class TextAnalyser {
 public:
  TextAnalyser(Backend& backend, const Checkpoint& checkpoint, const AnalysisRequest& request,
               const std::vector<LayerSpectra>& spectra, const StageProgress& stage)
      : backend_(backend),
        checkpoint_(checkpoint),
        request_(request),
        spectra_(spectra),
        stage_(stage) {}

  absl::StatusOr<TextAnalysis> Run(const std::string& name, const SplitText& split) const {
    TextAnalysis text;
    text.name = name;
    LORC_ASSIGN_OR_RETURN(const Statistics statistics, Collect(name, split));
    text.num_statistics_tokens = statistics.num_tokens;
    LORC_ASSIGN_OR_RETURN(text.layers, SpectraOf(statistics, checkpoint_.config().kv_width()));
    if (request_.gradient_windows > 0) {
      LORC_ASSIGN_OR_RETURN(text.losses, PredictLosses(statistics));
    }
    if (!request_.levels.empty() || request_.per_layer.has_value()) {
      LORC_RETURN_IF_ERROR(Truncate(split, statistics, &text));
    }
    return text;
  }

 private:
  absl::StatusOr<Statistics> Collect(const std::string& name, const SplitText& split) const {
    StatisticsOptions gather;
    gather.anchor = request_.anchor;
    gather.exact_prefix = request_.exact_prefix;
    gather.exact_window = request_.exact_window;
    gather.gradient_windows = request_.gradient_windows;
    gather.seed = request_.seed;
    gather.num_threads = request_.num_threads;
    return CollectStatistics(checkpoint_, split.calibration, gather,
                             Named(stage_, "statistics: " + name));
  }

  absl::StatusOr<std::vector<LayerLoss>> PredictLosses(const Statistics& statistics) const {
    CompressionOptions options;
    options.method = "loss";
    options.anchor = request_.anchor;
    options.exact_prefix = request_.exact_prefix;
    options.exact_window = request_.exact_window;
    LORC_ASSIGN_OR_RETURN(const ModelBases bases,
                          ComputeBases(checkpoint_, &statistics, options, nullptr));
    return LossCurves(bases);
  }

  absl::Status Truncate(const SplitText& split, const Statistics& statistics,
                        TextAnalysis* text) const {
    TruncationOptions options;
    options.keys = request_.keys;
    options.anchor = request_.anchor;
    options.window = request_.window;
    options.weight_type = request_.weight_type;
    LORC_ASSIGN_OR_RETURN(
        const TruncationMeter meter,
        TruncationMeter::Make(backend_, checkpoint_, spectra_, statistics, split.measuring, options,
                              Named(stage_, "uncompressed: " + text->name)));
    text->num_measured_tokens = std::ssize(split.measuring);
    text->perplexity = meter.full_perplexity();
    for (const double level : request_.levels) {
      LORC_ASSIGN_OR_RETURN(Truncation truncation,
                            meter.Measure(level, Named(stage_, absl::StrCat("truncated to ", level,
                                                                            ": ", text->name))));
      text->truncations.push_back(truncation);
    }
    if (!request_.per_layer.has_value()) return absl::OkStatus();
    const int32_t num_layers = checkpoint_.config().num_layers;
    const Progress progress = Named(stage_, "layer by layer: " + text->name);
    for (int32_t l = 0; l < num_layers; ++l) {
      LORC_ASSIGN_OR_RETURN(Truncation truncation,
                            meter.MeasureLayer(l, *request_.per_layer, nullptr));
      text->layer_truncations.push_back(truncation);
      if (progress) progress(static_cast<double>(l + 1) / num_layers);
    }
    text->layer_correlation =
        Correlate(text->LayerNers(request_.keys), NdPpls(text->layer_truncations));
    return absl::OkStatus();
  }

  Backend& backend_;
  const Checkpoint& checkpoint_;
  const AnalysisRequest& request_;
  const std::vector<LayerSpectra>& spectra_;
  const StageProgress& stage_;
};

std::vector<LayerConditions> ConditionsOf(const std::vector<LayerSpectra>& spectra) {
  const std::vector<double> cumulative = CumulativeLogCondition(LogConditions(spectra));
  std::vector<LayerConditions> conditions;
  for (size_t l = 0; l < spectra.size(); ++l) {
    conditions.push_back(
        {spectra[l].key.condition_number(), spectra[l].value.condition_number(), cumulative[l]});
  }
  return conditions;
}

std::vector<Correlation> OverTexts(const std::vector<TextAnalysis>& texts, KvLayoutKind keys) {
  std::vector<double> ners;
  for (const TextAnalysis& text : texts) {
    const std::vector<double> by_layer = text.LayerNers(keys);
    ners.push_back(std::accumulate(by_layer.begin(), by_layer.end(), 0.0) /
                   static_cast<double>(by_layer.size()));
  }
  std::vector<Correlation> correlations;
  for (size_t level = 0; level < texts[0].truncations.size(); ++level) {
    std::vector<double> losses;
    for (const TextAnalysis& text : texts) {
      losses.push_back(text.truncations[level].nd_ppl.value);
    }
    correlations.push_back(Correlate(ners, losses));
  }
  return correlations;
}

}  // namespace

absl::Status AnalysisRequest::Validate(const ModelConfig& config) const {
  if (window < 32 || window > config.context_length) {
    return Expected("window", absl::StrCat("32 to ", config.context_length, " tokens"), window);
  }
  if (int64_t{statistics_windows} * window < config.kv_width()) {
    return Expected("calibrate-windows",
                    absl::StrCat("windows with ", config.kv_width(),
                                 " tokens at least, the numbers of a layer's keys"),
                    absl::StrCat(statistics_windows, " of ", window));
  }
  for (const double level : levels) {
    if (level > 0 && level <= 1) continue;
    return Expected("levels", "shares in (0, 1]", level);
  }
  if (per_layer.has_value() && !(*per_layer > 0 && *per_layer <= 1)) {
    return Expected("per-layer", "a share in (0, 1]", *per_layer);
  }
  CompressionOptions shared;  // knows what is right for the rest
  shared.anchor = anchor;
  shared.exact_prefix = exact_prefix;
  shared.exact_window = exact_window;
  LORC_RETURN_IF_ERROR(shared.Validate(config));
  if (gradient_windows > 0 && window <= exact_prefix + exact_window) {
    return Expected("window",
                    absl::StrCat("more than the ", exact_prefix + exact_window,
                                 " exact tokens beyond which losses are predicted"),
                    window);
  }
  return absl::OkStatus();
}

std::vector<double> TextAnalysis::LayerNers(KvLayoutKind keys) const {
  std::vector<double> ners;
  for (const LayerSpectrum& layer : layers) {
    const TensorSpectrum& key = keys == KvLayoutKind::kDirect ? layer.rotated_keys : layer.keys;
    ners.push_back((key.normalised_effective_rank() + layer.values.normalised_effective_rank()) /
                   2);
  }
  return ners;
}

absl::StatusOr<Analysis> Analyze(Backend& backend, const Checkpoint& checkpoint,
                                 const Tokenizer& tokenizer, const AnalysisRequest& request,
                                 const StageProgress& stage) {
  LORC_RETURN_IF_ERROR(request.Validate(checkpoint.config()));
  Analysis analysis;
  analysis.kv_width = checkpoint.config().kv_width();
  LORC_ASSIGN_OR_RETURN(const std::vector<LayerSpectra> spectra,
                        ComputeWeightSpectra(checkpoint, Named(stage, "decomposing weights")));
  analysis.conditions = ConditionsOf(spectra);
  std::vector<std::string> names;
  LORC_ASSIGN_OR_RETURN(const std::vector<SplitText> splits,
                        SplitTexts(backend, checkpoint, tokenizer, request, stage, &names));
  const TextAnalyser analyser(backend, checkpoint, request, spectra, stage);
  for (size_t i = 0; i < splits.size(); ++i) {
    LORC_ASSIGN_OR_RETURN(TextAnalysis text, analyser.Run(names[i], splits[i]));
    analysis.texts.push_back(std::move(text));
  }
  analysis.text_correlations = OverTexts(analysis.texts, request.keys);
  return analysis;
}

}  // namespace lorc
