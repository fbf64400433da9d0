#include <cstdio>

#include "runtime/compress/compress.h"
#include "runtime/kv/plan_file.h"
#include "runtime/weights/status_macros.h"
#include "tools/commands.h"
#include "tools/model_options.h"
#include "tools/output_file.h"
#include "tools/plan_table.h"
#include "tools/terminal.h"

namespace lorc {
namespace {

struct CompressCommand {
  ModelOptions model;
  std::string out;
  std::string method = "kv-core";
  std::string calibrate;
  std::string keys;
  std::string ranks;
  std::string latent_type;
  bool uniform = false;
  bool json = false;
  double target_kept = 0.75;
  int min_rank = 0;
  double threshold = 0;
  int groups = 1;
  int exact_prefix = 16;
  int exact_window = 64;
  int anchor = 256;
  int window = 1024;
  int calibration_windows = 15;
  uint64_t seed = 0;
  CLI::App* app = nullptr;

  CompressRequest Request() const {
    CompressRequest request;
    request.window = window;
    request.calibration_windows = calibration_windows;
    request.seed = seed;
    CompressionOptions& options = request.options;
    const bool lorc = method == "lorc";
    options.method = lorc ? CompressionMethod::kLorc : CompressionMethod::kKvCore;
    options.keys = keys == "rebuilt" || (keys.empty() && lorc) ? KvLayoutKind::kRebuilt
                                                               : KvLayoutKind::kDirect;
    options.groups = groups;
    options.target_kept = target_kept;
    const std::string rule = uniform          ? "uniform"
                             : !ranks.empty() ? ranks
                             : lorc           ? "progressive"
                                              : "uniform";
    options.rank_rule = rule == "progressive" ? RankRule::kProgressive
                        : rule == "energy"    ? RankRule::kEnergy
                                              : RankRule::kUniform;
    if (app->count("--min-rank") > 0) options.min_rank = min_rank;
    if (app->count("--threshold") > 0) options.threshold = threshold;
    // LoRC as published keeps no exact tokens and does not quantise.
    const std::string type = !latent_type.empty() ? latent_type : lorc ? "bf16" : "int8";
    options.latent_type = *DTypeFromName(type);
    options.exact_prefix = lorc && app->count("--exact-prefix") == 0 ? 0 : exact_prefix;
    options.exact_window = lorc && app->count("--exact-window") == 0 ? 0 : exact_window;
    options.anchor = anchor;
    return request;
  }

  absl::Status Run() const {
    LORC_RETURN_IF_ERROR(CheckOutputFile("--output", out));
    CompressRequest request = Request();
    if (!calibrate.empty()) {
      auto text = ReadTextFile(calibrate);
      if (!text.ok()) return text.status();
      request.text = *std::move(text);
    }
    auto opened = OpenModel(model);
    if (!opened.ok()) return opened.status();
    request.weight_type = opened->weight_type;
    ProgressLine progress;
    const auto result =
        Compress(*opened->backend, *opened->checkpoint, *opened->tokenizer, request,
                 [&](const std::string& stage, double share) { progress.Show(stage, share); });
    progress.Clear();
    if (!result.ok()) return result.status();
    LORC_RETURN_IF_ERROR(WritePlan(result->plan, out));
    const Verdict verdict = JudgePlan(result->plan.measured);
    FILE* judgement = stdout;
    if (json) {
      std::printf("%s\n", PlanHeaderJson(result->plan).c_str());
      judgement = stderr;
    } else {
      std::printf("%s", PlanTable(result->plan).c_str());
      std::printf("wrote %s\n", out.c_str());
    }
    if (verdict.warning) judgement = stderr;
    std::fprintf(judgement, "%s%s\n", verdict.warning ? "warning: " : "", verdict.text.c_str());
    return absl::OkStatus();
  }
};

}  // namespace

void AddCompressCommand(CLI::App& app, int* status) {
  auto command = std::make_shared<CompressCommand>();
  CLI::App* sub = app.add_subcommand("compress", "Make a KV plan for a model and measure it");
  command->app = sub;
  command->model.AddTo(*sub);
  sub->add_option("-o,--output", command->out, "The plan's file")->required();
  sub->add_option("--method", command->method, "Method of the bases")
      ->check(CLI::IsMember({"lorc", "kv-core"}))
      ->capture_default_str();
  sub->add_option("--calibrate", command->calibrate,
                  "Text file for statistics and measuring; without it the model writes its own");
  sub->add_option("--keys", command->keys, "Layout of keys (lorc: rebuilt; kv-core: direct)")
      ->check(CLI::IsMember({"direct", "rebuilt"}));
  sub->add_option("--groups", command->groups, "Groups of KV heads that share a latent; 1 = joint")
      ->capture_default_str();
  sub->add_option("--ranks", command->ranks,
                  "How ranks differ over layers (lorc: progressive; kv-core: uniform)")
      ->check(CLI::IsMember({"uniform", "progressive", "energy"}));
  sub->add_flag("--uniform", command->uniform, "The same as --ranks uniform");
  sub->add_option("--target-kept", command->target_kept, "Share of all ranks that is kept")
      ->capture_default_str();
  sub->add_option("--min-rank", command->min_rank,
                  "Progressive ranks from this one to the full rank, instead of --target-kept");
  sub->add_option("--threshold", command->threshold,
                  "Layers whose cumulative condition number has a natural logarithm above this "
                  "keep their full cache");
  sub->add_option("--latent-type", command->latent_type,
                  "Type of the latents (lorc: bf16; kv-core: int8)")
      ->check(CLI::IsMember({"f32", "bf16", "int8"}));
  sub->add_option("--exact-prefix", command->exact_prefix, "First tokens that stay exact (lorc: 0)")
      ->capture_default_str();
  sub->add_option("--exact-window", command->exact_window, "Latest tokens that are exact (lorc: 0)")
      ->capture_default_str();
  sub->add_option("--anchor", command->anchor,
                  "Tokens of a chunk inside which direct keys are rotated; 0: absolute positions")
      ->capture_default_str();
  sub->add_option("--window", command->window, "Tokens of a calibration window")
      ->capture_default_str();
  sub->add_option("--calibrate-windows", command->calibration_windows,
                  "Calibration windows at most")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  sub->add_option("--seed", command->seed, "Of the text that the model writes")
      ->capture_default_str();
  sub->add_flag("--json", command->json, "Print the plan's header as JSON");
  sub->callback([command, status] {
    const absl::Status result = command->Run();
    if (!result.ok()) *status = ReportError(result);
  });
}

}  // namespace lorc
