// The table of `pareto` as a page: quality against bytes per token by family, and the numbers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lorc {

struct ParetoFamily {
  std::string name;   // a series of the charts
  bool line = false;  // its caches differ in their size alone
};

struct ParetoRow {
  std::string name;
  ParetoFamily family;
  double bytes_per_token = 0;
  double perplexity = 0;
  double change = 0;     // of perplexity, relative to the uncompressed cache's
  double predicted = 0;  // of that change; 0: not predicted
  double recall = 0;     // nats
};

struct ParetoReport {
  std::string model;  // its name
  std::string text;   // the file that was measured on
  int32_t num_windows = 0;
  int32_t window = 0;  // tokens
  ParetoRow uncompressed;
  std::vector<ParetoRow> rows;
};

// Families take their colours in the order of their rows. Rows that would squash the charts are in
// the table alone.
std::string ParetoPage(const ParetoReport& report);

}  // namespace lorc
