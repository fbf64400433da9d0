// A request on its way through the scheduler.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "scheduler/block_manager.h"
#include "scheduler/ledger.h"
#include "scheduler/request.h"

namespace lorc {

enum class SequenceState {
  kWaiting,  // holds nothing
  kRunning,  // its whole need is promised; stays so until it ends
  kFinished
};

struct Sequence {
  Request request;  // its prompt is moved into `tokens`
  int64_t order;    // of submission
  SequenceState state = SequenceState::kWaiting;

  std::vector<TokenId> tokens;  // known: prompt, then generated; never reallocated while running
  int32_t num_prompt_tokens;
  int32_t num_computed = 0;

  BlockCounts need;
  Claim claim;
  BlockTable blocks;

  int64_t admitted_ns = 0;
  int64_t first_token_ns = 0;
  int64_t last_token_ns = 0;
  int64_t paused_since_ns = kNeverNs;  // kNeverNs: not paused

  Sequence(Request request_in, int64_t order_in, const KvGeometry& geometry, BlockCounts need_in)
      : request(std::move(request_in)),
        order(order_in),
        tokens(std::move(request.prompt)),
        num_prompt_tokens(static_cast<int32_t>(tokens.size())),
        need(need_in),
        blocks(geometry, 0) {}

  int32_t num_known() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_generated() const { return num_known() - num_prompt_tokens; }
  int64_t longest() const { return int64_t{num_prompt_tokens} + request.max_tokens; }
  bool is_paused() const { return paused_since_ns != kNeverNs; }

  // Larger priority first, then first come, first served.
  bool Precedes(const Sequence& other) const {
    if (request.priority != other.request.priority) {
      return request.priority > other.request.priority;
    }
    return order < other.order;
  }
};

}  // namespace lorc
