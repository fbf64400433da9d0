// What the command line shows people: progress on a terminal (silent in a pipe) and aligned tables.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace lorc {

// A line on stderr that is written over while a stage runs. Nothing where stderr is no terminal.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // `share` of the stage that is done, 0..1.
  void Show(const std::string& stage, double share);
  // Ends the line, so that other output may follow.
  void Clear();

 private:
  const bool terminal_;
  bool shown_ = false;
  std::string stage_;
  std::chrono::steady_clock::time_point stage_start_;
  std::chrono::steady_clock::time_point last_;
};

// Columns as wide as their widest cell; numbers (cells that start with a digit, sign or dot) to the
// right.
class Table {
 public:
  explicit Table(std::vector<std::string> header);
  void Add(std::vector<std::string> row);
  std::string ToString() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// Prints "error: message" to stderr and gives the exit status: 2 for what the caller can mend in
// the command (invalid arguments, missing files, plans of other models), 1 for the rest.
int ReportError(const absl::Status& status);

}  // namespace lorc
