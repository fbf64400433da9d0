#include "tests/bench/pareto_page.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/report/html_page.h"
#include "tools/report/memory_chart.h"
#include "tools/report/number_text.h"
#include "tools/report/svg_chart.h"

namespace lorc {
namespace {

constexpr double kMostChange = 0.05;  // of perplexity, in the charts

bool IsDrawn(const ParetoRow& row) { return row.change <= kMostChange; }

ChartPoint PointOf(const ParetoRow& row, double ParetoRow::*figure) {
  ChartPoint point = MemoryPoint(row.name, row.bytes_per_token);
  point.y = row.*figure;
  absl::StrAppend(&point.tooltip, "\nperplexity ", Nats(row.perplexity), ", ", Percent(row.change),
                  "\nrecall ", Nats(row.recall), " nats");
  return point;
}

// Sizes differ by an order of magnitude.
Chart ByFamily(const ParetoReport& report, double ParetoRow::*figure, Chart chart) {
  chart.x.scale = AxisScale::kLog;
  std::vector<ChartSeries>& all = chart.series;
  for (const ParetoRow& row : report.rows) {
    if (!IsDrawn(row)) continue;
    auto series = std::find_if(all.begin(), all.end(), [&row](const ChartSeries& one) {
      return one.name == row.family.name;
    });
    if (series == all.end()) {
      series = all.insert(series, {.name = row.family.name, .points = {}, .line = row.family.line});
    }
    series->points.push_back(PointOf(row, figure));
  }
  for (ChartSeries& series : all) {
    std::stable_sort(series.points.begin(), series.points.end(),
                     [](const ChartPoint& a, const ChartPoint& b) { return a.x < b.x; });
  }
  const ParetoRow& full = report.uncompressed;
  all.push_back(
      {.name = full.name, .points = {PointOf(full, figure)}, .line = false, .reference = true});
  chart.baseline = full.*figure;
  return chart;
}

void AddCharts(const ParetoReport& report, HtmlPage& page) {
  Chart perplexity = ByFamily(report, &ParetoRow::change,
                              MemoryChart("Perplexity against memory", "change of perplexity"));
  perplexity.y.format = PlainPercent;
  Chart recall = ByFamily(report, &ParetoRow::recall,
                          MemoryChart("Recall against memory", "recall, nats (less is better)"));
  recall.y.scale = AxisScale::kLog;
  std::string caption = "Lower and further left is better; dashed: uncompressed.";
  const auto left_out =
      std::ssize(report.rows) - std::count_if(report.rows.begin(), report.rows.end(), IsDrawn);
  if (left_out > 0) {
    absl::StrAppend(&caption, " Caches beyond ", PlainPercent(kMostChange),
                    " are in the table alone: ", left_out, ".");
  }
  page.AddFigures({{SvgChart(perplexity), caption},
                   {SvgChart(recall), "What the far cache still knows, of the same caches."}});
}

void AddNumbers(const ParetoReport& report, HtmlPage& page) {
  const ParetoRow& full = report.uncompressed;
  std::vector<std::vector<std::string>> rows = {{full.name, WithThousands(full.bytes_per_token), "",
                                                 Nats(full.perplexity), "", "", Nats(full.recall),
                                                 ""}};
  for (const ParetoRow& row : report.rows) {
    rows.push_back({row.name, WithThousands(row.bytes_per_token),
                    Share(1 - row.bytes_per_token / full.bytes_per_token), Nats(row.perplexity),
                    Percent(row.change), row.predicted > 0 ? Percent(row.predicted) : "",
                    Nats(row.recall), absl::StrFormat("%+.4f", row.recall - full.recall)});
  }
  page.AddHeading("Numbers");
  page.AddTable({"cache", "bytes per token", "saved", "perplexity", "change", "predicted", "recall",
                 "change"},
                rows);
}

}  // namespace

std::string ParetoPage(const ParetoReport& report) {
  HtmlPage page(absl::StrCat("Bytes against quality: ", report.model),
                absl::StrCat(report.text, ", float32 weights, ", report.num_windows, " windows of ",
                             WithThousands(report.window), " tokens"));
  AddCharts(report, page);
  AddNumbers(report, page);
  page.AddParagraph(
      "Bytes are those of a token beyond the exact ones, keys and values of all layers, scales "
      "included. Differences of a few tenths of a percent in perplexity are noise at 8 windows. "
      "Recall is the negative log-likelihood of the second copy of a passage, other text in "
      "between: it separates caches earlier.");
  return page.ToString();
}

}  // namespace lorc
