#include "tools/report/memory_chart.h"

#include "absl/strings/str_cat.h"

namespace lorc {

Chart MemoryChart(const std::string& title, const std::string& figure) {
  Chart chart;
  chart.title = title;
  chart.x.title = "bytes per token";
  chart.x.format = WithThousands;
  chart.y.title = figure;
  return chart;
}

ChartPoint MemoryPoint(const std::string& cache, double bytes_per_token) {
  ChartPoint point;
  point.x = bytes_per_token;
  point.tooltip = absl::StrCat(cache, "\n", WithThousands(bytes_per_token), " bytes per token");
  return point;
}

}  // namespace lorc
