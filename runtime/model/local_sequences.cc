#include "runtime/model/local_sequences.h"

#include <algorithm>

namespace lorc {

LocalSequences::LocalSequences(const KvGeometry& geometry) : geometry_(geometry) {
  for (int64_t i = geometry.num_latent_blocks; i-- > 0;) {
    free_latent_.push_back(static_cast<BlockId>(i));
  }
  for (int64_t i = geometry.num_exact_blocks; i-- > 0;) {
    free_exact_.push_back(static_cast<BlockId>(i));
  }
}

int LocalSequences::Add() {
  tables_.emplace_back();
  return static_cast<int>(tables_.size()) - 1;
}

bool LocalSequences::Take(std::vector<BlockId>& free, BlockId* block) {
  if (*block != kNoBlock) return true;
  if (free.empty()) return false;
  *block = free.back();
  free.pop_back();
  return true;
}

absl::StatusOr<SequenceWork> LocalSequences::Prepare(int sequence, std::span<const TokenId> tokens,
                                                     int32_t num_prompt_tokens, int32_t first,
                                                     int32_t count,
                                                     const SamplingParams* sampling) {
  Table& table = tables_[sequence];
  const int64_t end = int64_t{first} + count;
  const int64_t num_blocks = geometry_.Blocks(end);
  table.latent.resize(std::max<int64_t>(std::ssize(table.latent), num_blocks), kNoBlock);
  table.exact.resize(table.latent.size(), kNoBlock);
  bool enough = true;
  for (int64_t j = 0; j < geometry_.LatentBlocks(end); ++j) {
    enough = enough && Take(free_latent_, &table.latent[geometry_.prefix_blocks + j]);
  }
  for (int64_t j = 0; j < std::min<int64_t>(geometry_.prefix_blocks, num_blocks); ++j) {
    enough = enough && Take(free_exact_, &table.exact[j]);
  }
  const BlockRange window = geometry_.WindowDuring(first, end);
  for (int64_t j = window.first; j < window.end; ++j) {
    enough = enough && Take(free_exact_, &table.exact[j]);
  }
  if (!enough) return absl::ResourceExhaustedError("no free cache blocks are left");
  SequenceWork work;
  work.sequence_id = sequence;
  work.tokens = tokens;
  work.num_prompt_tokens = num_prompt_tokens;
  work.first = first;
  work.count = count;
  work.latent_blocks = table.latent;
  work.exact_blocks = table.exact;
  work.sampling = sampling;
  return work;
}

void LocalSequences::Finish(int sequence, int32_t end) {
  if (geometry_.window_blocks == 0) return;
  Table& table = tables_[sequence];
  const int64_t keep_from =
      std::min<int64_t>(geometry_.FirstWindowBlock(end), std::ssize(table.exact));
  for (int64_t j = geometry_.prefix_blocks; j < keep_from; ++j) {
    if (table.exact[j] == kNoBlock) continue;
    free_exact_.push_back(table.exact[j]);
    table.exact[j] = kNoBlock;
  }
}

void LocalSequences::Clear(int sequence) {
  Table& table = tables_[sequence];
  for (const BlockId block : table.latent) {
    if (block != kNoBlock) free_latent_.push_back(block);
  }
  for (const BlockId block : table.exact) {
    if (block != kNoBlock) free_exact_.push_back(block);
  }
  table = Table();
}

}  // namespace lorc
