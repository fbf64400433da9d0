#include <cstdio>
#include <filesystem>
#include <set>

#include "runtime/compress/quality.h"
#include "runtime/kv/plan_file.h"
#include "runtime/weights/status_macros.h"
#include "tools/commands.h"
#include "tools/eval_page.h"
#include "tools/eval_report.h"
#include "tools/model_options.h"
#include "tools/output_file.h"
#include "tools/terminal.h"

namespace lorc {
namespace {

struct EvalCommand {
  ModelOptions model;
  std::vector<std::string> plans;
  std::string text;
  std::string choices;
  std::string html;
  bool json = false;
  QualityOptions quality;

  absl::Status Run() const {
    if (!html.empty()) LORC_RETURN_IF_ERROR(CheckOutputFile("--html", html));
    LORC_ASSIGN_OR_RETURN(const std::string content, ReadTextFile(text));
    LORC_ASSIGN_OR_RETURN(const OpenedModel opened, OpenModel(model));
    const ModelConfig& config = opened.checkpoint->config();
    std::vector<KvPlan> read;
    for (const std::string& path : plans) {
      LORC_ASSIGN_OR_RETURN(KvPlan plan, ReadPlan(path));
      LORC_RETURN_IF_ERROR(CheckPlan(plan, *opened.checkpoint));
      read.push_back(std::move(plan));
    }
    QualityOptions options = quality;
    if (!choices.empty()) {
      LORC_ASSIGN_OR_RETURN(const auto questions, ReadChoices(choices));
      LORC_ASSIGN_OR_RETURN(options.questions,
                            EncodeChoices(questions, *opened.tokenizer, config.context_length));
    }
    LORC_ASSIGN_OR_RETURN(
        QualityMeter meter,
        QualityMeter::Make(*opened.backend, *opened.checkpoint, opened.weight_type,
                           opened.tokenizer->Encode(content, /*parse_special=*/false),
                           std::move(options)));
    EvalReport report;
    report.model = config.name;
    report.text = std::filesystem::path(text).filename().string();
    report.weights = Name(opened.weight_type);
    report.window = quality.evaluation.window;
    ProgressLine progress;
    const auto stage_of = [&](const std::string& label) {
      return [&progress, label](const std::string& stage, double share) {
        progress.Show(label + ": " + stage, share);
      };
    };
    LORC_ASSIGN_OR_RETURN(report.uncompressed, meter.MeasureUncompressed(stage_of("uncompressed")));
    const std::vector<std::string> labels = Labels();
    for (size_t i = 0; i < read.size(); ++i) {
      EvalPlan& plan = report.plans.emplace_back();
      plan.label = labels[i];
      plan.path = plans[i];
      plan.name = read[i].name;
      LORC_ASSIGN_OR_RETURN(plan.quality, meter.Measure(read[i], stage_of(plan.label)));
      plan.change = Compare(report.uncompressed, plan.quality);
    }
    progress.Clear();
    if (!html.empty()) LORC_RETURN_IF_ERROR(WriteOutputFile(html, EvalPage(report)));
    std::printf("%s", json ? (EvalJson(report) + "\n").c_str() : EvalTable(report).c_str());
    return absl::OkStatus();
  }

  // The files' names without folder and extension, or their paths where those are not enough.
  std::vector<std::string> Labels() const {
    std::vector<std::string> labels;
    std::set<std::string> distinct = {"uncompressed"};
    for (const std::string& path : plans) {
      labels.push_back(std::filesystem::path(path).stem().string());
      distinct.insert(labels.back());
    }
    return distinct.size() == plans.size() + 1 ? labels : plans;
  }
};

}  // namespace

void AddEvalCommand(CLI::App& app, int* status) {
  auto command = std::make_shared<EvalCommand>();
  CLI::App* sub =
      app.add_subcommand("eval", "Quality of the uncompressed model and of plans, side by side");
  command->model.AddTo(*sub);
  sub->add_option("--plan", command->plans,
                  "KV plan, may be given several times; none: the uncompressed model alone")
      ->allow_extra_args(false);
  sub->add_option("--text", command->text, "Text file")->required();
  EvaluationOptions& evaluation = command->quality.evaluation;
  sub->add_option("--window", evaluation.window, "Tokens of a window")->capture_default_str();
  sub->add_option("--max-windows", evaluation.max_windows, "Windows at most; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub->add_option("--recall-distances", command->quality.recall_distances,
                  "Recall of passages said again so many tokens later, as in 700,1800,3700,7500")
      ->delimiter(',')
      ->allow_extra_args(false);
  sub->add_option("--choices", command->choices,
                  "Multiple-choice questions: a file of lines {\"question\": text, \"choices\": "
                  "[texts], \"answer\": index}");
  sub->add_option("--agreement", command->quality.agreement_tokens,
                  "Compare with greedy continuations of this many tokens by the uncompressed "
                  "model; 0: do not")
      ->capture_default_str();
  sub->add_flag("--json", command->json, "Print one JSON object");
  sub->add_option("--html", command->html, "Write a page with plots to this file");
  sub->callback([command, status] {
    const absl::Status result = command->Run();
    if (!result.ok()) *status = ReportError(result);
  });
}

}  // namespace lorc
