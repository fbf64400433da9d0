#include "service/signal_watcher.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace lorc {
namespace {

// Ends the watcher; nobody else sends it.
constexpr int kStopSignal = SIGUSR2;

sigset_t WatchedSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, kStopSignal}) sigaddset(&signals, signal);
  return signals;
}

}  // namespace

SignalWatcher::SignalWatcher(std::function<void(int count)> on_signal) {
  signal(SIGPIPE, SIG_IGN);
  const sigset_t signals = WatchedSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  thread_ = std::thread([signals, on_signal = std::move(on_signal)] {
    int count = 0;
    int signal = 0;
    while (sigwait(&signals, &signal) == 0 && signal != kStopSignal) on_signal(++count);
  });
}

SignalWatcher::~SignalWatcher() {
  pthread_kill(thread_.native_handle(), kStopSignal);
  thread_.join();
}

}  // namespace lorc
