#include "tools/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>

namespace lorc {
namespace {

using Clock = std::chrono::steady_clock;

bool IsNumber(const std::string& cell) {
  if (cell.empty()) return false;
  const char first = cell[0];
  return std::isdigit(static_cast<unsigned char>(first)) != 0 || first == '+' || first == '-' ||
         first == '.';
}

}  // namespace

ProgressLine::ProgressLine() : terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() { Clear(); }

void ProgressLine::Show(const std::string& stage, double share) {
  if (!terminal_) return;
  const auto now = Clock::now();
  if (stage != stage_) {
    Clear();
    stage_ = stage;
    stage_start_ = now;
    last_ = {};
  }
  if (share < 1 && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  constexpr int kWidth = 24;
  const int filled = std::clamp(static_cast<int>(share * kWidth), 0, kWidth);
  const double seconds = std::chrono::duration<double>(now - stage_start_).count();
  std::fprintf(stderr, "\r\033[K%-36s [%-*s] %3d %%  %.0f s", stage.c_str(), kWidth,
               std::string(filled, '#').c_str(), static_cast<int>(share * 100 + 0.5), seconds);
  std::fflush(stderr);
  shown_ = true;
}

void ProgressLine::Clear() {
  if (shown_) std::fputc('\n', stderr);
  shown_ = false;
  stage_.clear();
}

Table::Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }

void Table::Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

std::string Table::ToString() const {
  const size_t columns = rows_[0].size();
  std::vector<size_t> widths(columns, 0);
  std::vector<bool> numeric(columns, true);
  for (size_t r = 0; r < rows_.size(); ++r) {
    for (size_t c = 0; c < columns; ++c) {
      widths[c] = std::max(widths[c], rows_[r][c].size());
      if (r > 0 && !IsNumber(rows_[r][c])) numeric[c] = false;
    }
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t c = 0; c < columns; ++c) {
      if (c > 0) line += "  ";
      const std::string padding(widths[c] - row[c].size(), ' ');
      line += numeric[c] ? padding + row[c] : row[c] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

int ReportError(const absl::Status& status) {
  std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kOutOfRange:
      return 2;
    default:
      return 1;
  }
}

}  // namespace lorc
