// Line and scatter charts as SVG for an HTML page: axes, ticks, grid, legend, labels, error bars,
// and a <title> on every point that browsers show under the pointer. Colours are those of
// SvgChartStyle(), which follows the reader's light or dark scheme.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lorc {

struct ChartPoint {
  double x = 0;
  double y = 0;
  std::optional<double> low, high;  // an error bar along y
  std::string label;                // beside the point; empty: none
  std::string tooltip;
};

struct ChartSeries {
  std::string name;
  std::vector<ChartPoint> points;
  bool line = true;        // points joined in their order; else points alone
  bool reference = false;  // what others are compared with: grey, and takes no colour
  bool markers = true;     // else a line without marks, for many points; they have no tooltips
};

enum class AxisScale { kLinear, kLog };

struct ChartAxis {
  std::string title;
  AxisScale scale = AxisScale::kLinear;
  // Of a tick's value; the default gives as many decimals as the step between ticks needs.
  std::function<std::string(double)> format;
  std::optional<double> from, to;  // values that are always in sight
};

struct Chart {
  std::string title;  // also what screen readers say
  ChartAxis x, y;
  std::vector<ChartSeries> series;
  std::optional<double> baseline;  // a value of y that is always in sight, with a heavier line
  bool legend = true;              // no use where points are labelled
};

// An <svg> element. The n-th series that is no reference has the n-th colour, so that charts with
// the same series agree; after eight colours markers change. Points that are not finite, or not
// positive on a logarithmic axis, are left out and break their line; a chart without points says
// so. Error bars widen an axis by no more than the points themselves take.
std::string SvgChart(const Chart& chart);

// The CSS that charts need, once per page.
std::string_view SvgChartStyle();

// "23,040"; rounded to whole numbers.
std::string WithThousands(double value);

}  // namespace lorc
