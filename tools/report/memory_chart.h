// Charts of what caches are worth against what they take.
#pragma once

#include <string>

#include "tools/report/svg_chart.h"

namespace lorc {

// A figure against bytes per token, without series.
Chart MemoryChart(const std::string& title, const std::string& figure);

// Where a cache stands in it; y and the rest of the tooltip are the caller's.
ChartPoint MemoryPoint(const std::string& cache, double bytes_per_token);

}  // namespace lorc
