#include "tests/service/process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "kernels/base/check.h"
#include "tests/support/files.h"

namespace lorc::test {
namespace {

int ExitStatus(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Process::Process(const std::vector<std::string>& arguments) {
  std::string name = (std::filesystem::temp_directory_path() / "lorc_process_XXXXXX").string();
  LORC_CHECK(mkdtemp(name.data()) != nullptr);
  folder_ = name;
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const std::string out_path = folder_ + "/out";
  const std::string err_path = folder_ + "/err";
  pid_ = fork();
  LORC_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    const int out = open(out_path.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
    const int err = open(err_path.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
}

Process::~Process() {
  if (!HasEnded()) {
    Signal(SIGKILL);
    Wait();
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void Process::Signal(int signal) const { kill(pid_, signal); }

bool Process::HasEnded() {
  if (status_ >= 0) return true;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == pid_) status_ = ExitStatus(status);
  return status_ >= 0;
}

int Process::Wait() {
  if (status_ >= 0) return status_;
  int status = 0;
  LORC_CHECK(waitpid(pid_, &status, 0) == pid_);
  return status_ = ExitStatus(status);
}

std::string Process::out() const { return ReadFile(folder_ + "/out"); }
std::string Process::err() const { return ReadFile(folder_ + "/err"); }

bool Process::WaitForOut(const std::string& text) {
  for (int i = 0; i < 6000; ++i) {
    const bool has_ended = HasEnded();
    if (out().find(text) != std::string::npos) return true;
    if (has_ended) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

Ended RunToEnd(const std::vector<std::string>& command) {
  Process process(command);
  Ended ended;
  ended.status = process.Wait();
  ended.out = process.out();
  ended.err = process.err();
  return ended;
}

}  // namespace lorc::test
