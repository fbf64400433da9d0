#include "tools/report/heat_map.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/report/html_text.h"
#include "tools/report/svg_chart.h"

namespace lorc {
namespace {

constexpr double kWidth = 720;
constexpr double kHeight = 420;
constexpr double kLeft = 72;
constexpr double kRight = kWidth - 24;
constexpr double kTop = 66;
constexpr double kBottom = kHeight - 56;
constexpr int kShades = 32;
constexpr double kFullColour = 0.6;  // share of the shades up to which the colour grows fuller
constexpr double kPalest = 0.03;     // opacity
constexpr double kInk = 70;          // percent of ink in the strongest shade

// From the page's ground to the first colour, and on towards the colour of text, which is the
// other end of lightness in the light and in the dark scheme.
std::string FillOf(int shade) {
  const double share = static_cast<double>(shade) / (kShades - 1);
  if (share <= kFullColour) {
    return absl::StrFormat("fill-opacity=\"%.2f\"", kPalest + (1 - kPalest) * share / kFullColour);
  }
  return absl::StrFormat("style=\"fill:color-mix(in srgb,var(--ink) %.0f%%,var(--c0))\"",
                         kInk * (share - kFullColour) / (1 - kFullColour));
}

class Drawing {
 public:
  explicit Drawing(const HeatMap& map) : map_(map) {}

  std::string Draw() {
    const std::string title = EscapeHtml(map_.title);
    absl::StrAppendFormat(&svg_,
                          "<svg class=\"chart\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
                          "aria-label=\"%s\" xmlns=\"http://www.w3.org/2000/svg\">\n"
                          "<text class=\"title\" x=\"12\" y=\"22\">%s</text>\n",
                          kWidth, kHeight, title, title);
    if (map_.rows.empty() || map_.rows[0].empty()) {
      absl::StrAppendFormat(&svg_, "<text class=\"none\" x=\"%.1f\" y=\"%.1f\">no data</text>\n",
                            kWidth / 2, kHeight / 2);
      return svg_ + "</svg>\n";
    }
    DrawScale();
    DrawCells();
    DrawAxes();
    DrawTooltips();
    return svg_ + "</svg>\n";
  }

 private:
  double X(size_t column) const {
    return kLeft + (kRight - kLeft) * static_cast<double>(column) /
                       static_cast<double>(map_.rows[0].size());
  }
  double Y(size_t row) const {
    return kTop +
           (kBottom - kTop) * static_cast<double>(row) / static_cast<double>(map_.rows.size());
  }

  // -1: blank.
  int ShadeOf(double value) const {
    if (!std::isfinite(value)) return -1;
    const double share = std::clamp((value - map_.from) / (map_.to - map_.from), 0.0, 1.0);
    return static_cast<int>(std::lround(share * (kShades - 1)));
  }

  void DrawScale() {
    constexpr double kStep = 5;
    constexpr double kStart = kLeft;
    for (int shade = 0; shade < kShades; ++shade) {
      absl::StrAppendFormat(&svg_, "<path class=\"shade\" %s d=\"M%.1f 34h%.1fv10h-%.1fz\"/>",
                            FillOf(shade), kStart + shade * kStep, kStep, kStep);
    }
    svg_ += "\n";
    absl::StrAppendFormat(
        &svg_,
        "<text x=\"%.1f\" y=\"58\">%s</text><text class=\"tick y\" x=\"%.1f\" y=\"58\">%s</text>"
        "<text x=\"%.1f\" y=\"43\">%s</text>\n",
        kStart, EscapeHtml(map_.format(map_.from)), kStart + kShades * kStep,
        EscapeHtml(map_.format(map_.to)), kStart + kShades * kStep + 10,
        EscapeHtml(map_.shade_title));
  }

  void DrawCells() {
    std::array<std::string, kShades> paths;
    for (size_t row = 0; row < map_.rows.size(); ++row) {
      const std::vector<double>& values = map_.rows[row];
      for (size_t begin = 0; begin < values.size();) {
        const int shade = ShadeOf(values[begin]);
        size_t end = begin + 1;
        while (end < values.size() && ShadeOf(values[end]) == shade) ++end;
        if (shade >= 0) {
          absl::StrAppendFormat(&paths[shade], "M%.1f %.1fH%.1fV%.1fH%.1fz", X(begin), Y(row),
                                X(end), Y(row + 1), X(begin));
        }
        begin = end;
      }
    }
    for (int shade = 0; shade < kShades; ++shade) {
      if (paths[shade].empty()) continue;
      absl::StrAppendFormat(&svg_, "<path class=\"shade\" %s d=\"%s\"/>\n", FillOf(shade),
                            paths[shade]);
    }
  }

  // Every so many rows or columns: 1, 2 or 5 times a power of ten.
  static size_t TickStep(size_t count) {
    for (size_t power = 1;; power *= 10) {
      for (const size_t multiple : {1, 2, 5}) {
        if (count <= 8 * multiple * power) return multiple * power;
      }
    }
  }

  void DrawAxes() {
    const size_t row_step = TickStep(map_.rows.size());
    for (size_t row = 0; row < map_.rows.size(); row += row_step) {
      absl::StrAppendFormat(&svg_, "<text class=\"tick y\" x=\"%.1f\" y=\"%.1f\">%d</text>\n",
                            kLeft - 8, (Y(row) + Y(row + 1)) / 2 + 4, row);
    }
    const size_t column_step = TickStep(map_.rows[0].size());
    for (size_t column = 0; column < map_.rows[0].size(); column += column_step) {
      const double x = (X(column) + X(column + 1)) / 2;
      absl::StrAppendFormat(&svg_,
                            "<line class=\"mark\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>"
                            "<text class=\"tick x\" x=\"%.1f\" y=\"%.1f\">%d</text>\n",
                            x, kBottom, x, kBottom + 5, x, kBottom + 19, column);
    }
    const double middle = (kTop + kBottom) / 2;
    absl::StrAppendFormat(&svg_,
                          "<path class=\"frame\" d=\"M%.1f %.1fH%.1fV%.1fH%.1fz\"/>\n"
                          "<text class=\"caption x\" x=\"%.1f\" y=\"%.1f\">%s</text>\n"
                          "<text class=\"caption x\" x=\"16\" y=\"%.1f\" "
                          "transform=\"rotate(-90 16 %.1f)\">%s</text>\n",
                          kLeft, kTop, kRight, kBottom, kLeft, (kLeft + kRight) / 2, kHeight - 12,
                          EscapeHtml(map_.x_title), middle, middle, EscapeHtml(map_.y_title));
  }

  void DrawTooltips() {
    for (size_t row = 0; row < std::min(map_.rows.size(), map_.tooltips.size()); ++row) {
      absl::StrAppendFormat(
          &svg_,
          "<path class=\"hit row\" d=\"M%.1f %.1fH%.1fV%.1fH%.1fz\"><title>%s</title></path>\n",
          kLeft, Y(row), kRight, Y(row + 1), kLeft, EscapeHtml(map_.tooltips[row]));
    }
  }

  const HeatMap& map_;
  std::string svg_;
};

}  // namespace

std::string SvgHeatMap(const HeatMap& map) { return Drawing(map).Draw(); }

}  // namespace lorc
