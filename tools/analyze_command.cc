#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>

#include "absl/strings/str_cat.h"
#include "runtime/compress/analyze.h"
#include "runtime/compress/calibration_text.h"
#include "runtime/weights/status_macros.h"
#include "tools/analyze_page.h"
#include "tools/analyze_report.h"
#include "tools/commands.h"
#include "tools/model_options.h"
#include "tools/output_file.h"
#include "tools/terminal.h"

namespace lorc {
namespace {

struct AnalyzeCommand {
  ModelOptions model;
  std::vector<std::string> texts;
  std::string keys = "rebuilt";
  std::string html;
  double per_layer = 0;
  bool gradients = false;
  bool json = false;
  int gradient_windows = 8;
  AnalysisRequest request;
  CLI::App* app = nullptr;

  // Files' names where they differ, else whole paths.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const std::string& path : texts) {
      names.push_back(std::filesystem::path(path).filename().string());
    }
    const bool differ = std::set(names.begin(), names.end()).size() == names.size();
    return differ ? names : texts;
  }

  absl::StatusOr<AnalysisRequest> Request(const OpenedModel& opened) const {
    AnalysisRequest full = request;
    const std::vector<std::string> names = Names();
    for (size_t i = 0; i < texts.size(); ++i) {
      LORC_ASSIGN_OR_RETURN(std::string text, ReadTextFile(texts[i]));
      full.texts.push_back({names[i], std::move(text)});
    }
    full.keys = keys == "direct" ? KvLayoutKind::kDirect : KvLayoutKind::kRebuilt;
    if (app->count("--per-layer") > 0) full.per_layer = per_layer;
    if (gradients) full.gradient_windows = gradient_windows;
    full.weight_type = opened.weight_type;
    full.num_threads = model.threads;
    return full;
  }

  absl::Status Run() const {
    if (!html.empty()) LORC_RETURN_IF_ERROR(CheckOutputFile("--html", html));
    LORC_ASSIGN_OR_RETURN(const OpenedModel opened, OpenModel(model));
    AnalyzeReport report;
    LORC_ASSIGN_OR_RETURN(report.request, Request(opened));
    report.model = opened.checkpoint->config().name;
    report.weights = Name(opened.weight_type);
    ProgressLine progress;
    auto analysis =
        Analyze(*opened.backend, *opened.checkpoint, *opened.tokenizer, report.request,
                [&](const std::string& stage, double share) { progress.Show(stage, share); });
    progress.Clear();
    if (!analysis.ok()) return analysis.status();
    report.analysis = *std::move(analysis);
    if (!html.empty()) LORC_RETURN_IF_ERROR(WriteOutputFile(html, AnalyzePage(report)));
    if (json) {
      std::printf("%s\n", AnalyzeJson(report).c_str());
    } else {
      std::printf("%s", AnalyzeTable(report).c_str());
      if (!html.empty()) std::printf("wrote %s\n", html.c_str());
    }
    return absl::OkStatus();
  }
};

}  // namespace

void AddAnalyzeCommand(CLI::App& app, int* status) {
  auto command = std::make_shared<AnalyzeCommand>();
  CLI::App* sub = app.add_subcommand(
      "analyze", "How compressible keys and values are, layer by layer and text by text");
  command->app = sub;
  command->model.AddTo(*sub);
  AnalysisRequest& request = command->request;
  sub->add_option(
      "--text", command->texts,
      "Text file; several are compared. Without one: text that the model writes itself");
  sub->add_flag("--own-text", request.own_text, "Compare with text that the model writes itself");
  sub->add_flag("--gradients", command->gradients,
                "Predict from the loss' gradients what dropping numbers costs");
  sub->add_option("--levels", request.levels,
                  "Shares of the directions to which the model is truncated for ND-PPL")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
  sub->add_option("--per-layer", command->per_layer,
                  "Truncate one layer at a time to this share, too");
  sub->add_option("--keys", command->keys, "Truncate keys before RoPE (rebuilt) or after (direct)")
      ->check(CLI::IsMember({"rebuilt", "direct"}))
      ->capture_default_str();
  sub->add_option("--html", command->html, "Write the report as a page to this file");
  sub->add_flag("--json", command->json, "Print one JSON object");
  sub->add_option("--anchor", request.anchor,
                  "Tokens of a chunk inside which keys are rotated; 0: absolute positions")
      ->capture_default_str();
  sub->add_option("--window", request.window, "Tokens of a window")->capture_default_str();
  sub->add_option("--calibrate-windows", request.statistics_windows,
                  "Windows of each text for statistics, at most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  sub->add_option("--gradient-windows", command->gradient_windows,
                  "Of those, windows for gradients at most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  sub->add_option("--measure-windows", request.measure_windows,
                  "Windows of each text for perplexities, at most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  sub->add_option("--seed", request.seed,
                  "Of the text that the model writes and of the gradients' labels")
      ->capture_default_str();
  sub->callback([command, status] {
    const absl::Status result = command->Run();
    if (!result.ok()) *status = ReportError(result);
  });
}

}  // namespace lorc
