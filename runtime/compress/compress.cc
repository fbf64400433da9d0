#include "runtime/compress/compress.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/compress/offline_model.h"
#include "runtime/compress/option_error.h"
#include "runtime/compress/sample_text.h"
#include "runtime/compress/sample_text_file.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

// Method loss learns from look-ups (RepeatBeginnings); the papers' methods are as published.
bool Repeats(const CompressionOptions& options) {
  return !options.keeps_all() && options.method_info().needs_gradients;
}

std::string PlanName(const CompressionOptions& options, const KvPlan& plan) {
  if (options.keeps_all()) return absl::StrCat("full-", Name(options.latent_type));
  std::string size;
  if (options.bytes_per_token.has_value()) {
    size = absl::StrCat(plan.BytesPerToken(), "B");
  } else {
    const std::string kept = options.min_rank.has_value()
                                 ? absl::StrCat("min", *options.min_rank)
                                 : absl::StrCat(std::lround(options.target_kept * 100), "%");
    size = absl::StrCat(kept, "-", Name(options.latent_type));
  }
  return absl::StrCat(options.method, "-", Name(options.keys), "-", size);
}

std::map<std::string, std::string> DescribeOptions(const CompressRequest& request,
                                                   size_t calibration_windows) {
  const CompressionOptions& options = request.options;
  if (options.keeps_all()) {
    return {{"latent_type", Name(options.latent_type)},
            {"segment_width", absl::StrCat(options.segment_width)}};
  }
  std::map<std::string, std::string> described = {
      {"keys", Name(options.keys)},
      {"groups", absl::StrCat(options.groups)},
      {"moments", Name(options.moments.value_or(options.method_info().moments))},
  };
  if (options.bytes_per_token.has_value()) {
    described["ranks"] = "bits";
    described["bytes_per_token"] = absl::StrCat(*options.bytes_per_token);
    described["segment_width"] = absl::StrCat(options.segment_width);
  } else {
    described["ranks"] = Name(options.rank_rule);
    described["latent_type"] = Name(options.latent_type);
    if (options.rank_rule == RankRule::kTail) {
      described["tail_energy"] = absl::StrCat(options.tail_energy);
    } else if (options.min_rank.has_value()) {
      described["min_rank"] = absl::StrCat(*options.min_rank);
    } else {
      described["target_kept"] = absl::StrCat(options.target_kept);
    }
    if (options.threshold.has_value()) described["threshold"] = absl::StrCat(*options.threshold);
  }
  if (request.limit.has_value()) {
    described["max_ppl_increase"] = absl::StrCat(request.limit->max_perplexity_increase);
    if (request.limit->max_recall_increase.has_value()) {
      described["max_recall_increase"] = absl::StrCat(*request.limit->max_recall_increase);
    }
  }
  if (request.search.has_value()) {
    described["search"] = absl::StrCat("for a context of ", request.search->context, " tokens");
  }
  if (options.needs_text()) {
    described["calibration"] = absl::StrCat(
        calibration_windows, " windows of ", request.window, " tokens",
        Repeats(options) ? " that end as they begin, " : ", ",
        request.text.empty() ? absl::StrCat("written by the model, seed ", request.seed)
                             : "given text");
  }
  return described;
}

void NamePlan(const Checkpoint& checkpoint, const CompressRequest& request,
              size_t calibration_windows, KvPlan* plan) {
  plan->name = PlanName(request.options, *plan);
  plan->options = DescribeOptions(request, calibration_windows);
  plan->base_fingerprint = checkpoint.Fingerprint();
  plan->base_name = checkpoint.config().name;
}

absl::Status CheckRequest(const CompressRequest& request, const ModelConfig& config) {
  const CompressionOptions& options = request.options;
  if (request.search.has_value() && request.limit.has_value()) {
    return Expected("search", "--bytes-per-token or its default, which all candidates share",
                    "--max-ppl-increase");
  }
  if (request.window < 32 || request.window > config.context_length) {
    return Expected("window", absl::StrCat("32 to ", config.context_length, " tokens"),
                    request.window);
  }
  if (!request.statistics_path.empty() && !options.needs_text()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--statistics: expected nothing with method ", options.method,
                     " and these options, which gather no statistics"));
  }
  const int32_t exact = options.exact_prefix + options.exact_window;
  if (!options.keeps_all() && options.method_info().needs_gradients && request.window <= exact) {
    return Expected("window",
                    absl::StrCat("more than the ", exact,
                                 " tokens of the exact prefix and window, beyond which method ",
                                 options.method, " looks"),
                    request.window);
  }
  return absl::OkStatus();
}

// The model's texts get worse as they get longer: longer windows are made of several.
constexpr int32_t kWrittenTokens = 1024;

SampleOptions TextToWrite(const CompressRequest& request) {
  SampleOptions sample;
  sample.num_windows = request.calibration_windows + request.measure_windows;
  sample.window = request.window;
  sample.seed = request.seed;
  if (request.window > kWrittenTokens) {
    const int64_t tokens = int64_t{sample.num_windows} * request.window;
    sample.num_windows = static_cast<int32_t>((tokens + kWrittenTokens - 1) / kWrittenTokens);
    sample.window = kWrittenTokens + 1;  // with the token that starts a text
  }
  return sample;
}

// The texts that the model writes, or has written for the file beside the statistics.
absl::StatusOr<TokenWindows> WriteTexts(ModelExecutor& model, const Checkpoint& checkpoint,
                                        const Tokenizer& tokenizer, const CompressRequest& request,
                                        const Progress& progress) {
  const SampleOptions sample = TextToWrite(request);
  if (request.statistics_path.empty()) return SampleWindows(model, tokenizer, sample, progress);
  WrittenTextSource source;
  source.fingerprint = checkpoint.Fingerprint();
  source.weight_type = Name(request.weight_type);
  source.num_windows = sample.num_windows;
  source.window = sample.window;
  source.vocabulary_size = checkpoint.config().vocabulary_size;
  source.seed = sample.seed;
  const std::string path = request.statistics_path + ".text";
  std::error_code unknown;
  if (std::filesystem::exists(path, unknown)) return ReadWrittenText(source, path);
  LORC_ASSIGN_OR_RETURN(TokenWindows windows, SampleWindows(model, tokenizer, sample, progress));
  LORC_RETURN_IF_ERROR(WriteWrittenText(source, windows, path));
  return windows;
}

StatisticsOptions GatherOptions(const CompressRequest& request) {
  const CompressionOptions& options = request.options;
  StatisticsOptions gather;
  gather.anchor = options.anchor;
  gather.exact_prefix = options.exact_prefix;
  gather.exact_window = options.exact_window;
  gather.seed = request.seed;
  if (options.method_info().needs_gradients) gather.gradient_windows = request.gradient_windows;
  gather.resume_path = request.statistics_path;
  return gather;
}

// What the statistics' files do not allow is said before there are minutes of work.
absl::Status CheckStatisticsFiles(const Checkpoint& checkpoint, const TokenWindows& windows,
                                  const CompressRequest& request,
                                  const std::vector<KvPlanCandidate>& candidates) {
  if (request.statistics_path.empty()) return absl::OkStatus();
  const StatisticsOptions gather = GatherOptions(request);
  if (!request.search.has_value()) return CheckResume(checkpoint, windows, gather);
  for (const auto& pass : CandidatePasses(candidates, gather)) {
    for (const StatisticsOptions& options : pass) {
      LORC_RETURN_IF_ERROR(CheckResume(checkpoint, windows, options));
    }
  }
  return absl::OkStatus();
}

// Plans from one set of bases, measured.
class PlanMaker {
 public:
  PlanMaker(const ModelConfig& config, const std::vector<LayerSpectra>& spectra,
            const ModelBases& bases, const MeasurePlan& measure)
      : config_(config), spectra_(spectra), bases_(bases), measure_(measure) {}

  absl::Status Make(const CompressionOptions& options) {
    if (options.keeps_all()) {
      LORC_ASSIGN_OR_RETURN(built_.plan, BuildFullPlan(config_, options));
    } else {
      LORC_ASSIGN_OR_RETURN(built_, BuildPlan(config_, spectra_, bases_, options));
    }
    LORC_ASSIGN_OR_RETURN(evaluation_, measure_(built_.plan));
    return absl::OkStatus();
  }

  // The smallest that keeps the limit; `full` is the uncompressed model's.
  absl::Status Search(const QualityLimit& limit, const Evaluation& full,
                      CompressionOptions* options) {
    const ByteRange range = MixedByteRange(config_, *options);
    PlanSearch search;
    search.least_bytes = range.least;
    search.most_bytes = range.most;
    search.predict = [&](int64_t bytes) {
      options->bytes_per_token = bytes;
      return PredictLoss(bases_, *options);
    };
    search.measure = [&](int64_t bytes) -> absl::StatusOr<MeasuredCost> {
      options->bytes_per_token = bytes;
      LORC_RETURN_IF_ERROR(Make(*options));
      tried_[bytes] = {built_, evaluation_};
      return MeasuredCost{evaluation_.nll - full.nll, evaluation_.recall - full.recall};
    };
    LORC_ASSIGN_OR_RETURN(const int64_t bytes, SmallestBytes(search, limit));
    options->bytes_per_token = bytes;
    std::tie(built_, evaluation_) = std::move(tried_[bytes]);
    return absl::OkStatus();
  }

  BuiltPlan& built() { return built_; }
  Evaluation& evaluation() { return evaluation_; }

 private:
  const ModelConfig& config_;
  const std::vector<LayerSpectra>& spectra_;
  const ModelBases& bases_;
  const MeasurePlan& measure_;
  BuiltPlan built_;
  Evaluation evaluation_;
  std::map<int64_t, std::pair<BuiltPlan, Evaluation>> tried_;  // by bytes
};

}  // namespace

void ChooseWindows(int64_t text_tokens, int32_t context_length, CompressRequest* request) {
  if (request->window == 0) {
    request->window = Repeats(request->options)
                          ? LongestWindow(text_tokens, request->calibration_windows, context_length)
                          : std::min(1024, context_length);
  }
  for (int32_t* count :
       {&request->calibration_windows, &request->gradient_windows, &request->measure_windows}) {
    *count = WindowsInPlaceOf(*count, request->window);
  }
}

absl::StatusOr<CompressResult> Compress(Backend& backend, const Checkpoint& checkpoint,
                                        const Tokenizer& tokenizer, const CompressRequest& request,
                                        const StageProgress& stage) {
  const ModelConfig& config = checkpoint.config();
  LORC_RETURN_IF_ERROR(request.options.Validate(config));
  const std::vector<TokenId> tokens = tokenizer.Encode(request.text, /*parse_special=*/false);
  CompressRequest resolved = request;
  ChooseWindows(request.text.empty() ? std::numeric_limits<int64_t>::max() : std::ssize(tokens),
                config.context_length, &resolved);
  LORC_RETURN_IF_ERROR(CheckRequest(resolved, config));

  const int32_t window = resolved.window;
  CompressionOptions& options = resolved.options;
  CompressResult result;
  const DType exact_type = ExactType(request.weight_type);
  if (request.search.has_value()) {
    LORC_ASSIGN_OR_RETURN(result.candidates,
                          ListCandidates(config, options, *request.search, exact_type, window));
  }
  if (options.keeps_all() && request.text.empty()) {
    LORC_ASSIGN_OR_RETURN(result.plan, BuildFullPlan(config, options));
    NamePlan(checkpoint, resolved, 0, &result.plan);
    return result;
  }
  std::vector<LayerSpectra> spectra;
  if (!options.keeps_all()) {
    // The weights first: what they do not allow is said before the model has written for minutes.
    LORC_ASSIGN_OR_RETURN(spectra,
                          ComputeWeightSpectra(checkpoint, Named(stage, "decomposing weights")));
    LORC_RETURN_IF_ERROR(CheckSpectra(config, spectra, options));
    result.log_condition = LogConditions(spectra);
  }
  EvaluationOptions evaluation;
  evaluation.window = window;
  SplitText split;
  {
    OfflineOptions offline;
    offline.weight_type = request.weight_type;
    offline.max_sequence_tokens = window;
    if (request.text.empty()) {
      offline.num_sequences = std::min(kSampledAtOnce, TextToWrite(resolved).num_windows);
    }
    LORC_ASSIGN_OR_RETURN(
        const auto model,
        MakeOfflineModel(backend, checkpoint, KvPlan::Full(config, SegmentTypeOf(exact_type)),
                         offline, Named(stage, "reading weights")));
    TokenWindows windows;
    if (request.text.empty()) {
      LORC_ASSIGN_OR_RETURN(windows, WriteTexts(*model, checkpoint, tokenizer, resolved,
                                                Named(stage, "writing calibration text")));
      if (window > kWrittenTokens) windows = JoinTexts(windows, window);
    } else {
      windows = CutWindows(tokens, window);
    }
    LORC_ASSIGN_OR_RETURN(split, SplitWindows(windows, window, resolved.calibration_windows,
                                              resolved.measure_windows));
    if (Repeats(options)) split.calibration = RepeatBeginnings(std::move(split.calibration));
    LORC_RETURN_IF_ERROR(
        CheckStatisticsFiles(checkpoint, split.calibration, resolved, result.candidates));
    LORC_ASSIGN_OR_RETURN(result.full, Evaluate(*model, split.measuring, evaluation,
                                                Named(stage, "measuring the uncompressed model")));
  }
  const MeasurePlan measure = [&](const KvPlan& plan) {
    return EvaluatePlan(
        backend, checkpoint, plan, request.weight_type, split.measuring, evaluation,
        Named(stage, absl::StrCat("measuring a plan of ", plan.BytesPerToken(), " bytes")));
  };
  BuiltPlan built;
  bool predicts = false;
  if (request.search.has_value()) {
    const StatisticsOptions gather = GatherOptions(resolved);
    const CandidateInput input = {checkpoint,      spectra,         split.calibration, gather,
                                  request.options, *request.search, exact_type,        measure};
    LORC_ASSIGN_OR_RETURN(BestCandidate best, FindBestCandidate(input, &result.candidates, stage));
    options = std::move(best.options);
    built = std::move(best.built);
    result.compressed = std::move(best.evaluation);
    predicts = true;
  } else {
    Statistics statistics;
    if (options.needs_text()) {
      LORC_ASSIGN_OR_RETURN(
          statistics, CollectStatistics(checkpoint, split.calibration, GatherOptions(resolved),
                                        Named(stage, "gathering statistics")));
    }
    ModelBases bases;
    if (!options.keeps_all()) {
      LORC_ASSIGN_OR_RETURN(
          bases, ComputeBases(checkpoint, options.needs_text() ? &statistics : nullptr, options,
                              Named(stage, "computing bases")));
    }
    PlanMaker maker(config, spectra, bases, measure);
    LORC_RETURN_IF_ERROR(request.limit.has_value()
                             ? maker.Search(*request.limit, result.full, &options)
                             : maker.Make(options));
    built = std::move(maker.built());
    result.compressed = std::move(maker.evaluation());
    predicts = bases.loss_per_gain > 0;
  }
  result.ranks = std::move(built.ranks);
  result.plan = std::move(built.plan);
  KvPlan& plan = result.plan;
  NamePlan(checkpoint, resolved, split.calibration.size(), &plan);
  plan.measured.num_tokens = static_cast<int32_t>(split.measuring.size());
  plan.measured.perplexity_full = result.full.perplexity;
  plan.measured.perplexity = result.compressed.perplexity;
  plan.measured.recall_full = result.full.recall;
  plan.measured.recall = result.compressed.recall;
  if (predicts) plan.measured.predicted_loss = built.predicted_loss;
  return result;
}

Verdict JudgePlan(const PlanMeasurement& measured) {
  if (measured.num_tokens == 0 || measured.perplexity_full <= 0) {
    return {true, "this plan has not been measured"};
  }
  const double change = measured.perplexity / measured.perplexity_full - 1;
  const double recall = measured.recall - measured.recall_full;
  std::string numbers = absl::StrFormat(
      "perplexity %.4f against %.4f uncompressed (%+.2f %%), recall %.3f against %.3f nats",
      measured.perplexity, measured.perplexity_full, 100 * change, measured.recall,
      measured.recall_full);
  if (measured.predicted_loss > 0) {
    absl::StrAppendFormat(&numbers, " (predicted %+.2f %%)",
                          100 * std::expm1(measured.predicted_loss));
  }
  if (change > 0.5) {
    return {true, absl::StrCat("this plan breaks the model: ", numbers,
                               "; its answers will be nonsense. Keep more bytes, or use "
                               "--method loss with an exact prefix and window")};
  }
  if (change > 0.02 || recall > 0.2) {
    return {true, absl::StrCat("this plan costs quality: ", numbers,
                               ". Keep more bytes or a longer exact window if that is too much")};
  }
  return {false, absl::StrCat("this plan keeps the model's quality: ", numbers)};
}

}  // namespace lorc
