#include <cmath>
#include <cstdio>
#include <optional>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "runtime/compress/compress.h"
#include "runtime/compress/offline_model.h"
#include "runtime/kv/plan_file.h"
#include "runtime/weights/status_macros.h"
#include "tools/commands.h"
#include "tools/model_options.h"
#include "tools/terminal.h"

namespace lorc {
namespace {

struct Measured {
  Evaluation evaluation;
  int64_t bytes_per_token = 0;
  int64_t exact_bytes_per_sequence = 0;
};

struct EvalCommand {
  ModelOptions model;
  std::string plan;
  std::string text;
  bool json = false;
  EvaluationOptions evaluation;

  absl::Status Run() const {
    LORC_ASSIGN_OR_RETURN(const std::string content, ReadTextFile(text));
    LORC_ASSIGN_OR_RETURN(const OpenedModel opened, OpenModel(model));
    const ModelConfig& config = opened.checkpoint->config();
    if (evaluation.window < 2 || evaluation.window > config.context_length) {
      return absl::InvalidArgumentError(
          absl::StrFormat("--window: expected 2 to %d tokens, the model's context, got %d",
                          config.context_length, evaluation.window));
    }
    std::optional<KvPlan> compressed;
    if (!plan.empty()) {
      LORC_ASSIGN_OR_RETURN(compressed, ReadPlan(plan));
      LORC_RETURN_IF_ERROR(CheckPlan(*compressed, *opened.checkpoint));
    }
    const auto tokens = opened.tokenizer->Encode(content, /*parse_special=*/false);
    LORC_ASSIGN_OR_RETURN(
        const Measured full,
        Measure(opened, tokens, KvPlan::Full(config, SegmentTypeOf(ExactType(opened.weight_type))),
                "measuring the uncompressed model"));
    std::optional<Measured> with_plan;
    if (compressed.has_value()) {
      LORC_ASSIGN_OR_RETURN(with_plan, Measure(opened, tokens, *compressed, "measuring the plan"));
    }
    if (json) {
      PrintJson(full, with_plan);
    } else {
      PrintTable(full, with_plan);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Measured> Measure(const OpenedModel& opened, std::span<const TokenId> tokens,
                                   const KvPlan& measured_plan, const char* stage) const {
    ProgressLine progress;
    OfflineOptions offline;
    offline.weight_type = opened.weight_type;
    offline.max_sequence_tokens = evaluation.window;
    LORC_ASSIGN_OR_RETURN(const auto executor, MakeOfflineModel(*opened.backend, *opened.checkpoint,
                                                                measured_plan, offline, nullptr));
    Measured measured;
    LORC_ASSIGN_OR_RETURN(measured.evaluation,
                          Evaluate(*executor, tokens, evaluation,
                                   [&](double share) { progress.Show(stage, share); }));
    const KvGeometry& geometry = executor->kv_geometry();
    measured.bytes_per_token = measured_plan.BytesPerToken();
    measured.exact_bytes_per_sequence =
        geometry.ExactBlocksSteady(evaluation.window) * geometry.exact_block_bytes;
    return measured;
  }

  static nlohmann::json ToJson(const Measured& measured) {
    const Evaluation& e = measured.evaluation;
    nlohmann::json json = {{"perplexity", e.perplexity},
                           {"nll", e.nll},
                           {"windows", e.num_windows},
                           {"position_nll", e.position_nll},
                           {"bytes_per_token", measured.bytes_per_token},
                           {"exact_bytes_per_sequence", measured.exact_bytes_per_sequence}};
    if (e.num_recall_passages > 0) json["recall"] = e.recall;
    return json;
  }

  static void PrintJson(const Measured& full, const std::optional<Measured>& with_plan) {
    nlohmann::json json = ToJson(with_plan.has_value() ? *with_plan : full);
    if (with_plan.has_value()) {
      json["uncompressed"] = ToJson(full);
      json["perplexity_change"] = with_plan->evaluation.perplexity / full.evaluation.perplexity - 1;
    }
    std::printf("%s\n", json.dump(2).c_str());
  }

  static std::string Recall(const Evaluation& e) {
    return e.num_recall_passages > 0 ? absl::StrFormat("%.4f", e.recall) : "-";
  }

  static void PrintTable(const Measured& full, const std::optional<Measured>& with_plan) {
    Table table(
        {"cache", "bytes/token", "exact bytes/sequence", "perplexity", "change", "nll", "recall"});
    const auto add = [&](const char* name, const Measured& m) {
      const double change = m.evaluation.perplexity / full.evaluation.perplexity - 1;
      table.Add({name, std::to_string(m.bytes_per_token),
                 std::to_string(m.exact_bytes_per_sequence),
                 absl::StrFormat("%.4f", m.evaluation.perplexity),
                 absl::StrFormat("%+.2f %%", 100 * change),
                 absl::StrFormat("%.5f", m.evaluation.nll), Recall(m.evaluation)});
    };
    add("uncompressed", full);
    if (with_plan.has_value()) add("plan", *with_plan);
    std::printf("%s", table.ToString().c_str());
    if (with_plan.has_value()) {
      std::printf("loss by position, eighths of the window (nats):");
      for (size_t i = 0; i < full.evaluation.position_nll.size(); ++i) {
        std::printf(" %+.3f",
                    with_plan->evaluation.position_nll[i] - full.evaluation.position_nll[i]);
      }
      std::printf("\n");
    }
    std::printf("%d windows; recall: nats on the second copy of a passage\n",
                full.evaluation.num_windows);
  }
};

}  // namespace

void AddEvalCommand(CLI::App& app, int* status) {
  auto command = std::make_shared<EvalCommand>();
  CLI::App* sub =
      app.add_subcommand("eval", "Perplexity and recall, uncompressed and under a plan");
  command->model.AddTo(*sub);
  sub->add_option("--plan", command->plan, "KV plan; none: the uncompressed model alone");
  sub->add_option("--text", command->text, "Text file")->required();
  sub->add_option("--window", command->evaluation.window, "Tokens of a window")
      ->capture_default_str();
  sub->add_option("--max-windows", command->evaluation.max_windows, "Windows at most; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub->add_flag("--json", command->json, "Print one JSON object");
  sub->callback([command, status] {
    const absl::Status result = command->Run();
    if (!result.ok()) *status = ReportError(result);
  });
}

}  // namespace lorc
