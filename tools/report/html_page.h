// One self-contained HTML page: headings, tables and charts, in the reader's light or dark scheme,
// printable, no outside resources. All texts are escaped; only charts are taken as they are.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lorc {

struct HtmlFigure {
  std::string svg;      // of SvgChart
  std::string caption;  // below it
};

class HtmlPage {
 public:
  HtmlPage(std::string_view title, std::string_view subtitle);

  void AddHeading(std::string_view text);
  void AddParagraph(std::string_view text);
  // Side by side where there is room.
  void AddFigures(const std::vector<HtmlFigure>& figures);
  // The first column is a name, to the left; the others stand to the right. Rows are as long as the
  // header.
  void AddTable(const std::vector<std::string>& header,
                const std::vector<std::vector<std::string>>& rows);

  std::string ToString() const;

 private:
  std::string title_;
  std::string body_;
};

}  // namespace lorc
