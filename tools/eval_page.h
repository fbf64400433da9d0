// The report of `lorc eval` as a page: plots of quality against memory, loss by position, recall by
// distance, and the numbers.
#pragma once

#include <string>

#include "tools/eval_report.h"

namespace lorc {

std::string EvalPage(const EvalReport& report);

}  // namespace lorc
