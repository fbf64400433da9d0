#include "runtime/compress/compress.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/compress/offline_model.h"
#include "runtime/compress/sample_text.h"
#include "runtime/tokenizer/utf8.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr int32_t kSampledAtOnce = 16;  // sequences

using Windows = std::vector<std::vector<TokenId>>;

struct SplitText {
  Windows calibration;
  std::vector<TokenId> measuring;  // whole windows, one after the other
};

// Every `stride`-th window is for calibration, of the others the first for measuring. A quarter of
// the text at least is kept for measuring.
absl::StatusOr<SplitText> Split(const Windows& windows, const CompressRequest& request) {
  const auto available = static_cast<int32_t>(windows.size());
  if (available < 2) {
    return absl::FailedPreconditionError(
        absl::StrCat("the calibration text has ", available, " whole windows of ", request.window,
                     " tokens; at least 2 are needed, one to calibrate and one to measure: give a "
                     "longer text or a smaller --window"));
  }
  const int32_t most = std::max(1, available - std::max(1, available / 4));
  const int32_t count = std::min(request.calibration_windows, most);
  const int32_t stride = std::max(1, available / count);
  SplitText split;
  int32_t measured = 0;
  for (int32_t i = 0; i < available; ++i) {
    if (i % stride == 0 && std::ssize(split.calibration) < count) {
      split.calibration.push_back(windows[i]);
    } else if (measured < request.measure_windows) {
      split.measuring.insert(split.measuring.end(), windows[i].begin(), windows[i].end());
      ++measured;
    }
  }
  return split;
}

Windows Cut(const std::vector<TokenId>& tokens, int32_t window) {
  Windows windows;
  for (int64_t begin = 0; begin + window <= std::ssize(tokens); begin += window) {
    windows.emplace_back(tokens.begin() + begin, tokens.begin() + begin + window);
  }
  return windows;
}

std::string PlanName(const CompressRequest& request) {
  const CompressionOptions& options = request.options;
  if (options.method == CompressionMethod::kFull) {
    return absl::StrCat(Name(options.method), "-", Name(options.latent_type));
  }
  const std::string kept = options.min_rank.has_value()
                               ? absl::StrCat("min", *options.min_rank)
                               : absl::StrCat(std::lround(options.target_kept * 100), "%");
  return absl::StrCat(Name(options.method), "-", Name(options.keys), "-", kept, "-",
                      Name(options.latent_type));
}

std::map<std::string, std::string> DescribeOptions(const CompressRequest& request,
                                                   size_t calibration_windows) {
  const CompressionOptions& options = request.options;
  if (options.method == CompressionMethod::kFull) {
    return {{"latent_type", Name(options.latent_type)},
            {"segment_width", absl::StrCat(options.segment_width)}};
  }
  const char* rules[] = {"uniform", "progressive", "energy"};
  std::map<std::string, std::string> described = {
      {"keys", Name(options.keys)},
      {"groups", absl::StrCat(options.groups)},
      {"ranks", rules[static_cast<int>(options.rank_rule)]},
      {"latent_type", Name(options.latent_type)},
  };
  if (options.min_rank.has_value()) {
    described["min_rank"] = absl::StrCat(*options.min_rank);
  } else {
    described["target_kept"] = absl::StrCat(options.target_kept);
  }
  if (options.threshold.has_value()) described["threshold"] = absl::StrCat(*options.threshold);
  if (options.method == CompressionMethod::kKvCore) {
    described["calibration"] = absl::StrCat(
        calibration_windows, " windows of ", request.window, " tokens, ",
        request.text.empty() ? absl::StrCat("written by the model, seed ", request.seed)
                             : "given text");
  }
  return described;
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  std::error_code unknown;
  if (std::filesystem::is_directory(path, unknown)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected a text file, got a folder"));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file.is_open()) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open the text ", path));
  }
  std::ostringstream bytes;
  bytes << file.rdbuf();
  std::string text = std::move(bytes).str();
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": the file is empty"));
  if (text.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected a UTF-8 text, but the file is binary (it has NUL bytes)"));
  }
  if (const int64_t valid = ValidUtf8Prefix(text); valid < std::ssize(text)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected a UTF-8 text, but byte ",
                                                   valid, " is none; convert it, with iconv say"));
  }
  return text;
}

absl::StatusOr<CompressResult> Compress(Backend& backend, const Checkpoint& checkpoint,
                                        const Tokenizer& tokenizer, const CompressRequest& request,
                                        const StageProgress& stage) {
  const ModelConfig& config = checkpoint.config();
  LORC_RETURN_IF_ERROR(request.options.Validate(config));
  if (request.window < 32 || request.window > config.context_length) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--window: expected 32 to ", config.context_length, " tokens, got ", request.window));
  }
  const auto named = [&stage](const char* name) -> Progress {
    if (!stage) return nullptr;
    return [&stage, name](double share) { stage(name, share); };
  };
  OfflineOptions offline;
  offline.weight_type = request.weight_type;
  offline.max_sequence_tokens = request.window;
  offline.num_sequences = request.text.empty() ? kSampledAtOnce : 1;

  // A full cache needs no decompositions or statistics.
  const bool full = request.options.method == CompressionMethod::kFull;
  const bool measures = !full || !request.text.empty();
  CompressResult result;
  std::vector<LayerSpectra> spectra;
  if (!full) {
    // The weights first: what they do not allow is said before the model has written for minutes.
    LORC_ASSIGN_OR_RETURN(spectra, ComputeWeightSpectra(checkpoint, named("decomposing weights")));
    LORC_RETURN_IF_ERROR(CheckSpectra(config, spectra, request.options));
    result.log_condition = LogConditions(spectra);
  }
  Moments moments;
  SplitText split;
  EvaluationOptions evaluation;
  evaluation.window = request.window;
  if (measures) {
    LORC_ASSIGN_OR_RETURN(
        const auto model,
        MakeOfflineModel(backend, checkpoint,
                         KvPlan::Full(config, SegmentTypeOf(ExactType(request.weight_type))),
                         offline, named("reading weights")));
    Windows windows;
    if (request.text.empty()) {
      SampleOptions sample;
      sample.num_windows = request.calibration_windows + request.measure_windows;
      sample.window = request.window;
      sample.seed = request.seed;
      LORC_ASSIGN_OR_RETURN(
          windows, SampleWindows(*model, tokenizer, sample, named("writing calibration text")));
    } else {
      windows = Cut(tokenizer.Encode(request.text, /*parse_special=*/false), request.window);
    }
    LORC_ASSIGN_OR_RETURN(split, Split(windows, request));
    if (request.options.method == CompressionMethod::kKvCore) {
      LORC_ASSIGN_OR_RETURN(moments,
                            CollectMoments(*model, split.calibration, request.options.anchor,
                                           named("gathering statistics")));
    }
    LORC_ASSIGN_OR_RETURN(result.full, Evaluate(*model, split.measuring, evaluation,
                                                named("measuring the uncompressed model")));
  }
  LORC_ASSIGN_OR_RETURN(BuiltPlan built, BuildPlan(config, spectra, &moments, request.options));
  result.ranks = std::move(built.ranks);
  result.plan = std::move(built.plan);
  KvPlan& plan = result.plan;
  plan.name = PlanName(request);
  plan.options = DescribeOptions(request, split.calibration.size());
  plan.base_fingerprint = checkpoint.Fingerprint();
  plan.base_name = config.name;
  if (!measures) return result;
  offline.num_sequences = 1;
  LORC_ASSIGN_OR_RETURN(const auto model, MakeOfflineModel(backend, checkpoint, plan, offline,
                                                           named("reading weights")));
  LORC_ASSIGN_OR_RETURN(result.compressed,
                        Evaluate(*model, split.measuring, evaluation, named("measuring the plan")));
  plan.measured.num_tokens = static_cast<int32_t>(split.measuring.size());
  plan.measured.perplexity_full = result.full.perplexity;
  plan.measured.perplexity = result.compressed.perplexity;
  plan.measured.recall_full = result.full.recall;
  plan.measured.recall = result.compressed.recall;
  return result;
}

Verdict JudgePlan(const PlanMeasurement& measured) {
  if (measured.num_tokens == 0 || measured.perplexity_full <= 0) {
    return {true, "this plan has not been measured"};
  }
  const double change = measured.perplexity / measured.perplexity_full - 1;
  const double recall = measured.recall - measured.recall_full;
  const std::string numbers = absl::StrFormat(
      "perplexity %.4f against %.4f uncompressed (%+.2f %%), recall %.3f against %.3f nats",
      measured.perplexity, measured.perplexity_full, 100 * change, measured.recall,
      measured.recall_full);
  if (change > 0.5) {
    return {true, absl::StrCat("this plan breaks the model: ", numbers,
                               "; its answers will be nonsense. Keep more ranks or bits, or use "
                               "--method kv-core with an exact prefix and window")};
  }
  if (change > 0.02 || recall > 0.2) {
    return {true, absl::StrCat(
                      "this plan costs quality: ", numbers,
                      ". Keep more ranks or bits, or a longer exact window, if that is too much")};
  }
  return {false, absl::StrCat("this plan keeps the model's quality: ", numbers)};
}

}  // namespace lorc
