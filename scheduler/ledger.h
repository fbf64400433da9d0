// How much of the cache is spoken for.
//
// For each block kind: `written` blocks are held by sequences, `promised` blocks are those that
// admitted requests may still need. A request is admitted only where its whole need can be promised
// (Fits), the promise shrinks as blocks are taken and goes back whole at the end, so
//   written + promised <= budget
// holds for each kind and in total at every moment, and an admitted request never fails for memory.
//
// A prefill chunk holds more exact blocks while it is computed than its sequence needs from step to
// step. These extra blocks come from a headroom that admission leaves free; they count as written
// while they are held.
//
// Accounts are kept in blocks and reported in bytes, which are blocks times the kind's price.
// No locks: engine thread only.
#pragma once

#include <cstdint>

#include "runtime/kv/geometry.h"
#include "scheduler/block_manager.h"

namespace lorc {

// One request's part: what it was promised when it was admitted and what it holds of that.
struct Claim {
  BlockCounts need;
  BlockCounts held;
};

struct Account {
  int64_t block_bytes = 0;
  int64_t blocks_total = 0;
  int64_t blocks_headroom = 0;  // of the total, kept for the extra blocks of prefill chunks
  int64_t blocks_written = 0;
  int64_t blocks_promised = 0;

  int64_t budget_bytes() const { return blocks_total * block_bytes; }
  int64_t headroom_bytes() const { return blocks_headroom * block_bytes; }
  int64_t written_bytes() const { return blocks_written * block_bytes; }
  int64_t promised_bytes() const { return blocks_promised * block_bytes; }
};

class Ledger {
 public:
  Ledger(const KvGeometry& geometry, int64_t exact_headroom_blocks);

  const Account& latent() const { return latent_; }
  const Account& exact() const { return exact_; }

  // Could a request with this need run if it were alone?
  bool EverFits(BlockCounts need) const;
  // Can its need be promised now?
  bool Fits(BlockCounts need) const;

  Claim Open(BlockCounts need);               // requires Fits(need)
  void Move(Claim& claim, BlockCounts held);  // the sequence now holds this many blocks
  void Close(Claim& claim);

 private:
  void Add(const Claim& claim, int64_t sign);
  void CheckInvariants() const;

  Account latent_;
  Account exact_;
  int64_t exact_extra_ = 0;  // blocks held beyond their claims' need
};

}  // namespace lorc
