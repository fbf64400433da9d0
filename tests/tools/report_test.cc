// Charts and pages as text: well-formed, escaped, and sound for any data.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <regex>
#include <string>
#include <vector>

#include "tests/tools/markup.h"
#include "tools/report/heat_map.h"
#include "tools/report/html_page.h"
#include "tools/report/html_text.h"
#include "tools/report/memory_chart.h"
#include "tools/report/number_text.h"
#include "tools/report/svg_chart.h"

namespace lorc {
namespace {

using test::Count;
using test::Malformed;
using testing::HasSubstr;
using testing::Not;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Every number of the drawing is finite, and within its area.
void ExpectSound(const std::string& svg) {
  EXPECT_EQ(Malformed(svg), "") << svg;
  EXPECT_THAT(svg, Not(testing::AnyOf(HasSubstr("=\"nan"), HasSubstr("=\"-nan"),
                                      HasSubstr("=\"inf"), HasSubstr("=\"-inf"))));
  static const std::regex kX(R"re( (?:x|x1|x2|cx)="([-0-9.]+)")re");
  static const std::regex kY(R"re( (?:y|y1|y2|cy)="([-0-9.]+)")re");
  static const std::regex kPath(R"re( d="([^"]*)")re");
  for (std::sregex_iterator i(svg.begin(), svg.end(), kX), end; i != end; ++i) {
    EXPECT_GE(std::stod((*i)[1]), 0) << svg;
    EXPECT_LE(std::stod((*i)[1]), 720) << svg;
  }
  for (std::sregex_iterator i(svg.begin(), svg.end(), kY), end; i != end; ++i) {
    EXPECT_GE(std::stod((*i)[1]), 0) << svg;
    EXPECT_LE(std::stod((*i)[1]), 420) << svg;
  }
  for (std::sregex_iterator i(svg.begin(), svg.end(), kPath), end; i != end; ++i) {
    EXPECT_EQ((*i)[1].str().find("nan"), std::string::npos);
    EXPECT_EQ((*i)[1].str().find("inf"), std::string::npos);
  }
}

Chart OneSeries(std::vector<ChartPoint> points) {
  Chart chart;
  chart.title = "title";
  chart.series = {{.name = "series", .points = std::move(points)}};
  return chart;
}

ChartPoint At(double x, double y) {
  return {.x = x, .y = y, .low = {}, .high = {}, .label = "", .tooltip = ""};
}

TEST(SvgChart, DrawsPointsLinesAndBars) {
  Chart chart = OneSeries({At(1, 10), At(2, 20), At(3, 15)});
  chart.series[0].points[1].low = 18;
  chart.series[0].points[1].high = 23;
  chart.series[0].points[1].label = "second";
  chart.series[0].points[1].tooltip = "the second point";
  chart.x.title = "across";
  chart.y.title = "up";
  const std::string svg = SvgChart(chart);
  ExpectSound(svg);
  EXPECT_EQ(Count(svg, "class=\"marker\""), 3);
  EXPECT_EQ(Count(svg, "class=\"bar\""), 1);
  EXPECT_EQ(Count(svg, "class=\"line\""), 1);
  for (const char* text :
       {">second<", ">the second point<", ">across<", ">up<", ">title<", ">10<", ">20<"}) {
    EXPECT_THAT(svg, HasSubstr(text));
  }
}

TEST(SvgChart, LegendNamesEverySeriesAndColoursAgree) {
  Chart chart;
  for (int i = 0; i < 20; ++i) {
    chart.series.push_back({.name = "a plan with a long name, number " + std::to_string(i),
                            .points = {At(i, i), At(i + 1, i)},
                            .reference = i == 0});
  }
  const std::string svg = SvgChart(chart);
  ExpectSound(svg);
  EXPECT_EQ(Count(svg, "a plan with a long name"), 20);
  EXPECT_EQ(Count(svg, "<g class=\"reference\">"), 2);  // in the legend and in the plot
  EXPECT_EQ(Count(svg, "<g class=\"c0\">"), 6);         // series 1, 9 and 17
  chart.legend = false;
  EXPECT_THAT(SvgChart(chart), Not(HasSubstr("a plan with a long name")));
}

TEST(SvgChart, EscapesEverything) {
  const std::string nasty = "<script>\"&'\x01\xff";
  Chart chart = OneSeries({At(1, 1), At(2, 2)});
  chart.title = chart.x.title = chart.y.title = nasty;
  chart.series[0].name = nasty;
  chart.series[0].points[0].label = chart.series[0].points[0].tooltip = nasty;
  chart.x.format = [&](double) { return nasty; };
  chart.series.push_back(chart.series[0]);
  const std::string svg = SvgChart(chart);
  ExpectSound(svg);
  EXPECT_THAT(svg, Not(HasSubstr("<script")));
  EXPECT_THAT(svg, Not(HasSubstr("\x01")));
  EXPECT_THAT(svg, HasSubstr("&lt;script&gt;&quot;&amp;&#39;\xEF\xBF\xBD\xEF\xBF\xBD"));
}

TEST(SvgChart, LeavesOutWhatIsNotFinite) {
  const std::string svg = SvgChart(OneSeries(
      {At(1, 1), At(2, kNan), At(kInfinity, 3), At(4, -kInfinity), At(5, 1e308), At(6, 2)}));
  ExpectSound(svg);
  EXPECT_EQ(Count(svg, "class=\"marker\""), 2);
  const std::regex broken(R"re(d="M[0-9. ]+M[0-9. ]+")re");  // and the line between them
  EXPECT_TRUE(std::regex_search(svg, broken)) << svg;
}

TEST(SvgChart, SaysThatThereIsNothing) {
  for (const Chart& chart : {Chart(), OneSeries({}), OneSeries({At(kNan, kNan)})}) {
    const std::string svg = SvgChart(chart);
    ExpectSound(svg);
    EXPECT_THAT(svg, HasSubstr("no data"));
  }
  Chart logarithmic = OneSeries({At(1, 0), At(2, -1)});
  logarithmic.y.scale = AxisScale::kLog;
  EXPECT_THAT(SvgChart(logarithmic), HasSubstr("no data"));
}

TEST(SvgChart, AnyRangeHasAnAxis) {
  for (const double y : {0.0, 1e-300, -1e-12, 1.0, 23040.0, -1e140, 1e140}) {
    for (const double other : {y, y * (1 + 1e-15), y + 1, -y}) {
      for (const AxisScale scale : {AxisScale::kLinear, AxisScale::kLog}) {
        Chart chart = OneSeries({At(y, y), At(other, other)});
        chart.x.scale = chart.y.scale = scale;
        chart.baseline = 0;
        ExpectSound(SvgChart(chart));
      }
    }
  }
}

TEST(SvgChart, WideBarsDoNotSquashThePoints) {
  Chart chart = OneSeries({At(0, 0), At(1, 1)});
  chart.series[0].points[1].low = -1e9;
  chart.series[0].points[1].high = kInfinity;
  ExpectSound(SvgChart(chart));
  chart.series[0].points[1].high = 1e9;
  const std::string svg = SvgChart(chart);
  ExpectSound(svg);
  EXPECT_THAT(svg, HasSubstr("class=\"bar\""));
  EXPECT_THAT(svg, HasSubstr(">1.0<"));  // a tick
  EXPECT_THAT(svg, Not(HasSubstr("000,000<")));
}

TEST(SvgChart, LogarithmicTicksArePowers) {
  Chart chart = OneSeries({At(1, 1), At(2, 1000)});
  chart.y.scale = AxisScale::kLog;
  const std::string svg = SvgChart(chart);
  ExpectSound(svg);
  for (const char* tick : {">1<", ">10<", ">100<", ">1000<"}) EXPECT_THAT(svg, HasSubstr(tick));
}

TEST(SvgChart, LabelsOfNearPointsDoNotOverlap) {
  Chart chart = OneSeries({At(1, 1), At(1.001, 1.001), At(1.002, 1), At(5, 5)});
  for (ChartPoint& point : chart.series[0].points) point.label = "a label";
  const std::string svg = SvgChart(chart);
  ExpectSound(svg);
  static const std::regex kLabel(R"re(x="([-0-9.]+)" y="([-0-9.]+)">a label<)re");
  std::vector<std::pair<double, double>> at;
  for (std::sregex_iterator i(svg.begin(), svg.end(), kLabel), end; i != end; ++i) {
    for (const auto& [x, y] : at) {
      EXPECT_TRUE(std::abs(std::stod((*i)[1]) - x) > 40 || std::abs(std::stod((*i)[2]) - y) > 12);
    }
    at.emplace_back(std::stod((*i)[1]), std::stod((*i)[2]));
  }
  EXPECT_EQ(at.size(), 4);
}

TEST(HtmlPage, IsOnePageWithoutOutsideResources) {
  HtmlPage page("a <b> title", "sub & title");
  page.AddHeading("1 < 2");
  page.AddParagraph("\"quoted\"");
  page.AddFigures({{SvgChart(OneSeries({At(1, 1)})), "<caption>"}, {SvgChart(Chart()), ""}});
  page.AddTable({"name", "<th>"}, {{"x & y", "1"}, {"</table>", "2"}});
  const std::string html = page.ToString();
  EXPECT_EQ(Malformed(html), "") << html;
  EXPECT_THAT(html, testing::StartsWith("<!DOCTYPE html>\n"));
  for (const char* text :
       {"<title>a &lt;b&gt; title</title>", "<h2>1 &lt; 2</h2>", "sub &amp; title",
        "&lt;/table&gt;", "&lt;th&gt;", "&lt;caption&gt;", "prefers-color-scheme: dark"}) {
    EXPECT_THAT(html, HasSubstr(text));
  }
  // Nothing is fetched; the one address is the name of SVG's vocabulary.
  EXPECT_EQ(Count(html, "http"), Count(html, "xmlns=\"http://www.w3.org/2000/svg\""));
  for (const char* text : {"src=", "href=", "url(", "@import", "<script"}) {
    EXPECT_THAT(html, Not(HasSubstr(text)));
  }
}

TEST(HtmlText, Thousands) {
  EXPECT_EQ(WithThousands(0), "0");
  EXPECT_EQ(WithThousands(999.4), "999");
  EXPECT_EQ(WithThousands(23040), "23,040");
  EXPECT_EQ(WithThousands(-1234567), "-1,234,567");
  EXPECT_EQ(WithThousands(-0.2), "0");
  EXPECT_EQ(NumCharacters("a\xc3\xa9\xe2\x82\xac"), 3);
}

TEST(NumberText, SharesAndChanges) {
  EXPECT_EQ(Nats(0.12346), "0.1235");
  EXPECT_EQ(Share(0.1234), "12.3 %");
  EXPECT_EQ(Percent(0.00123), "+0.12 %");
  EXPECT_EQ(Percent(-0.5), "-50.00 %");
  EXPECT_EQ(PlainPercent(0.05), "5 %");
  EXPECT_EQ(PlainPercent(0.0025), "0.25 %");
}

TEST(MemoryChart, SaysWhatCachesTake) {
  Chart chart = MemoryChart("title", "figure");
  chart.series = {{.name = "a cache", .points = {MemoryPoint("a cache", 23040)}}};
  const std::string svg = SvgChart(chart);
  ExpectSound(svg);
  EXPECT_THAT(svg, HasSubstr(">bytes per token<"));
  EXPECT_THAT(svg, HasSubstr(">figure<"));
  EXPECT_THAT(svg, HasSubstr("<title>a cache\n23,040 bytes per token</title>"));
}

TEST(SvgChart, LinesWithoutMarkersAndEndsOfAxes) {
  Chart chart = OneSeries({At(0, 0.4), At(1, 0.5)});
  chart.series[0].markers = false;
  chart.y.format = [](double value) { return "up " + std::to_string(std::lround(10 * value)); };
  const std::string narrow = SvgChart(chart);
  ExpectSound(narrow);
  EXPECT_EQ(Count(narrow, "class=\"line\""), 1);
  EXPECT_EQ(Count(narrow, "class=\"marker\""), 0);
  EXPECT_THAT(narrow, Not(HasSubstr(">up 10<")));
  chart.y.from = 0;
  chart.y.to = 1;
  const std::string wide = SvgChart(chart);
  ExpectSound(wide);
  EXPECT_THAT(wide, testing::AllOf(HasSubstr(">up 0<"), HasSubstr(">up 10<")));
  chart.y.to = kNan;  // is no end
  chart.y.scale = AxisScale::kLog;
  ExpectSound(SvgChart(chart));
}

HeatMap Map(std::vector<std::vector<double>> rows) {
  HeatMap map;
  map.title = "title";
  map.x_title = "across";
  map.y_title = "down";
  map.shade_title = "shades";
  map.rows = std::move(rows);
  map.format = [](double value) { return std::to_string(static_cast<int>(value)) + " units"; };
  return map;
}

// Corners of the cells: of the strongest shade, then of the palest.
TEST(SvgHeatMap, NeighboursOfOneShadeAreOneArea) {
  const std::string svg = SvgHeatMap(Map({{1, 1, 0, 0}, {7, kInfinity, -3, 0}, {1, 0, 0, kNan}}));
  ExpectSound(svg);
  for (const char* text : {">title<", ">across<", ">down<", ">shades<", ">0 units<", ">1 units<"}) {
    EXPECT_THAT(svg, HasSubstr(text));
  }
  const std::regex area(R"(M([0-9.]+) ([0-9.]+)H([0-9.]+)V([0-9.]+)H[0-9.]+z)");
  std::vector<double> widths;
  for (std::sregex_iterator i(svg.begin(), svg.end(), area), end; i != end; ++i) {
    widths.push_back(std::stod((*i)[3]) - std::stod((*i)[1]));
  }
  const double column = (widths.back()) / 4;  // the frame comes last
  widths.pop_back();
  ASSERT_EQ(widths.size(), 6u);  // palest: 2, 2, 2; strongest: 2, 1, 1 columns
  const double columns[] = {2, 2, 2, 2, 1, 1};
  for (size_t i = 0; i < widths.size(); ++i) EXPECT_NEAR(widths[i], columns[i] * column, 0.15);
}

TEST(SvgHeatMap, SizeFollowsTheDetail) {
  const std::vector<double> row(10000, 0.5);
  EXPECT_LT(SvgHeatMap(Map(std::vector(100, row))).size(), 20000u);
}

TEST(SvgHeatMap, IsSoundForAnyData) {
  ExpectSound(SvgHeatMap(Map({})));
  EXPECT_THAT(SvgHeatMap(Map({})), HasSubstr("no data"));
  EXPECT_THAT(SvgHeatMap(Map({{}, {}})), HasSubstr("no data"));
  ExpectSound(SvgHeatMap(Map({{kNan}})));
  ExpectSound(SvgHeatMap(Map({{1e300, -1e300, kInfinity, -kInfinity}})));
  HeatMap nasty = Map({{0, 1}});
  nasty.title = nasty.x_title = nasty.y_title = nasty.shade_title = "<script>\"&'\x01\xff";
  nasty.tooltips = {nasty.title, "of a row that is not there"};
  nasty.format = [&](double) { return nasty.title; };
  const std::string svg = SvgHeatMap(nasty);
  ExpectSound(svg);
  EXPECT_THAT(svg, testing::AllOf(Not(HasSubstr("<script>")), Not(HasSubstr("not there"))));
}

}  // namespace
}  // namespace lorc
