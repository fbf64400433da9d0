// The calls that are being answered: so that a shutdown can wait for them and a client that takes
// nothing can be cut off.
#pragma once

#include <atomic>
#include <cstdint>
#include <unordered_set>

#include "scheduler/mutex.h"

namespace lorc {

class CallRegistry {
 public:
  class Call {
   public:
    virtual ~Call() = default;

    // Ends the call whatever the client does. Called while the call is registered, with a lock
    // held.
    virtual void Cut() = 0;

    // Around everything that is sent: since when (Engine::NowNs) the client has not taken it.
    void BeginSend(int64_t now_ns) { sending_since_ns_.store(now_ns, std::memory_order_relaxed); }
    void EndSend() { sending_since_ns_.store(0, std::memory_order_relaxed); }

   private:
    friend class CallRegistry;
    std::atomic<int64_t> sending_since_ns_{0};  // 0: nothing is under way
  };

  // Any thread. A call is added when it starts and removed before its context goes away.
  void Add(Call* call);
  void Remove(Call* call);

  int64_t size() const;

  // Waits until there is none, at most until this time on Engine::NowNs's clock. True: there is
  // none.
  bool WaitEmpty(int64_t until_ns);

  // Cuts the calls whose clients have taken nothing for longer than this. Returns how many.
  int64_t CutStuck(int64_t now_ns, int64_t limit_ns);

 private:
  mutable Mutex mutex_;
  CondVar emptied_;
  std::unordered_set<Call*> calls_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lorc
