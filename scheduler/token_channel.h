// One request's tokens on their way from the engine thread to whoever reads them. Bounded; neither
// side ever waits for the other.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "scheduler/mutex.h"
#include "scheduler/request.h"

namespace lorc {

class TokenChannel {
 public:
  // At most `capacity` >= 1 tokens lie unread: the engine pauses the request when Push says that it
  // is full.
  //
  // `on_ready` is called by Push and End when there is something to read and there was nothing new
  // since the last Read: once per Read, and spuriously if a Read overtakes it. The last call is
  // that of End; the function is destroyed after it, so what it captures (a shared_ptr to the
  // reader) lives until then. May be empty.
  // `on_room` is called by Read, under the channel's lock, when it empties a full channel.
  TokenChannel(int32_t capacity, std::function<void()> on_ready, std::function<void()> on_room);

  // Reader, one thread at a time. Moves what is there to the end of `tokens`. True: the request has
  // ended, nothing follows, and outcome() may be called.
  bool Read(std::vector<GeneratedToken>& tokens);
  const Outcome& outcome() const { return outcome_; }

  // Engine thread only. Push says whether the channel is full, then the next Push must come after
  // on_room. End is called once, last.
  bool Push(GeneratedToken token);
  void End(Outcome outcome);

 private:
  const int32_t capacity_;
  std::function<void()> on_ready_;  // engine thread only
  const std::function<void()> on_room_;

  Mutex mutex_;
  std::vector<GeneratedToken> tokens_ ABSL_GUARDED_BY(mutex_);
  bool reader_knows_ ABSL_GUARDED_BY(mutex_) = false;  // on_ready was called since the last Read
  bool is_full_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_ended_ ABSL_GUARDED_BY(mutex_) = false;
  Outcome outcome_;  // written before has_ended_, constant afterwards
};

}  // namespace lorc
