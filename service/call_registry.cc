#include "service/call_registry.h"

#include "scheduler/engine.h"

namespace lorc {

void CallRegistry::Add(Call* call) {
  MutexLock lock(mutex_);
  calls_.insert(call);
}

void CallRegistry::Remove(Call* call) {
  MutexLock lock(mutex_);
  calls_.erase(call);
  if (calls_.empty()) emptied_.NotifyAll();
}

int64_t CallRegistry::size() const {
  MutexLock lock(mutex_);
  return static_cast<int64_t>(calls_.size());
}

bool CallRegistry::WaitEmpty(int64_t until_ns) {
  MutexLock lock(mutex_);
  while (!calls_.empty() && Engine::NowNs() < until_ns) emptied_.WaitUntil(mutex_, until_ns);
  return calls_.empty();
}

int64_t CallRegistry::CutStuck(int64_t now_ns, int64_t limit_ns) {
  int64_t cut = 0;
  MutexLock lock(mutex_);
  for (Call* call : calls_) {
    const int64_t since_ns = call->sending_since_ns_.load(std::memory_order_relaxed);
    if (since_ns == 0 || now_ns - since_ns < limit_ns) continue;
    call->EndSend();  // once
    call->Cut();
    ++cut;
  }
  return cut;
}

}  // namespace lorc
