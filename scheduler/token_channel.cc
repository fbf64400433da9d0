#include "scheduler/token_channel.h"

#include <iterator>
#include <utility>

#include "kernels/base/check.h"

namespace lorc {

TokenChannel::TokenChannel(int32_t capacity, std::function<void()> on_ready,
                           std::function<void()> on_room)
    : capacity_(capacity), on_ready_(std::move(on_ready)), on_room_(std::move(on_room)) {
  LORC_CHECK_GE(capacity, 1);
}

bool TokenChannel::Read(std::vector<GeneratedToken>& tokens) {
  MutexLock lock(mutex_);
  if (tokens.empty()) {
    tokens.swap(tokens_);
  } else {
    tokens.insert(tokens.end(), std::make_move_iterator(tokens_.begin()),
                  std::make_move_iterator(tokens_.end()));
  }
  tokens_.clear();
  reader_knows_ = false;
  // Under the lock: once End has had it, the engine is not called any more and may go away.
  if (is_full_ && !has_ended_ && on_room_) on_room_();
  is_full_ = false;
  return has_ended_;
}

bool TokenChannel::Push(GeneratedToken token) {
  bool tell;
  bool full;
  {
    MutexLock lock(mutex_);
    LORC_CHECK(!is_full_ && !has_ended_);
    tokens_.push_back(std::move(token));
    full = is_full_ = static_cast<int32_t>(tokens_.size()) >= capacity_;
    tell = !std::exchange(reader_knows_, true);
  }
  if (tell && on_ready_) on_ready_();
  return full;
}

void TokenChannel::End(Outcome outcome) {
  bool tell;
  {
    MutexLock lock(mutex_);
    LORC_CHECK(!has_ended_);
    outcome_ = std::move(outcome);
    has_ended_ = true;
    tell = !std::exchange(reader_knows_, true);
  }
  if (tell && on_ready_) on_ready_();
  on_ready_ = nullptr;
}

}  // namespace lorc
