// One step of the engine as plain data: what the scheduler asks for and what the executor answers.
//
// A sequence has known tokens (prompt, then generated) and computed tokens (those whose K and V are
// cached). A step computes positions [first, first + count) of each sequence in it; where that
// reaches the last known token and `sampling` is set, the next token is chosen. Prefill chunk,
// decode and recompute are the same case.
//
// Blocks: `latent_blocks[j]` and `exact_blocks[j]` are the pool rows that hold block j of the
// sequence, or kNoBlock. Before Execute the scheduler fills in
//   - latent blocks for indices [prefix, prefix + geometry.LatentBlocks(first + count)),
//   - exact blocks for [0, min(prefix, geometry.Blocks(first + count))) and for
//     geometry.WindowDuring(first, first + count), which is empty where there is no window,
// and after it the window blocks below geometry.FirstWindowBlock(first + count) may be given to
// others: their content has been projected into the latent blocks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "runtime/sampling/sampling_params.h"

namespace lorc {

using BlockId = int32_t;
inline constexpr BlockId kNoBlock = -1;

struct SequenceWork {
  int64_t sequence_id = 0;  // unique among the sequences of a step; names the sequence in messages
  std::span<const TokenId> tokens;  // all known tokens, prompt first
  int32_t num_prompt_tokens =
      0;              // > 0; positions below it are computed the same way in whatever chunks
  int32_t first = 0;  // first position to compute; all before it are computed
  int32_t count = 0;  // > 0; first + count <= tokens.size()
  std::span<const BlockId> latent_blocks;  // [>= blocks of first + count]
  std::span<const BlockId> exact_blocks;   // [>= blocks of first + count]
  const SamplingParams* sampling =
      nullptr;  // nullptr: no token is wanted; else first + count == tokens.size()
};

struct StepResult {
  TokenId token = kNoToken;       // kNoToken where none was asked for or `status` is an error
  TokenLogprob chosen;            // set where sampling->num_logprobs >= 0
  std::vector<TokenLogprob> top;  // num_logprobs best ones, best first
  absl::Status status;            // an error of this sequence alone (logits not finite)
};

}  // namespace lorc
