// The report of `lorc analyze` as a page: effective ranks, spectra, condition numbers, predicted
// losses and the cost of truncation, by layer and text.
#pragma once

#include <string>

#include "tools/analyze_report.h"

namespace lorc {

std::string AnalyzePage(const AnalyzeReport& report);

}  // namespace lorc
