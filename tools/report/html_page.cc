#include "tools/report/html_page.h"

#include "absl/strings/str_cat.h"
#include "tools/report/html_text.h"
#include "tools/report/svg_chart.h"

namespace lorc {
namespace {

constexpr absl::string_view kStyle = R"(* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1500px; padding: 32px 24px 64px; background: var(--surface);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 36px 0 8px; }
p { margin: 0 0 12px; max-width: 80ch; color: var(--muted); overflow-wrap: anywhere; }
.figures { display: grid; gap: 20px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); }
figure { margin: 0; padding: 12px 8px 8px; border: 1px solid var(--grid); border-radius: 8px; }
figcaption { padding: 4px 12px 8px; color: var(--muted); font-size: 13px; }
.scroll { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: 7px 14px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--grid); }
th { color: var(--muted); font-weight: 600; border-bottom-color: var(--axis); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
@media print { body { max-width: none; padding: 0; } figure { break-inside: avoid; } }
)";

std::string Row(const std::vector<std::string>& cells, absl::string_view tag) {
  std::string row = "<tr>";
  for (const std::string& cell : cells) {
    absl::StrAppend(&row, "<", tag, ">", EscapeHtml(cell), "</", tag, ">");
  }
  return row + "</tr>\n";
}

}  // namespace

HtmlPage::HtmlPage(std::string_view title, std::string_view subtitle) : title_(EscapeHtml(title)) {
  absl::StrAppend(&body_, "<h1>", title_, "</h1>\n");
  AddParagraph(subtitle);
}

void HtmlPage::AddHeading(std::string_view text) {
  absl::StrAppend(&body_, "<h2>", EscapeHtml(text), "</h2>\n");
}

void HtmlPage::AddParagraph(std::string_view text) {
  absl::StrAppend(&body_, "<p>", EscapeHtml(text), "</p>\n");
}

void HtmlPage::AddFigures(const std::vector<HtmlFigure>& figures) {
  body_ += "<div class=\"figures\">\n";
  for (const HtmlFigure& figure : figures) {
    absl::StrAppend(&body_, "<figure>\n", figure.svg, "<figcaption>", EscapeHtml(figure.caption),
                    "</figcaption>\n</figure>\n");
  }
  body_ += "</div>\n";
}

void HtmlPage::AddTable(const std::vector<std::string>& header,
                        const std::vector<std::vector<std::string>>& rows) {
  absl::StrAppend(&body_, "<div class=\"scroll\"><table>\n<thead>\n", Row(header, "th"),
                  "</thead>\n<tbody>\n");
  for (const auto& row : rows) body_ += Row(row, "td");
  body_ += "</tbody>\n</table></div>\n";
}

std::string HtmlPage::ToString() const {
  const std::string_view chart_style = SvgChartStyle();
  return absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
      title_, "</title>\n<style>\n", absl::string_view(chart_style.data(), chart_style.size()),
      kStyle, "</style>\n</head>\n<body>\n", body_, "</body>\n</html>\n");
}

}  // namespace lorc
