// A matrix of numbers as shades of one colour, beside the charts of svg_chart.h and in their style.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace lorc {

struct HeatMap {
  std::string title;  // also what screen readers say
  std::string x_title, y_title;
  std::string shade_title;  // what shades stand for
  // Rows from top to bottom, of the same length; row and column are numbered from 0. Numbers that
  // are not finite are left blank.
  std::vector<std::vector<double>> rows;
  std::vector<std::string> tooltips;  // of whole rows; may be empty
  // The numbers of the palest and of the strongest shade; those beyond have the same. from < to.
  double from = 0;
  double to = 1;
  std::function<std::string(double)> format;  // of a shade's number
};

// An <svg> element for a page with SvgChartStyle(). Neighbours of one shade are drawn as one, so
// that its size grows with the picture's detail and not with the matrix.
std::string SvgHeatMap(const HeatMap& map);

}  // namespace lorc
