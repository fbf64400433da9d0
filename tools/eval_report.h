// What `lorc eval` says: the uncompressed model and plans side by side, as a table, as JSON and as
// a page (eval_page.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/compress/quality.h"

namespace lorc {

struct EvalPlan {
  std::string label;  // short, differs from the other plans'
  std::string path;
  std::string name;  // as the plan calls itself
  Quality quality;
  QualityChange change;  // against the uncompressed model
};

struct EvalReport {
  std::string model;    // its name
  std::string text;     // the file
  std::string weights;  // the type that they ran in
  int32_t window = 0;   // tokens
  Quality uncompressed;
  std::vector<EvalPlan> plans;
};

// Aligned tables: sizes, perplexity and recall, then what else was measured.
std::string EvalTable(const EvalReport& report);

// One object. No plan or one: that measurement's keys at the top, with a plan also "uncompressed";
// several: "uncompressed" and the list "plans". Intervals are [low, high], 95 %.
std::string EvalJson(const EvalReport& report);

// "-0.10 to +0.34 %"; "-" where there is none.
std::string PercentInterval(const Estimate& estimate);
// "+0.0010 to +0.0236", of nats; "+0.0123" where there is none.
std::string NatsInterval(const Estimate& estimate);

}  // namespace lorc
