// The scheduler's reports about itself.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/scheduler.h"

namespace lorc {
namespace {

KindStats Kind(const Account& account, int64_t blocks_free) {
  KindStats stats;
  stats.block_bytes = account.block_bytes;
  stats.budget_bytes = account.budget_bytes();
  stats.headroom_bytes = account.headroom_bytes();
  stats.written_bytes = account.written_bytes();
  stats.promised_bytes = account.promised_bytes();
  stats.blocks_total = account.blocks_total;
  stats.blocks_free = blocks_free;
  return stats;
}

// Marks the ids in a table; returns how many were there, or -1 if one is marked already.
int64_t MarkIds(std::span<const BlockId> ids, std::vector<bool>& seen) {
  int64_t count = 0;
  for (const BlockId id : ids) {
    if (id == kNoBlock) continue;
    if (seen[id]) return -1;
    seen[id] = true;
    ++count;
  }
  return count;
}

}  // namespace

SchedulerStats Scheduler::Stats() const {
  SchedulerStats stats = counts_;
  stats.latent = Kind(ledger_.latent(), blocks_.free().latent);
  stats.exact = Kind(ledger_.exact(), blocks_.free().exact);
  stats.block_tokens = geometry_.block_tokens;
  stats.written_bytes_full = counts_.written_tokens * geometry_.full_bytes_per_token;
  stats.running = num_running();
  // Some may have left since the latest look at the queue, and who came has not been tried yet.
  stats.waiting_kv_budget = std::min(counts_.waiting_kv_budget, num_waiting());
  stats.waiting_batch_slots =
      std::min(counts_.waiting_batch_slots, num_waiting() - stats.waiting_kv_budget);
  stats.waiting_queue = num_waiting() - stats.waiting_kv_budget - stats.waiting_batch_slots;
  stats.waiting_prompt_tokens = waiting_.prompt_tokens();
  stats.wait_estimate_ns = wait_estimator_.EstimateNs(waiting_.size());
  return stats;
}

std::string Scheduler::AuditForTest() const {
  BlockCounts held;
  BlockCounts promised;
  int64_t computed = 0;
  int64_t prompt_tokens = 0;
  int64_t paused = 0;
  std::vector<bool> seen_latent(geometry_.num_latent_blocks);
  std::vector<bool> seen_exact(geometry_.num_exact_blocks);
  for (const auto& [id, sequence] : sequences_) {
    if (sequence->state == SequenceState::kWaiting) {
      prompt_tokens += sequence->num_prompt_tokens;
      if (sequence->blocks.held() != BlockCounts{}) {
        return absl::StrCat("waiting sequence ", id, " holds blocks");
      }
      continue;
    }
    const BlockCounts own = {MarkIds(sequence->blocks.latent(), seen_latent),
                             MarkIds(sequence->blocks.exact(), seen_exact)};
    if (own.latent < 0 || own.exact < 0) {
      return absl::StrCat("sequence ", id, " holds a block that another one holds");
    }
    if (own != sequence->blocks.held() || own != sequence->claim.held) {
      return absl::StrCat("sequence ", id, " holds ", own.latent, " latent and ", own.exact,
                          " exact blocks, its table and claim say otherwise");
    }
    if (!step_is_open_) {
      const int64_t bytes =
          own.latent * geometry_.latent_block_bytes + own.exact * geometry_.exact_block_bytes;
      if (bytes != geometry_.BytesHeld(sequence->num_computed)) {
        return absl::StrCat("sequence ", id, " holds ", bytes, " bytes after ",
                            sequence->num_computed, " tokens");
      }
    }
    held.latent += own.latent;
    held.exact += own.exact;
    promised.latent += std::max<int64_t>(0, sequence->need.latent - own.latent);
    promised.exact += std::max<int64_t>(0, sequence->need.exact - own.exact);
    computed += sequence->num_computed;
    if (sequence->is_paused()) ++paused;
  }
  const BlockCounts free = blocks_.free();
  if (free.latent + held.latent != geometry_.num_latent_blocks ||
      free.exact + held.exact != geometry_.num_exact_blocks) {
    return absl::StrCat("held ", held.latent, "/", held.exact, " + free ", free.latent, "/",
                        free.exact, " blocks are not the pools");
  }
  const Account& latent = ledger_.latent();
  const Account& exact = ledger_.exact();
  if (held != BlockCounts{latent.blocks_written, exact.blocks_written} ||
      promised != BlockCounts{latent.blocks_promised, exact.blocks_promised}) {
    return absl::StrCat("ledger: written ", latent.blocks_written, "/", exact.blocks_written,
                        ", promised ", latent.blocks_promised, "/", exact.blocks_promised,
                        "; counted: written ", held.latent, "/", held.exact, ", promised ",
                        promised.latent, "/", promised.exact);
  }
  if (latent.written_bytes() + latent.promised_bytes() > latent.budget_bytes() ||
      exact.written_bytes() + exact.promised_bytes() > exact.budget_bytes()) {
    return "written + promised exceed the budget";
  }
  if (computed != counts_.written_tokens || prompt_tokens != waiting_.prompt_tokens() ||
      paused != counts_.paused ||
      static_cast<int64_t>(sequences_.size()) != num_running() + num_waiting()) {
    return "token, pause or request counts do not add up";
  }
  return {};
}

}  // namespace lorc
