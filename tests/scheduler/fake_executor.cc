#include "tests/scheduler/fake_executor.h"

#include <algorithm>

namespace lorc {
namespace {

uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9u;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

bool Contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

TokenId FakeNextToken(std::span<const TokenId> tokens, int32_t num_prompt_tokens,
                      const SamplingParams& sampling) {
  uint64_t hash = Mix(sampling.seed + 0x9e3779b97f4a7c15u * tokens.size());
  for (size_t i = tokens.size() - std::min<size_t>(tokens.size(), 8); i < tokens.size(); ++i) {
    hash = Mix(hash + tokens[i]);
  }
  const auto generated = static_cast<int32_t>(tokens.size()) - num_prompt_tokens;
  for (;; hash = Mix(hash + 1)) {
    const auto token = static_cast<TokenId>(hash % kFakeVocabulary);
    if (generated >= sampling.min_tokens || !Contains(sampling.suppressed_tokens, token)) {
      return token;
    }
  }
}

FakeAnswer FakeAnswerFor(const Request& request) {
  FakeAnswer answer;
  SamplingParams sampling = request.sampling;
  sampling.min_tokens = request.min_tokens;
  sampling.suppressed_tokens = request.stop_ids;
  if (!request.ignore_eos) {
    sampling.suppressed_tokens.insert(sampling.suppressed_tokens.end(), request.eos_ids.begin(),
                                      request.eos_ids.end());
  }
  std::vector<TokenId> known = request.prompt;
  while (answer.finish == FinishReason::kNone) {
    if (sampling.seed == kPoisonedSeed && answer.tokens.size() == 2) {
      answer.is_poisoned = true;
      return answer;
    }
    const TokenId token =
        FakeNextToken(known, static_cast<int32_t>(request.prompt.size()), sampling);
    const bool may_end = static_cast<int32_t>(answer.tokens.size()) >= request.min_tokens;
    known.push_back(token);
    answer.tokens.push_back(token);
    if (may_end && !request.ignore_eos && Contains(request.eos_ids, token)) {
      answer.finish = FinishReason::kEos;
    } else if (may_end && Contains(request.stop_ids, token)) {
      answer.finish = FinishReason::kStopToken;
    } else if (static_cast<int32_t>(answer.tokens.size()) == request.max_tokens) {
      answer.finish = FinishReason::kLength;
    }
  }
  return answer;
}

FakeExecutor::FakeExecutor(const KvGeometry& geometry, const StepLimits& limits)
    : geometry_(geometry),
      limits_(limits),
      latent_(geometry.num_latent_blocks, geometry.block_tokens),
      exact_(geometry.num_exact_blocks, geometry.block_tokens) {}

absl::Status FakeExecutor::Execute(std::span<const SequenceWork> batch,
                                   std::span<StepResult> results) {
  int64_t tokens = 0;
  std::vector<int64_t> ids;
  for (const SequenceWork& work : batch) {
    tokens += work.count;
    ids.push_back(work.sequence_id);
  }
  std::sort(ids.begin(), ids.end());
  if (batch.empty() || results.size() != batch.size() || tokens > limits_.max_tokens ||
      static_cast<int64_t>(batch.size()) > limits_.max_sequences ||
      std::adjacent_find(ids.begin(), ids.end()) != ids.end()) {
    breach_ = "the batch is empty, over the limits or has a sequence twice";
    return absl::InternalError(breach_);
  }
  // All blocks are taken before anything is written: what two sequences share shows.
  for (const SequenceWork& work : batch) {
    const int64_t end = int64_t{work.first} + work.count;
    const int64_t prefix = geometry_.prefix_blocks;
    if (!CheckShape(work) ||
        !Own(latent_, work.latent_blocks, {prefix, prefix + geometry_.LatentBlocks(end)}, work) ||
        !Own(exact_, work.exact_blocks, {0, std::min(prefix, geometry_.Blocks(end))}, work) ||
        !Own(exact_, work.exact_blocks, geometry_.WindowDuring(work.first, end), work)) {
      return absl::InternalError(breach_);
    }
  }
  for (size_t i = 0; i < batch.size(); ++i) {
    const SequenceWork& work = batch[i];
    if (!Compute(work)) return absl::InternalError(breach_);
    if (work.sampling == nullptr) continue;
    const auto generated = static_cast<int32_t>(work.tokens.size()) - work.num_prompt_tokens;
    if (work.sampling->seed == kPoisonedSeed && generated == 2) {
      results[i].status = absl::InternalError("the logits are not finite");
    } else {
      results[i].token = FakeNextToken(work.tokens, work.num_prompt_tokens, *work.sampling);
    }
  }
  return absl::OkStatus();
}

bool FakeExecutor::CheckShape(const SequenceWork& work) {
  const int64_t end = int64_t{work.first} + work.count;
  const auto known = static_cast<int64_t>(work.tokens.size());
  if (work.sequence_id <= 0 || work.num_prompt_tokens <= 0 || work.num_prompt_tokens > known) {
    return Breach(work, "no id or no prompt");
  }
  if (work.count <= 0 || end > known) return Breach(work, "the chunk is empty or beyond the known");
  if (work.first != computed_[work.sequence_id]) return Breach(work, "the chunk leaves a gap");
  if ((work.sampling != nullptr) != (end == known)) {
    return Breach(work, "sampling is not set exactly where the chunk reaches the last token");
  }
  const auto blocks = static_cast<size_t>(geometry_.Blocks(end));
  if (work.latent_blocks.size() < blocks || work.exact_blocks.size() < blocks) {
    return Breach(work, "the block tables are too short");
  }
  return true;
}

bool FakeExecutor::Own(Pool& pool, std::span<const BlockId> table, BlockRange range,
                       const SequenceWork& work) {
  for (int64_t j = range.first; j < range.end; ++j) {
    if (table[j] < 0 || table[j] >= static_cast<int64_t>(pool.owners.size())) {
      return Breach(work, "block " + std::to_string(j) + " is missing");
    }
    int64_t& owner = pool.owners[table[j]];
    if (owner != 0 && owner != work.sequence_id) {
      return Breach(work, "block " + std::to_string(j) + " belongs to " + std::to_string(owner));
    }
    owner = work.sequence_id;
  }
  return true;
}

FakeExecutor::Cell& FakeExecutor::At(Pool& pool, BlockId block, int64_t position) {
  return pool.cells[int64_t{block} * geometry_.block_tokens + position % geometry_.block_tokens];
}

bool FakeExecutor::CheckContent(const Pool& pool, std::span<const BlockId> table, BlockRange range,
                                const SequenceWork& work) {
  const int64_t end = std::min<int64_t>(range.end * geometry_.block_tokens, work.first);
  for (int64_t i = range.first * geometry_.block_tokens; i < end; ++i) {
    const int64_t block = table[i / geometry_.block_tokens];
    const Cell want = {work.sequence_id, static_cast<int32_t>(i), work.tokens[i]};
    if (pool.cells[block * geometry_.block_tokens + i % geometry_.block_tokens] != want) {
      return Breach(work, "position " + std::to_string(i) + " has been overwritten");
    }
  }
  return true;
}

bool FakeExecutor::Compute(const SequenceWork& work) {
  const int64_t first = work.first;
  const int64_t end = first + work.count;
  const int64_t prefix = geometry_.prefix_blocks;
  const bool has_window = geometry_.window_blocks > 0;
  const BlockRange latent_before = {prefix, prefix + geometry_.LatentBlocks(first)};
  const BlockRange latent_after = {prefix, prefix + geometry_.LatentBlocks(end)};
  const BlockRange window = geometry_.WindowDuring(first, end);
  if (!CheckContent(latent_, work.latent_blocks, latent_before, work) ||
      !CheckContent(exact_, work.exact_blocks, {0, prefix}, work) ||
      !CheckContent(exact_, work.exact_blocks, window, work)) {
    return false;
  }
  for (int64_t i = first; i < end; ++i) {
    const int64_t j = i / geometry_.block_tokens;
    const Cell cell = {work.sequence_id, static_cast<int32_t>(i), work.tokens[i]};
    if (j < prefix || has_window) {
      At(exact_, work.exact_blocks[j], i) = cell;
    } else {
      At(latent_, work.latent_blocks[j], i) = cell;
    }
  }
  if (has_window) {
    // What leaves the window is projected; its exact blocks are nobody's from here on.
    const int64_t from = latent_before.end * geometry_.block_tokens;
    for (int64_t i = from; i < latent_after.end * geometry_.block_tokens; ++i) {
      const int64_t j = i / geometry_.block_tokens;
      const Cell cell = At(exact_, work.exact_blocks[j], i);
      if (cell != Cell{work.sequence_id, static_cast<int32_t>(i), work.tokens[i]}) {
        return Breach(work, "position " + std::to_string(i) + " was lost before its projection");
      }
      At(latent_, work.latent_blocks[j], i) = cell;
    }
    Disown(exact_, work.exact_blocks,
           {window.first, std::min(window.end, geometry_.FirstWindowBlock(end))});
  }
  computed_[work.sequence_id] = static_cast<int32_t>(end);
  return true;
}

void FakeExecutor::Disown(Pool& pool, std::span<const BlockId> table, BlockRange range) {
  for (int64_t j = range.first; j < range.end; ++j) pool.owners[table[j]] = 0;
}

void FakeExecutor::Forget(int64_t sequence_id) {
  computed_.erase(sequence_id);
  for (Pool* pool : {&latent_, &exact_}) {
    std::replace(pool->owners.begin(), pool->owners.end(), sequence_id, int64_t{0});
  }
}

int32_t FakeExecutor::num_computed(int64_t sequence_id) const {
  const auto it = computed_.find(sequence_id);
  return it == computed_.end() ? 0 : it->second;
}

bool FakeExecutor::Breach(const SequenceWork& work, const std::string& what) {
  breach_ = "sequence " + std::to_string(work.sequence_id) + ", positions [" +
            std::to_string(work.first) + ", " + std::to_string(work.first + work.count) +
            "): " + what;
  return false;
}

}  // namespace lorc
