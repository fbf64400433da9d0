#include <cstdio>

#include "absl/strings/str_format.h"
#include "runtime/compress/compress.h"
#include "runtime/kv/plan_file.h"
#include "tools/commands.h"
#include "tools/plan_table.h"
#include "tools/terminal.h"

namespace lorc {
namespace {

struct PlanShowCommand {
  std::string path;
  bool json = false;

  absl::Status Run() const {
    const auto plan = ReadPlan(path);
    if (!plan.ok()) return plan.status();
    if (json) {
      std::printf("%s\n", PlanHeaderJson(*plan).c_str());
      return absl::OkStatus();
    }
    std::printf("%s for %s (fingerprint %s)\n", plan->name.c_str(), plan->base_name.c_str(),
                plan->base_fingerprint.c_str());
    for (const auto& [option, value] : plan->options) {
      std::printf("  %s: %s\n", option.c_str(), value.c_str());
    }
    std::printf("%s", PlanTable(*plan).c_str());
    std::printf("measured: %s\n", JudgePlan(plan->measured).text.c_str());
    return absl::OkStatus();
  }
};

}  // namespace

void AddPlanCommand(CLI::App& app, int* status) {
  CLI::App* plan = app.add_subcommand("plan", "Look at KV plans");
  plan->require_subcommand(1);
  auto command = std::make_shared<PlanShowCommand>();
  CLI::App* show = plan->add_subcommand("show", "Print a plan layer by layer");
  show->add_option("PLAN", command->path, "The plan's file")->required();
  show->add_flag("--json", command->json, "Print the plan's header as JSON");
  show->callback([command, status] {
    const absl::Status result = command->Run();
    if (!result.ok()) *status = ReportError(result);
  });
}

}  // namespace lorc
