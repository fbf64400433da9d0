// What the scheduler needs to know about the cache: block kinds, their prices and how many there
// are.
//
// A block holds `block_tokens` consecutive tokens of every layer's K and V. Exact blocks hold full
// keys and values, latent blocks what the KV plan keeps instead. Token j is exact for the query at
// position i where
//   block(i) - block(j) < window_blocks   or   block(j) < prefix_blocks,
// so that it depends on positions alone. A block becomes a latent block once no later query reads
// it exactly. A plan without exact tokens (prefix 0, window 0), the uncompressed cache included,
// has latent blocks only.
//
// Constant after construction; plain data, no locks.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lorc {

// Block indices [first, end) of one sequence.
struct BlockRange {
  int64_t first = 0;
  int64_t end = 0;
};

struct KvGeometry {
  int32_t block_tokens = 16;
  int32_t prefix_blocks = 0;  // blocks at the start of a sequence that stay exact
  int32_t window_blocks =
      0;  // latest blocks that are exact, the one being filled included; 0 = none

  int64_t latent_block_bytes = 0;    // all layers, K and V, scales and padding included
  int64_t exact_block_bytes = 0;     // 0 where the plan keeps no exact tokens
  int64_t full_bytes_per_token = 0;  // what an uncompressed bf16 cache would take

  int64_t num_latent_blocks = 0;  // in the pool
  int64_t num_exact_blocks = 0;   // in the pool

  // Blocks that cover `tokens` tokens.
  constexpr int64_t Blocks(int64_t tokens) const {
    return (tokens + block_tokens - 1) / block_tokens;
  }

  // Latent blocks of a sequence of which tokens [0, tokens) are computed: indices
  // [prefix_blocks, prefix_blocks + LatentBlocks(tokens)).
  constexpr int64_t LatentBlocks(int64_t tokens) const {
    const int64_t end =
        window_blocks > 0 ? tokens / block_tokens - window_blocks + 1 : Blocks(tokens);
    return std::max<int64_t>(0, end - prefix_blocks);
  }

  // First index of the window's exact blocks held when the position after `tokens` comes next;
  // indices [0, prefix) and [FirstWindowBlock(tokens), Blocks(tokens)) are held exactly. Without a
  // window no block lies there; for what a step needs, ask WindowDuring.
  constexpr int64_t FirstWindowBlock(int64_t tokens) const {
    if (window_blocks == 0) return std::max<int64_t>(prefix_blocks, Blocks(tokens));
    return std::max<int64_t>(prefix_blocks, tokens / block_tokens - window_blocks + 1);
  }

  // The window's exact blocks, without the prefix, held while positions [first, end) are computed:
  // the window before them is still there, and all of the chunk is exact until the step is over.
  // Empty where window_blocks == 0.
  constexpr BlockRange WindowDuring(int64_t first, int64_t end) const {
    if (window_blocks == 0) return {prefix_blocks, prefix_blocks};
    const int64_t first_block = FirstWindowBlock(first);
    return {first_block, std::max(first_block, Blocks(end))};
  }

  // Exact blocks held while positions [first, end) are computed, prefix included.
  constexpr int64_t ExactBlocksDuring(int64_t first, int64_t end) const {
    const BlockRange window = WindowDuring(first, end);
    return std::min<int64_t>(prefix_blocks, Blocks(end)) + window.end - window.first;
  }

  // Exact blocks that a sequence of `tokens` tokens holds at most when it grows by one token at a
  // time.
  constexpr int64_t ExactBlocksSteady(int64_t tokens) const {
    return std::min<int64_t>(Blocks(tokens), prefix_blocks + window_blocks);
  }

  // The most by which ExactBlocksDuring can exceed ExactBlocksSteady for a chunk of `tokens` tokens
  // of one sequence: a chunk that starts at the last slot of a block touches ceil((tokens - 1) /
  // block) blocks more than a single token does. What the exact pool needs beyond its sequences.
  constexpr int64_t ExactHeadroom(int64_t tokens) const {
    return window_blocks == 0 ? 0 : Blocks(std::max<int64_t>(0, tokens - 1));
  }

  // Bytes that a sequence holds at most while it grows to `tokens` tokens one at a time: what a
  // request is promised.
  constexpr int64_t BytesPromised(int64_t tokens) const {
    return LatentBlocks(tokens) * latent_block_bytes +
           ExactBlocksSteady(tokens) * exact_block_bytes;
  }

  // Bytes that a sequence holds after `tokens` tokens.
  constexpr int64_t BytesHeld(int64_t tokens) const {
    const int64_t exact = std::min<int64_t>(prefix_blocks, Blocks(tokens)) +
                          std::max<int64_t>(0, Blocks(tokens) - FirstWindowBlock(tokens));
    return LatentBlocks(tokens) * latent_block_bytes + exact * exact_block_bytes;
  }
};

}  // namespace lorc
