// Plans of one size on long contexts: perplexity by position and recall by distance, for layouts,
// anchors and ways to calibrate. Run by hand: texts are not part of the project.
//
//   long_context MODEL CALIBRATION_TEXT EVALUATION_TEXT [--window 4096] [--bytes 3600]
//     [--only TEXT...]

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>
#include <CLI/CLI.hpp>

#include "absl/strings/str_format.h"
#include "kernels/cpu/cpu_backend.h"
#include "runtime/compress/compress.h"
#include "runtime/compress/quality.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

struct Arguments {
  std::string model, calibration, evaluation;
  std::vector<std::string> only;  // none: all rows
  int32_t window = 4096;
  int32_t max_windows = 4;
  int64_t bytes = 3600;
  std::vector<int32_t> distances = {700, 1800, 3700};

  bool Wants(const std::string& name) const {
    return only.empty() || std::any_of(only.begin(), only.end(), [&](const std::string& text) {
             return name.find(text) != std::string::npos;
           });
  }
};

struct Row {
  std::string name;
  KvLayoutKind keys = KvLayoutKind::kDirect;
  int32_t anchor = 256;
  int32_t calibration_window = 0;  // tokens; 0: what `lorc compress` chooses
  bool repeats = true;
  int32_t gradient_window = 64;  // queries nearer than this give no gradients
  int32_t exact_prefix = 16;
  int32_t exact_window = 64;
};

std::vector<Row> Rows() {
  std::vector<Row> rows;
  for (const int32_t anchor : {64, 128, 256, 1024}) {
    rows.push_back({.name = absl::StrFormat("direct, anchor %d", anchor), .anchor = anchor});
  }
  rows.push_back({.name = "rebuilt", .keys = KvLayoutKind::kRebuilt});
  for (const int32_t window : {1024, 2048, 4096}) {
    for (const bool repeats : {true, false}) {
      rows.push_back({.name = absl::StrFormat("calibrated at %d%s", window,
                                              repeats ? "" : ", nothing repeats"),
                      .calibration_window = window,
                      .repeats = repeats});
    }
  }
  rows.push_back({.name = "gradients of queries beyond 512", .gradient_window = 512});
  rows.push_back({.name = "exact prefix 128", .exact_prefix = 128});
  rows.push_back({.name = "exact window 256", .gradient_window = 256, .exact_window = 256});
  return rows;
}

absl::Status Run(const Arguments& arguments) {
  LORC_ASSIGN_OR_RETURN(const auto backend, MakeCpuBackend(0));
  LORC_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(arguments.model));
  const ModelConfig& config = checkpoint->config();
  LORC_ASSIGN_OR_RETURN(Vocabulary vocabulary, checkpoint->ReadVocabulary());
  LORC_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Create(std::move(vocabulary)));
  LORC_ASSIGN_OR_RETURN(const std::string calibration_text, ReadTextFile(arguments.calibration));
  LORC_ASSIGN_OR_RETURN(const std::string evaluation_text, ReadTextFile(arguments.evaluation));
  const auto calibration = tokenizer->Encode(calibration_text, false);
  QualityOptions options;
  options.evaluation.window = arguments.window;
  options.evaluation.max_windows = arguments.max_windows;
  options.evaluation.recall = false;
  options.recall_distances = arguments.distances;
  LORC_ASSIGN_OR_RETURN(QualityMeter meter,
                        QualityMeter::Make(*backend, *checkpoint, DType::kBf16,
                                           tokenizer->Encode(evaluation_text, false), options));
  LORC_ASSIGN_OR_RETURN(const auto spectra, ComputeWeightSpectra(*checkpoint, nullptr));
  LORC_ASSIGN_OR_RETURN(const Quality full, meter.MeasureUncompressed(nullptr));
  const auto print = [&](const std::string& name, const Quality& quality) {
    std::printf("%-54s %9.4f %+7.2f %% |", name.c_str(), quality.evaluation.perplexity,
                100 * (quality.evaluation.perplexity / full.evaluation.perplexity - 1));
    for (size_t i = 0; i < full.evaluation.position_nll.size(); ++i) {
      std::printf(" %+.3f", quality.evaluation.position_nll[i] - full.evaluation.position_nll[i]);
    }
    std::printf(" |");
    for (const DistanceRecall& recall : quality.distances) std::printf(" %6.3f", recall.nll);
    std::printf("\n");
    std::fflush(stdout);
  };
  std::printf("%-54s %9s %9s | loss by eighths of %d tokens (nats) | recall at", "plan",
              "perplexity", "change", arguments.window);
  for (const int32_t distance : arguments.distances) std::printf(" %d", distance);
  std::printf("\n");
  print("uncompressed", full);
  for (const Row& row : Rows()) {
    if (!arguments.Wants(row.name)) continue;
    CompressRequest windows;
    windows.window = row.calibration_window;
    ChooseWindows(std::ssize(calibration), config.context_length, &windows);
    LORC_ASSIGN_OR_RETURN(SplitText split,
                          SplitWindows(CutWindows(calibration, windows.window), windows.window,
                                       windows.calibration_windows, windows.measure_windows));
    if (row.repeats) split.calibration = RepeatBeginnings(std::move(split.calibration));
    CompressionOptions compression;
    compression.keys = row.keys;
    compression.anchor = row.anchor;
    compression.bytes_per_token = arguments.bytes;
    compression.exact_prefix = row.exact_prefix;
    compression.exact_window = row.exact_window;
    StatisticsOptions gather;
    gather.anchor = row.anchor;
    gather.exact_prefix = row.exact_prefix;
    gather.exact_window = row.gradient_window;
    gather.gradient_windows = windows.gradient_windows;
    LORC_ASSIGN_OR_RETURN(const Statistics statistics,
                          CollectStatistics(*checkpoint, split.calibration, gather, nullptr));
    LORC_ASSIGN_OR_RETURN(const ModelBases bases,
                          ComputeBases(*checkpoint, &statistics, compression, nullptr));
    LORC_ASSIGN_OR_RETURN(const BuiltPlan built, BuildPlan(config, spectra, bases, compression));
    LORC_ASSIGN_OR_RETURN(const Quality quality, meter.Measure(built.plan, nullptr));
    print(row.name, quality);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace lorc

int main(int argc, char** argv) {
  lorc::Arguments arguments;
  CLI::App app("Plans of one size on long contexts");
  app.add_option("model", arguments.model, "GGUF file or Hugging Face folder")->required();
  app.add_option("calibration", arguments.calibration, "Text for statistics")->required();
  app.add_option("evaluation", arguments.evaluation, "Text to measure on")->required();
  app.add_option("--window", arguments.window, "Tokens of a window")->capture_default_str();
  app.add_option("--max-windows", arguments.max_windows, "Windows at most")->capture_default_str();
  app.add_option("--bytes", arguments.bytes, "Bytes per token")->capture_default_str();
  app.add_option("--distances", arguments.distances, "Of recall, in tokens")->delimiter(',');
  app.add_option("--only", arguments.only, "Rows whose name has one of these in it");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = lorc::Run(arguments);
  if (!status.ok()) std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
