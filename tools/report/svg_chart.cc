#include "tools/report/svg_chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/report/html_text.h"

namespace lorc {
namespace {

constexpr double kWidth = 720;
constexpr double kHeight = 420;
constexpr double kTop = 40;
constexpr double kRight = 24;
constexpr double kBottom = 56;
constexpr double kCharacter = 6.6;  // mean width at the labels' size; more than fonts take
constexpr double kWidestTick = 160;
constexpr double kLine = 18;  // height of a line of text
constexpr int kColours = 8;
// Beyond it differences of two values may overflow.
constexpr double kLargest = 1e150;

struct Box {
  double left, top, right, bottom;

  bool Overlaps(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

double TextWidth(std::string_view text) {
  return kCharacter * static_cast<double>(NumCharacters(text));
}

bool IsDrawable(double value, AxisScale scale) {
  if (!std::isfinite(value) || std::abs(value) > kLargest) return false;
  return scale == AxisScale::kLinear || value > 1 / kLargest;
}

// The largest of 1, 2 and 5 times a power of ten that makes at least `count` steps of the span.
double NiceStep(double span, int count) {
  const double power = std::pow(10.0, std::floor(std::log10(span / count)));
  for (const double multiple : {5.0, 2.0, 1.0}) {
    if (multiple * power * count <= span) return multiple * power;
  }
  return power;
}

std::string Plain(double value, int decimals) {
  if (value == 0) return "0";
  if (std::abs(value) >= 1e9 || decimals > 6) return absl::StrFormat("%.4g", value);
  if (std::abs(value) >= 10000) return WithThousands(value);
  return absl::StrFormat("%.*f", decimals, value);
}

// Values of one axis to pixels.
class Scale {
 public:
  Scale(const ChartAxis& axis, double low, double high, double from, double to)
      : axis_(axis), low_(low), high_(high), from_(from), to_(to) {}

  double Pixel(double value) const {
    const double share = (Warp(value) - Warp(low_)) / (Warp(high_) - Warp(low_));
    return from_ + std::clamp(share, 0.0, 1.0) * (to_ - from_);
  }

  std::vector<std::pair<double, std::string>> Ticks(int count) const {
    std::vector<double> values;
    if (axis_.scale == AxisScale::kLog) values = LogTicks();
    int decimals = 0;
    if (values.size() < 3) {
      values.clear();
      const double step = NiceStep(high_ - low_, count);
      decimals = std::clamp(static_cast<int>(-std::floor(std::log10(step) + 1e-9)), 0, 12);
      const double first = std::ceil(low_ / step - 1e-9) * step;
      for (int i = 0; first + i * step <= high_ + 1e-9 * step; ++i) {
        const double value = first + i * step;
        values.push_back(std::abs(value) < 1e-9 * step ? 0 : value);
      }
    } else if (values.front() < 1) {
      decimals = std::min(12, static_cast<int>(-std::floor(std::log10(values.front()))));
    }
    std::vector<std::pair<double, std::string>> ticks;
    ticks.reserve(values.size());
    for (const double value : values) {
      ticks.emplace_back(value, axis_.format ? axis_.format(value) : Plain(value, decimals));
    }
    return ticks;
  }

 private:
  double Warp(double value) const {
    return axis_.scale == AxisScale::kLog ? std::log(value) : value;
  }

  std::vector<double> LogTicks() const {
    const double decades = std::log10(high_ / low_);
    const double first = std::floor(std::log10(low_));
    const int stride = std::max(1, static_cast<int>(std::ceil(decades / 8)));
    std::vector<double> values;
    for (int decade = 0; decade <= decades + 1; decade += stride) {
      for (const double multiple : {1.0, 2.0, 5.0}) {
        if (multiple > 1 && decades > 3) break;
        const double value = multiple * std::pow(10.0, first + decade);
        if (value >= low_ && value <= high_) values.push_back(value);
      }
    }
    return values;
  }

  const ChartAxis& axis_;
  const double low_, high_, from_, to_;
};

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  bool empty() const { return low > high; }
  double span() const { return high - low; }
  void Include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

// Room around what is drawn, and never an axis without extent.
Range Padded(Range range, AxisScale scale) {
  if (scale == AxisScale::kLog) {
    const double ratio = range.high / range.low;
    const double factor = ratio < 1 + 1e-9 ? 2.0 : std::pow(ratio, 0.06);
    return {range.low / factor, range.high * factor};
  }
  const double least = std::max(std::abs(range.low), std::abs(range.high)) * 1e-9;
  const double room = range.span() > least ? 0.06 * range.span()
                      : range.low == 0     ? 1.0
                                           : 0.1 * std::abs(range.low);
  return {range.low - room, range.high + room};
}

class Drawing {
 public:
  explicit Drawing(const Chart& chart) : chart_(chart) {}

  std::string Draw() {
    Begin();
    FindRanges();
    if (x_range_.empty()) {
      absl::StrAppendFormat(&svg_, "<text class=\"none\" x=\"%.1f\" y=\"%.1f\">no data</text>\n",
                            kWidth / 2, kHeight / 2);
      return svg_ + "</svg>\n";
    }
    const double top = kTop + LegendHeight();
    const Range x = Padded(x_range_, chart_.x.scale);
    const Range y = Padded(y_range_, chart_.y.scale);
    const Scale vertical(chart_.y, y.low, y.high, kHeight - kBottom, top);
    const auto y_ticks = vertical.Ticks(4);
    double widest = 0;
    for (const auto& [value, text] : y_ticks) widest = std::max(widest, TextWidth(text));
    plot_ = {44 + std::min(widest, kWidestTick), top, kWidth - kRight, kHeight - kBottom};
    const Scale horizontal(chart_.x, x.low, x.high, plot_.left, plot_.right);
    DrawAxes(horizontal, vertical, y_ticks);
    DrawLegend();
    DrawSeries(horizontal, vertical);
    return svg_ + "</svg>\n";
  }

 private:
  void Begin() {
    const std::string title = EscapeHtml(chart_.title);
    absl::StrAppendFormat(&svg_,
                          "<svg class=\"chart\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
                          "aria-label=\"%s\" xmlns=\"http://www.w3.org/2000/svg\">\n"
                          "<text class=\"title\" x=\"12\" y=\"22\">%s</text>\n",
                          kWidth, kHeight, title, title);
  }

  bool IsDrawn(const ChartPoint& point) const {
    return IsDrawable(point.x, chart_.x.scale) && IsDrawable(point.y, chart_.y.scale);
  }

  static bool HasBar(const ChartPoint& point) {
    return point.low.has_value() && point.high.has_value() && std::isfinite(*point.low) &&
           std::isfinite(*point.high);
  }

  // Ends beyond the axis stop at its end.
  Box BarBox(const ChartPoint& point, double x, const Scale& vertical) const {
    const double least = chart_.y.scale == AxisScale::kLog ? 1 / kLargest : -kLargest;
    return {x - 4, vertical.Pixel(std::clamp(*point.high, least, kLargest)), x + 4,
            vertical.Pixel(std::clamp(*point.low, least, kLargest))};
  }

  void FindRanges() {
    Range bars;
    for (const ChartSeries& series : chart_.series) {
      for (const ChartPoint& point : series.points) {
        if (!IsDrawn(point)) continue;
        x_range_.Include(point.x);
        y_range_.Include(point.y);
        for (const auto& end : {point.low, point.high}) {
          if (end.has_value() && IsDrawable(*end, chart_.y.scale)) bars.Include(*end);
        }
      }
    }
    if (y_range_.empty()) return;
    IncludeEnds(chart_.x, &x_range_);
    IncludeEnds(chart_.y, &y_range_);
    if (chart_.baseline.has_value() && IsDrawable(*chart_.baseline, chart_.y.scale)) {
      y_range_.Include(*chart_.baseline);
    }
    if (bars.empty()) return;
    if (y_range_.span() == 0 || chart_.y.scale == AxisScale::kLog) {
      y_range_.Include(bars.low);
      y_range_.Include(bars.high);
    } else {
      const Range points = y_range_;
      y_range_.Include(std::max(bars.low, points.low - points.span()));
      y_range_.Include(std::min(bars.high, points.high + points.span()));
    }
  }

  static void IncludeEnds(const ChartAxis& axis, Range* range) {
    for (const auto& end : {axis.from, axis.to}) {
      if (end.has_value() && IsDrawable(*end, axis.scale)) range->Include(*end);
    }
  }

  bool HasLegend() const { return chart_.legend && chart_.series.size() > 1; }

  // Places the legend's entries and gives the height that they take.
  double LegendHeight() {
    if (!HasLegend()) return 0;
    double x = 12;
    double y = kTop;
    for (const ChartSeries& series : chart_.series) {
      const double width = 34 + TextWidth(series.name);
      if (x > 12 && x + width > kWidth - kRight) {
        x = 12;
        y += kLine;
      }
      legend_.emplace_back(x, y);
      x += width;
    }
    return y - kTop + kLine + 4;
  }

  void DrawLegend() {
    int colour = 0;
    for (size_t i = 0; i < legend_.size(); ++i) {
      const ChartSeries& series = chart_.series[i];
      const auto [x, y] = legend_[i];
      absl::StrAppendFormat(&svg_, "<g class=\"%s\">", ColourClass(series, colour));
      if (series.line) {
        absl::StrAppendFormat(
            &svg_, "<line class=\"line\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", x, y,
            x + 18, y);
      }
      if (series.markers) Marker(x + 9, y, colour);
      absl::StrAppendFormat(&svg_, "<text class=\"name\" x=\"%.1f\" y=\"%.1f\">%s</text></g>\n",
                            x + 24, y + 4, EscapeHtml(series.name));
      if (!series.reference) ++colour;
    }
  }

  void DrawAxes(const Scale& horizontal, const Scale& vertical,
                const std::vector<std::pair<double, std::string>>& y_ticks) {
    for (const auto& [value, text] : y_ticks) {
      const double y = vertical.Pixel(value);
      absl::StrAppendFormat(&svg_,
                            "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>"
                            "<text class=\"tick y\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                            plot_.left, y, plot_.right, y, plot_.left - 8, y + 4, EscapeHtml(text));
    }
    double free_from = 0;  // ticks that would run into the one before them are left out
    for (const auto& [value, text] : horizontal.Ticks(6)) {
      const double x = horizontal.Pixel(value);
      const double half = TextWidth(text) / 2;
      if (x - half < free_from) continue;
      free_from = x + half + 8;
      absl::StrAppendFormat(&svg_,
                            "<line class=\"mark\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>"
                            "<text class=\"tick x\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                            x, plot_.bottom, x, plot_.bottom + 5, x, plot_.bottom + 19,
                            EscapeHtml(text));
    }
    absl::StrAppendFormat(
        &svg_, "<line class=\"axis\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
        plot_.left, plot_.bottom, plot_.right, plot_.bottom);
    if (chart_.baseline.has_value() && IsDrawable(*chart_.baseline, chart_.y.scale)) {
      const double y = vertical.Pixel(*chart_.baseline);
      absl::StrAppendFormat(
          &svg_, "<line class=\"baseline\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
          plot_.left, y, plot_.right, y);
      taken_.push_back({plot_.left, y - 1, plot_.right, y + 1});
    }
    absl::StrAppendFormat(&svg_, "<text class=\"caption x\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                          (plot_.left + plot_.right) / 2, kHeight - 12, EscapeHtml(chart_.x.title));
    const double middle = (plot_.top + plot_.bottom) / 2;
    absl::StrAppendFormat(&svg_,
                          "<text class=\"caption x\" x=\"16\" y=\"%.1f\" "
                          "transform=\"rotate(-90 16 %.1f)\">%s</text>\n",
                          middle, middle, EscapeHtml(chart_.y.title));
  }

  void DrawSeries(const Scale& horizontal, const Scale& vertical) {
    // Lines below, points above, labels last: they move out of each other's way.
    std::string labels;
    for (const ChartSeries& series : chart_.series) {
      for (const ChartPoint& point : series.points) {
        if (!IsDrawn(point)) continue;
        const double x = horizontal.Pixel(point.x);
        const double y = vertical.Pixel(point.y);
        taken_.push_back({x - 7, y - 7, x + 7, y + 7});
        if (HasBar(point)) taken_.push_back(BarBox(point, x, vertical));
      }
    }
    int colour = 0;
    for (const ChartSeries& series : chart_.series) {
      absl::StrAppendFormat(&svg_, "<g class=\"%s\">\n", ColourClass(series, colour));
      if (series.line) DrawLine(series, horizontal, vertical);
      for (const ChartPoint& point : series.points) {
        if (!series.markers || !IsDrawn(point)) continue;
        const double x = horizontal.Pixel(point.x);
        const double y = vertical.Pixel(point.y);
        DrawPoint(point, x, y, vertical, colour);
        if (!point.label.empty()) labels += Label(point.label, x, y);
      }
      svg_ += "</g>\n";
      if (!series.reference) ++colour;
    }
    svg_ += labels;
  }

  void DrawLine(const ChartSeries& series, const Scale& horizontal, const Scale& vertical) {
    std::string path;
    bool broken = true;
    for (const ChartPoint& point : series.points) {
      if (!IsDrawn(point)) {
        broken = true;
        continue;
      }
      absl::StrAppendFormat(&path, "%s%.1f %.1f", broken ? "M" : "L", horizontal.Pixel(point.x),
                            vertical.Pixel(point.y));
      broken = false;
    }
    absl::StrAppendFormat(&svg_, "<path class=\"line\" d=\"%s\"/>\n", path);
  }

  void DrawPoint(const ChartPoint& point, double x, double y, const Scale& vertical, int colour) {
    absl::StrAppendFormat(&svg_, "<g class=\"point\"><title>%s</title>", EscapeHtml(point.tooltip));
    if (HasBar(point)) {
      const Box bar = BarBox(point, x, vertical);
      absl::StrAppendFormat(&svg_,
                            "<path class=\"bar\" d=\"M%.1f %.1fV%.1fM%.1f %.1fh8M%.1f %.1fh8\"/>",
                            x, bar.bottom, bar.top, bar.left, bar.bottom, bar.left, bar.top);
    }
    Marker(x, y, colour);
    absl::StrAppendFormat(&svg_, "<circle class=\"hit\" cx=\"%.1f\" cy=\"%.1f\" r=\"12\"/></g>\n",
                          x, y);
  }

  void Marker(double x, double y, int colour) {
    std::string path;
    switch (colour / kColours % 4) {
      case 0:
        path = absl::StrFormat("M%.1f %.1fm-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z", x, y);
        break;
      case 1:
        path = absl::StrFormat("M%.1f %.1fm-5 -5h10v10h-10z", x, y);
        break;
      case 2:
        path = absl::StrFormat("M%.1f %.1fm0 -6l6 6l-6 6l-6 -6z", x, y);
        break;
      default:
        path = absl::StrFormat("M%.1f %.1fm0 -6l6 10h-12z", x, y);
    }
    absl::StrAppendFormat(&svg_, "<path class=\"marker\" d=\"%s\"/>", path);
  }

  // Beside, above or below the point, where nothing else is; the first place if all are taken.
  std::string Label(const std::string& text, double x, double y) {
    const double width = TextWidth(text);
    std::optional<Box> first, chosen;
    for (const double dy : {0.0, -kLine, kLine, -2 * kLine, 2 * kLine, -3 * kLine, 3 * kLine}) {
      for (const double left : {x + 10, x - 10 - width, x - width / 2}) {
        const Box box = {left, y + dy - kLine / 2, left + width, y + dy + kLine / 2};
        if (box.left < plot_.left || box.right > kWidth || box.top < plot_.top - kLine ||
            box.bottom > plot_.bottom) {
          continue;
        }
        if (!first.has_value()) first = box;
        const bool free = std::none_of(taken_.begin(), taken_.end(),
                                       [&](const Box& other) { return box.Overlaps(other); });
        if (free && !chosen.has_value()) chosen = box;
      }
    }
    if (!chosen.has_value()) chosen = first;
    // A text wider than the plot begins at its edge.
    if (!chosen.has_value()) chosen = {plot_.left, y - 1.5 * kLine, plot_.left + width, y};
    taken_.push_back(*chosen);
    return absl::StrFormat("<text class=\"name\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", chosen->left,
                           (chosen->top + chosen->bottom) / 2 + 4, EscapeHtml(text));
  }

  static std::string ColourClass(const ChartSeries& series, int colour) {
    return series.reference ? "reference" : absl::StrCat("c", colour % kColours);
  }

  const Chart& chart_;
  std::string svg_;
  Range x_range_, y_range_;
  Box plot_ = {};
  std::vector<std::pair<double, double>> legend_;
  std::vector<Box> taken_;
};

}  // namespace

std::string SvgChart(const Chart& chart) { return Drawing(chart).Draw(); }

std::string_view SvgChartStyle() {
  return R"(.chart { display: block; width: 100%; height: auto; font-family: inherit; }
.chart text { fill: var(--muted); font-size: 12px; }
.chart text.title { fill: var(--ink); font-size: 14px; font-weight: 600; }
.chart text.name { fill: var(--ink); paint-order: stroke; stroke: var(--surface);
  stroke-width: 4px; stroke-linejoin: round; }
.chart text.none { text-anchor: middle; font-size: 14px; }
.chart text.tick { font-variant-numeric: tabular-nums; }
.chart text.y { text-anchor: end; }
.chart text.x { text-anchor: middle; }
.chart .grid { stroke: var(--grid); }
.chart .axis, .chart .mark { stroke: var(--axis); }
.chart .baseline { stroke: var(--muted); stroke-dasharray: 4 3; }
.chart .line { fill: none; stroke: var(--colour); stroke-width: 2; stroke-linejoin: round; }
.chart .bar { fill: none; stroke: var(--colour); stroke-width: 1.5; opacity: 0.6; }
.chart .marker { fill: var(--colour); stroke: var(--surface); stroke-width: 1.5; }
.chart .hit { fill: transparent; }
.chart .shade { fill: var(--c0); shape-rendering: crispEdges; }
.chart .frame { fill: none; stroke: var(--axis); }
.chart .row:hover { stroke: var(--ink); }
.chart .point:hover .marker { stroke: var(--ink); }
.chart .point:hover .bar { opacity: 1; }
.chart .reference { --colour: var(--muted); }
.chart .c0 { --colour: var(--c0); } .chart .c1 { --colour: var(--c1); }
.chart .c2 { --colour: var(--c2); } .chart .c3 { --colour: var(--c3); }
.chart .c4 { --colour: var(--c4); } .chart .c5 { --colour: var(--c5); }
.chart .c6 { --colour: var(--c6); } .chart .c7 { --colour: var(--c7); }
:root { color-scheme: light dark; --surface: #fcfcfb; --ink: #0b0b0b; --muted: #5c5b57;
  --grid: #e7e6e2; --axis: #b9b8b2; --c0: #2a78d6; --c1: #eb6834; --c2: #1baf7a; --c3: #4a3aa7;
  --c4: #e34948; --c5: #b87d00; --c6: #008300; --c7: #d4578a; }
@media (prefers-color-scheme: dark) {
  :root { --surface: #1a1a19; --ink: #ffffff; --muted: #b4b3aa; --grid: #2e2e2b; --axis: #5c5b57;
    --c0: #5598e7; --c1: #e8743f; --c2: #1fae7c; --c3: #9085e9; --c4: #e66767; --c5: #c98500;
    --c6: #2f9e2f; --c7: #d9689a; }
}
)";
}

std::string WithThousands(double value) {
  std::string digits = absl::StrFormat("%.0f", std::abs(value));
  for (int64_t i = std::ssize(digits) - 3; i > 0; i -= 3) digits.insert(i, 1, ',');
  return absl::StrCat(value < 0 && digits != "0" ? "-" : "", digits);
}

}  // namespace lorc
