// The subcommands of `lorc`. Each adds itself to the application and leaves its exit status in
// `*status` when it runs.
#pragma once

#include <CLI/CLI.hpp>

namespace lorc {

void AddAnalyzeCommand(CLI::App& app, int* status);
void AddCompressCommand(CLI::App& app, int* status);
void AddPlanCommand(CLI::App& app, int* status);
void AddEvalCommand(CLI::App& app, int* status);
void AddGenerateCommand(CLI::App& app, int* status);

}  // namespace lorc
