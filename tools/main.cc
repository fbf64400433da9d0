// `lorc`: plans, evaluation and a client on the command line.

#include "tools/commands.h"

int main(int argc, char** argv) {
  CLI::App app("LLaMA models with a low-rank KV cache: make plans, measure them, talk to a server");
  app.require_subcommand(1);
  int status = 0;
  lorc::AddCompressCommand(app, &status);
  lorc::AddAnalyzeCommand(app, &status);
  lorc::AddPlanCommand(app, &status);
  lorc::AddEvalCommand(app, &status);
  lorc::AddGenerateCommand(app, &status);
  CLI11_PARSE(app, argc, argv);
  return status;
}
