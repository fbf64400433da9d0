// Bytes against quality on the real model: every method of the papers, ours, and the quantised full
// caches that people would use instead, in one table. Run by hand: texts are not part of the
// project.
//
//   pareto MODEL CALIBRATION_TEXT EVALUATION_TEXT [--only TEXT...] [--windows 8] [--json FILE]
//     [--html FILE]
//
// Where the laboratory (torch, float32) has a figure for the same plan, it stands beside ours. Its
// exact window ends at a token, ours at a block of 16 tokens (64 tokens of window are 49 to 64
// here); its key statistics are rotated within 1,024 tokens. It measures a plan that breaks the
// model on the first four windows only, as the uncompressed mean over eight plus the change on
// four; ours is then that figure too. Method loss is calibrated as `lorc compress` does it, the
// laboratory's on windows of 1,024 tokens that do not end as they begin. Its numbers for
// progressive LoRC are of our rounded ranks and, with a window, of one that ends at a block.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/cpu/cpu_backend.h"
#include "runtime/compress/build_plan.h"
#include "runtime/compress/calibration_text.h"
#include "runtime/compress/compress.h"
#include "runtime/compress/evaluate.h"
#include "runtime/compress/offline_model.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/weights/status_macros.h"
#include "tests/bench/pareto_page.h"
#include "tests/bench/per_channel_keys.h"

namespace lorc {
namespace {

constexpr auto kDirect = KvLayoutKind::kDirect;
constexpr auto kRebuilt = KvLayoutKind::kRebuilt;
constexpr int32_t kWindow = 1024;

struct Row {
  enum class Kind { kMethod, kKeysOnly, kFullMixed, kPerChannel };
  std::string name;
  Kind kind = Kind::kMethod;
  CompressionOptions options;
  int32_t bits = 0;                                    // kPerChannel
  std::optional<double> perplexity = {}, recall = {};  // the laboratory's
};

CompressionOptions Lorc(RankRule rule, int32_t prefix, int32_t window) {
  CompressionOptions options;
  options.method = "lorc";
  options.keys = kRebuilt;
  options.rank_rule = rule;
  options.latent_type = SegmentType::kF32;
  options.exact_prefix = prefix;
  options.exact_window = window;
  return options;
}

CompressionOptions KvCore(KvLayoutKind keys, double kept, SegmentType type, int32_t prefix,
                          int32_t window) {
  CompressionOptions options;
  options.method = "kv-core";
  options.keys = keys;
  options.target_kept = kept;
  options.latent_type = type;
  options.anchor = kWindow;
  options.exact_prefix = prefix;
  options.exact_window = window;
  return options;
}

CompressionOptions KqSvd(int32_t groups) {
  CompressionOptions options = KvCore(kDirect, 0.5, SegmentType::kF32, 16, 64);
  options.method = "kq-svd";
  options.groups = groups;
  return options;
}

CompressionOptions Loss(KvLayoutKind keys, int64_t bytes, int32_t anchor) {
  CompressionOptions options;
  options.keys = keys;
  options.bytes_per_token = bytes;
  options.anchor = anchor;
  return options;
}

CompressionOptions Full(SegmentType type) {
  CompressionOptions options;
  options.method = "full";
  options.latent_type = type;
  return options;
}

// Everything is kept, mixed inside its segments.
CompressionOptions Mixed(SegmentType type) {
  CompressionOptions options = KvCore(kDirect, 1, type, 16, 64);
  options.groups = 0;  // one per KV head
  return options;
}

std::vector<Row> Rows(const ModelConfig& config) {
  const auto method = [](const char* name, const CompressionOptions& options,
                         std::optional<double> perplexity = {}, std::optional<double> recall = {}) {
    return Row{name, Row::Kind::kMethod, options, 0, perplexity, recall};
  };
  std::vector<Row> rows = {
      {"LoRC, keys only, uniform, 0.75", Row::Kind::kKeysOnly, Lorc(RankRule::kUniform, 0, 0), 0,
       18.7597, 0.3326},
      method("LoRC, progressive, 0.75", Lorc(RankRule::kProgressive, 0, 0), 4186.6058, 7.6681),
      method("LoRC, progressive, 0.75, exact 16 + 64", Lorc(RankRule::kProgressive, 16, 64),
             24.6051, 1.1126),
      method("KV-CoRE, rebuilt, 0.5", KvCore(kRebuilt, 0.5, SegmentType::kF32, 0, 0), 23.0186,
             0.9585),
      method("KV-CoRE, rebuilt, 0.5, exact 16 + 64",
             KvCore(kRebuilt, 0.5, SegmentType::kF32, 16, 64), 18.0120, 0.1827),
      method("KV-CoRE, direct, 0.75, int8, exact 16 + 64",
             KvCore(kDirect, 0.75, SegmentType::kInt8, 16, 64), 17.9934, 0.1610),
      method("KV-CoRE, direct, 0.625, int8, exact 16 + 64",
             KvCore(kDirect, 0.625, SegmentType::kInt8, 16, 64), 18.0065, 0.1892),
      method("KQ-SVD, per head, 0.5, exact 16 + 64", KqSvd(config.num_kv_heads), 18.6245, 1.1064),
      method("loss, direct, 3600, anchor 1024", Loss(kDirect, 3600, 1024), 17.9483, 0.1534),
      method("loss, rebuilt, 3600", Loss(kRebuilt, 3600, 0), 17.9763, 0.1439),
  };
  for (const int64_t bytes : {12960, 11520, 7200, 5760, 5000, 4320, 3600, 2700, 1800}) {
    rows.push_back(
        method(absl::StrFormat("loss, direct, %d", bytes).c_str(), Loss(kDirect, bytes, 256)));
  }
  for (const int64_t bytes : {2700, 1800}) {
    rows.push_back(
        method(absl::StrFormat("loss, rebuilt, %d", bytes).c_str(), Loss(kRebuilt, bytes, 0)));
  }
  for (const SegmentType type : {SegmentType::kInt8, SegmentType::kFp8, SegmentType::kInt4,
                                 SegmentType::kInt3, SegmentType::kInt2}) {
    rows.push_back(
        {absl::StrFormat("full cache, %s per token", Name(type)), Row::Kind::kMethod, Full(type)});
    if (type == SegmentType::kFp8 || type == SegmentType::kInt8) continue;
    rows.push_back({absl::StrFormat("full cache, %s per token, mixed", Name(type)),
                    Row::Kind::kFullMixed, Mixed(type)});
  }
  for (const int32_t bits : {4, 3, 2}) {
    CompressionOptions options = Full(SegmentType::kF32);
    options.exact_prefix = 32;  // whole runs of 32 tokens: 16 tokens more than the others keep
    rows.push_back({absl::StrFormat("full cache, int%d, keys per channel over 32 tokens", bits),
                    Row::Kind::kPerChannel, options, bits});
  }
  return rows;
}

ParetoFamily FamilyOf(const Row& row) {
  const CompressionOptions& options = row.options;
  if (row.kind == Row::Kind::kFullMixed) return {"integers, mixed", true};
  if (row.kind == Row::Kind::kPerChannel) return {"integers, keys per channel", true};
  if (options.keeps_all()) {
    if (options.latent_type == SegmentType::kFp8) return {"fp8"};
    return {"integers per token", true};
  }
  if (options.method == "loss") return {absl::StrCat("loss, ", Name(options.keys)), true};
  if (options.method == "kq-svd") return {"KQ-SVD"};
  return {options.method == "lorc" ? "LoRC" : "KV-CoRE"};
}

// Numbers that are kept in float32 here, to compare with the laboratory, would be bf16.
int64_t ExtraBytes(const KvPlan& plan) {
  int64_t bytes = 0;
  for (const LayerPlan& layer : plan.layers) {
    for (const TensorPlan* tensor : {&layer.key, &layer.value}) {
      for (const CacheSegment& segment : tensor->segments) {
        if (segment.type == SegmentType::kF32) bytes += 2 * tensor->groups * segment.width;
      }
    }
  }
  return bytes;
}

// Bases that keep everything as it is, so that only the mix of a plan's segments remains.
ModelBases IdentityBases(const ModelConfig& config) {
  GroupBasis identity;
  const int64_t d = config.head_dim;
  identity.encoder.assign(d * d, 0.0);
  for (int64_t i = 0; i < d; ++i) identity.encoder[i * d + i] = 1;
  identity.decoder = identity.encoder;
  identity.gains.assign(d, 1.0);
  ModelBases bases;
  const std::vector<GroupBasis> heads(config.num_kv_heads, identity);
  bases.layers.assign(config.num_layers, {heads, heads});
  return bases;
}

class Pareto {
 public:
  absl::Status Open(const std::string& model, const std::string& calibration,
                    const std::string& evaluation, int32_t num_windows, int32_t loss_window) {
    model_ = model;
    LORC_ASSIGN_OR_RETURN(checkpoint_, Checkpoint::Open(model));
    LORC_ASSIGN_OR_RETURN(Vocabulary vocabulary, checkpoint_->ReadVocabulary());
    LORC_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Create(std::move(vocabulary)));
    LORC_ASSIGN_OR_RETURN(const std::string calibration_text, ReadTextFile(calibration));
    LORC_ASSIGN_OR_RETURN(const std::string evaluation_text, ReadTextFile(evaluation));
    tokens_ = tokenizer->Encode(evaluation_text, false);
    const std::vector<TokenId> text = tokenizer->Encode(calibration_text, false);
    const TokenWindows windows = CutWindows(text, kWindow);
    // Every second of the first 30, as the laboratory.
    for (size_t i = 0; i < windows.size() && i < 30; i += 2) calibration_.push_back(windows[i]);
    if (calibration_.empty()) {
      return absl::InvalidArgumentError("the calibration text has no whole window");
    }
    CompressRequest chosen;
    chosen.window = loss_window;
    ChooseWindows(std::ssize(text), config().context_length, &chosen);
    LORC_ASSIGN_OR_RETURN(SplitText split,
                          SplitWindows(CutWindows(text, chosen.window), chosen.window,
                                       chosen.calibration_windows, chosen.measure_windows));
    loss_calibration_ = RepeatBeginnings(std::move(split.calibration));
    gradient_windows_ = chosen.gradient_windows;
    evaluation_.window = kWindow;
    evaluation_.max_windows = num_windows;
    LORC_ASSIGN_OR_RETURN(spectra_, ComputeWeightSpectra(*checkpoint_, nullptr));
    return absl::OkStatus();
  }

  const ModelConfig& config() const { return checkpoint_->config(); }
  int32_t num_windows() const { return full_.num_windows; }

  absl::StatusOr<ParetoRow> MeasureFull() {
    LORC_ASSIGN_OR_RETURN(full_, Measure(KvPlan::Full(config(), SegmentType::kF32), 0));
    ParetoRow result;
    result.name = "uncompressed";
    result.bytes_per_token =
        static_cast<double>(KvPlan::Full(config(), SegmentType::kBf16).BytesPerToken());
    result.perplexity = full_.perplexity;
    result.recall = full_.recall;
    return result;
  }

  absl::StatusOr<ParetoRow> Run(const Row& row) {
    ParetoRow result;
    result.name = row.name;
    result.family = FamilyOf(row);
    KvPlan plan;
    if (row.options.keeps_all()) {
      LORC_ASSIGN_OR_RETURN(plan, BuildFullPlan(config(), row.options));
    } else {
      LORC_ASSIGN_OR_RETURN(BuiltPlan built, Build(row));
      plan = std::move(built.plan);
      if (row.options.method == "loss" && row.kind == Row::Kind::kMethod) {
        result.predicted = std::expm1(built.predicted_loss);
      }
    }
    if (row.kind == Row::Kind::kKeysOnly) {
      const KvPlan full = KvPlan::Full(config(), SegmentType::kF32);
      for (size_t l = 0; l < plan.layers.size(); ++l) plan.layers[l].value = full.layers[l].value;
    }
    result.bytes_per_token =
        row.kind == Row::Kind::kPerChannel
            ? config().num_layers * PerChannelKeysBytes(config().kv_width(), row.bits, 32)
            : static_cast<double>(plan.BytesPerToken() - ExtraBytes(plan));
    LORC_ASSIGN_OR_RETURN(const Evaluation evaluation, Measure(plan, row.bits));
    double change = 0;
    for (int i = 0; i < 4 && i < evaluation.num_windows; ++i) {
      change += (evaluation.window_nll[i] - full_.window_nll[i]) / 4;
    }
    result.perplexity =
        change > std::log(5.0) ? std::exp(full_.nll + change) : evaluation.perplexity;
    result.change = result.perplexity / full_.perplexity - 1;
    result.recall = evaluation.recall;
    return result;
  }

 private:
  absl::StatusOr<BuiltPlan> Build(const Row& row) {
    CompressionOptions options = row.options;
    if (row.kind == Row::Kind::kFullMixed) {
      options.groups = config().num_kv_heads;
      return BuildPlan(config(), spectra_, IdentityBases(config()), options);
    }
    const Statistics* statistics = nullptr;
    if (options.needs_text()) {
      const bool loss = options.method_info().needs_gradients;
      const std::pair key(loss, options.anchor);
      auto found = statistics_.find(key);
      if (found == statistics_.end()) {
        StatisticsOptions gather;
        gather.anchor = options.anchor;
        if (loss) gather.gradient_windows = gradient_windows_;
        LORC_ASSIGN_OR_RETURN(
            Statistics gathered,
            CollectStatistics(*checkpoint_, loss ? loss_calibration_ : calibration_, gather,
                              nullptr));
        found = statistics_.emplace(key, std::move(gathered)).first;
      }
      statistics = &found->second;
    }
    LORC_ASSIGN_OR_RETURN(const ModelBases bases,
                          ComputeBases(*checkpoint_, statistics, options, nullptr));
    return BuildPlan(config(), spectra_, bases, options);
  }

  // `bits` > 0: of the rival with keys per channel.
  absl::StatusOr<Evaluation> Measure(const KvPlan& plan, int32_t bits) {
    LORC_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, MakeCpuBackend(0));
    OfflineOptions offline;
    offline.weight_type = DType::kF32;
    if (bits > 0) {
      backend = PerChannelKeys(std::move(backend), bits);
      offline.block_tokens = 32;
    }
    LORC_ASSIGN_OR_RETURN(const auto executor,
                          MakeOfflineModel(*backend, *checkpoint_, plan, offline, nullptr));
    return Evaluate(*executor, tokens_, evaluation_, nullptr);
  }

  std::string model_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<TokenId> tokens_;
  TokenWindows calibration_;       // of the papers' methods
  TokenWindows loss_calibration_;  // as `lorc compress` makes them
  int32_t gradient_windows_ = 0;
  EvaluationOptions evaluation_;
  std::vector<LayerSpectra> spectra_;
  std::map<std::pair<bool, int32_t>, Statistics> statistics_;  // by whether of loss, and anchor
  Evaluation full_;
};

struct Arguments {
  std::string model, calibration, evaluation, json, html;
  std::vector<std::string> only;  // none: all rows

  bool Wants(const std::string& name) const {
    return only.empty() || std::any_of(only.begin(), only.end(), [&](const std::string& text) {
             return name.find(text) != std::string::npos;
           });
  }
  int32_t windows = 8;
  int32_t loss_window = 0;
};

void Print(const Row& row, const ParetoRow& result, const ParetoRow& full) {
  std::printf("%-48s %8.0f %4.1f %% %11.4f %+7.2f %% ", row.name.c_str(), result.bytes_per_token,
              100 * result.bytes_per_token / full.bytes_per_token, result.perplexity,
              100 * result.change);
  if (result.predicted > 0) {
    std::printf("%+7.2f %% ", 100 * result.predicted);
  } else {
    std::printf("%9s ", "");
  }
  std::printf("%8.4f %+8.4f |", result.recall, result.recall - full.recall);
  if (row.perplexity.has_value()) {
    std::printf(" %10.4f %+6.2f %% %8.4f %+7.4f", *row.perplexity,
                100 * (result.perplexity / *row.perplexity - 1), *row.recall,
                result.recall - *row.recall);
  }
  std::printf("\n");
  std::fflush(stdout);
}

std::string ParetoJson(const ParetoReport& report) {
  const ParetoRow& full = report.uncompressed;
  nlohmann::json rows = nlohmann::json::array();
  rows.push_back({{"name", full.name},
                  {"bytes_per_token", full.bytes_per_token},
                  {"perplexity", full.perplexity},
                  {"recall", full.recall}});
  for (const ParetoRow& row : report.rows) {
    rows.push_back({{"name", row.name},
                    {"bytes_per_token", row.bytes_per_token},
                    {"perplexity", row.perplexity},
                    {"perplexity_change", row.change},
                    {"recall", row.recall}});
  }
  return rows.dump(2) + "\n";
}

// Nothing where there is no path.
absl::Status WriteFile(const std::string& path, std::string_view text) {
  if (path.empty()) return absl::OkStatus();
  std::ofstream file(path);
  file << text << std::flush;
  return file.good() ? absl::OkStatus() : absl::UnavailableError("cannot write " + path);
}

absl::Status Run(const Arguments& arguments) {
  Pareto pareto;
  LORC_RETURN_IF_ERROR(pareto.Open(arguments.model, arguments.calibration, arguments.evaluation,
                                   arguments.windows, arguments.loss_window));
  ParetoReport report;
  report.model = pareto.config().name;
  report.text = std::filesystem::path(arguments.evaluation).filename().string();
  report.window = kWindow;
  LORC_ASSIGN_OR_RETURN(report.uncompressed, pareto.MeasureFull());
  report.num_windows = pareto.num_windows();
  const ParetoRow& full = report.uncompressed;
  std::printf("%-48s %8s %6s %11s %9s %9s %8s %8s | %10s %8s %8s %7s\n", "plan", "bytes", "kept",
              "perplexity", "change", "predicted", "recall", "change", "laboratory", "dev.",
              "recall", "dev.");
  std::printf("%-48s %8.0f %6s %11.4f %9s %9s %8.4f\n", full.name.c_str(), full.bytes_per_token,
              "100 %", full.perplexity, "", "", full.recall);
  for (const Row& row : Rows(pareto.config())) {
    if (!arguments.Wants(row.name)) continue;
    LORC_ASSIGN_OR_RETURN(ParetoRow result, pareto.Run(row));
    Print(row, result, full);
    report.rows.push_back(std::move(result));
  }
  LORC_RETURN_IF_ERROR(WriteFile(arguments.json, ParetoJson(report)));
  return WriteFile(arguments.html, ParetoPage(report));
}

}  // namespace
}  // namespace lorc

int main(int argc, char** argv) {
  lorc::Arguments arguments;
  CLI::App app("Bytes against quality: all methods and their rivals");
  app.add_option("model", arguments.model, "GGUF file or Hugging Face folder")->required();
  app.add_option("calibration", arguments.calibration, "Text for statistics")->required();
  app.add_option("evaluation", arguments.evaluation, "Text to measure on")->required();
  app.add_option("--only", arguments.only, "Rows whose name has one of these in it");
  app.add_option("--windows", arguments.windows, "Windows of perplexity")->capture_default_str();
  app.add_option("--loss-window", arguments.loss_window,
                 "Calibration window of method loss (default: what lorc compress chooses)");
  app.add_option("--json", arguments.json, "Also write the rows as JSON");
  app.add_option("--html", arguments.html, "Also write them as a page with charts");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = lorc::Run(arguments);
  if (!status.ok()) std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
