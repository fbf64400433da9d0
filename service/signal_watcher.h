// SIGTERM and SIGINT as calls on a thread of their own.
#pragma once

#include <functional>
#include <thread>

namespace lorc {

class SignalWatcher {
 public:
  // Must be made before any other thread, so that all of them leave the signals alone. SIGPIPE is
  // ignored from now on. `on_signal` gets how many have come, 1 first.
  explicit SignalWatcher(std::function<void(int count)> on_signal);
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

 private:
  std::thread thread_;
};

}  // namespace lorc
