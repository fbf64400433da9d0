// Programs as the shell sees them: exit status, output, signals.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace lorc::test {

class Process {
 public:
  // Starts it; its output goes to files.
  explicit Process(const std::vector<std::string>& arguments);
  ~Process();  // kills it if it still runs
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void Signal(int signal) const;
  // The exit status, or 128 + signal.
  int Wait();

  std::string out() const;
  std::string err() const;
  // Waits for text on standard output; false after a minute or where the process has ended.
  bool WaitForOut(const std::string& text);

 private:
  bool HasEnded();

  std::string folder_;
  pid_t pid_ = 0;
  int status_ = -1;  // once it has ended
};

struct Ended {
  int status = 0;
  std::string out, err;
};
Ended RunToEnd(const std::vector<std::string>& command);

}  // namespace lorc::test
