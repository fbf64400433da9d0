// `lorc generate`: asks a server and prints the answer as it comes.
//
// The text goes to stdout, what was used to stderr; with --json one object goes to stdout at the
// end. Exit status: 0; 1 where the server or the network failed; 2 where the request was wrong; 130
// after Ctrl-C, which cancels the call.
#pragma once

#include <CLI/CLI.hpp>

namespace lorc {

void AddGenerateCommand(CLI::App& app, int* status);

}  // namespace lorc
