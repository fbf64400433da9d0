#include "scheduler/admission.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace lorc {

BlockCounts BlocksNeeded(const KvGeometry& geometry, int64_t total_tokens) {
  return {geometry.LatentBlocks(total_tokens), geometry.ExactBlocksSteady(total_tokens)};
}

std::string NeedArithmetic(const KvGeometry& geometry, const Ledger& ledger, int64_t total_tokens) {
  const BlockCounts need = BlocksNeeded(geometry, total_tokens);
  const Account& latent = ledger.latent();
  const Account& exact = ledger.exact();
  std::string text =
      absl::StrCat("needs ", need.latent * latent.block_bytes + need.exact * exact.block_bytes,
                   " bytes for ", total_tokens, " tokens in blocks of ", geometry.block_tokens,
                   " (", need.latent, " latent blocks x ", latent.block_bytes, " bytes");
  if (need.exact > 0) {
    absl::StrAppend(&text, " + ", need.exact, " exact blocks x ", exact.block_bytes, " bytes");
  }
  absl::StrAppend(&text, "), the budget is ", latent.budget_bytes() + exact.budget_bytes(),
                  " bytes (", latent.blocks_total, " latent blocks");
  if (exact.blocks_total > 0 || need.exact > 0) {
    absl::StrAppend(&text, ", ", exact.blocks_total, " exact blocks of which ",
                    exact.blocks_headroom, " are kept for prefill steps");
  }
  absl::StrAppend(&text, ")");
  return text;
}

absl::Status CheckRequest(const Request& request, const SchedulerOptions& options,
                          const KvGeometry& geometry, const Ledger& ledger) {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t total = prompt + request.max_tokens;
  if (prompt == 0) return absl::InvalidArgumentError("the prompt is empty");
  if (request.max_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_tokens is ", request.max_tokens, ", expected at least 1"));
  }
  if (request.min_tokens < 0 || request.min_tokens > request.max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("min_tokens is ", request.min_tokens,
                                                   ", expected 0..max_tokens = 0..",
                                                   request.max_tokens));
  }
  if (request.priority < kMinPriority || request.priority > kMaxPriority) {
    return absl::InvalidArgumentError(absl::StrCat("priority is ", request.priority, ", expected ",
                                                   kMinPriority, "..", kMaxPriority));
  }
  if (total > options.max_sequence_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt of ", prompt, " tokens + max_tokens ", request.max_tokens, " = ",
                     total, " tokens, at most ", options.max_sequence_tokens, " are possible"));
  }
  if (!ledger.EverFits(BlocksNeeded(geometry, total))) {
    return absl::InvalidArgumentError(absl::StrCat("the request can never fit: prompt of ", prompt,
                                                   " tokens + max_tokens ", request.max_tokens, " ",
                                                   NeedArithmetic(geometry, ledger, total)));
  }
  return absl::OkStatus();
}

void WaitingQueue::Push(Sequence* sequence) {
  const auto at = std::upper_bound(queue_.begin(), queue_.end(), sequence,
                                   [](Sequence* a, Sequence* b) { return a->Precedes(*b); });
  queue_.insert(at, sequence);
  prompt_tokens_ += sequence->num_prompt_tokens;
}

void WaitingQueue::Remove(const Sequence* sequence) {
  const auto at =
      std::lower_bound(queue_.begin(), queue_.end(), sequence,
                       [](const Sequence* a, const Sequence* b) { return a->Precedes(*b); });
  LORC_CHECK(at != queue_.end() && *at == sequence);
  queue_.erase(at);
  prompt_tokens_ -= sequence->num_prompt_tokens;
}

bool WaitingQueue::HasRoom(const SchedulerOptions& options, int64_t prompt_tokens) const {
  if (queue_.empty()) return true;
  return size() < options.max_waiting &&
         prompt_tokens_ + prompt_tokens <= options.max_waiting_prompt_tokens;
}

WaitingCounts AdmitWaiting(const SchedulerOptions& options, int64_t now_ns, int64_t free_slots,
                           WaitingQueue& queue, Ledger& ledger, std::vector<Sequence*>& admitted) {
  WaitingCounts waiting;
  // Memory only gets less during the pass, so whoever did not fit need not be tried again.
  int64_t i = 0;
  int64_t tries_left = kNeverNs;
  while (i < queue.size() && free_slots > 0 && tries_left > 0) {
    Sequence* sequence = queue.at(i);
    --tries_left;
    if (ledger.Fits(sequence->need)) {
      queue.Remove(sequence);
      sequence->claim = ledger.Open(sequence->need);
      admitted.push_back(sequence);
      --free_slots;
      continue;
    }
    ++waiting.kv_budget;
    ++i;
    tries_left = std::min<int64_t>(tries_left, options.look_ahead);
    if (now_ns - sequence->request.arrival_ns >= options.overtake_age_ns) break;
  }
  if (free_slots == 0) {
    waiting.batch_slots = queue.size() - waiting.kv_budget;
  } else {
    waiting.queue = queue.size() - waiting.kv_budget;
  }
  return waiting;
}

void WaitEstimator::NoteAdmissions(int64_t now_ns, int64_t admitted, int64_t still_waiting) {
  // Only intervals during which others waited tell how fast the queue moves.
  if (admitted > 0 && last_ns_ >= 0) {
    const int64_t sample = (now_ns - last_ns_) / admitted;
    interval_ns_ += (sample - interval_ns_) / 8;
  }
  if (still_waiting == 0) {
    last_ns_ = -1;
  } else if (admitted > 0 || last_ns_ < 0) {
    last_ns_ = now_ns;
  }
}

int64_t WaitEstimator::EstimateNs(int64_t waiting) const {
  constexpr int64_t kLeastNs = 100'000'000;
  constexpr int64_t kMostNs = 60'000'000'000;
  if (interval_ns_ > kMostNs / std::max<int64_t>(1, waiting)) return kMostNs;
  return std::clamp(interval_ns_ * waiting, kLeastNs, kMostNs);
}

}  // namespace lorc
