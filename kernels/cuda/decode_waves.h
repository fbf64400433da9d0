// The decode rows of a step and what they read: made once per step for all layers of one kind.
//
// A wave is what scratch memory holds at a time: rows with their absorbed queries and partial
// results. A step is one wave unless its rows or their contexts are many.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/decode_params.h"
#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/device_step.h"
#include "kernels/cuda/write_plan.h"
#include "kernels/ops/kv_cache.h"

namespace lorc::cuda {

// What decides.
struct DecodeRule {
  BlockRule blocks;
  int32_t anchor = 0;
  bool absorbs = false;  // queries meet latents per chunk
  int32_t tile_tokens = 0;
  int32_t latent_streams = 0;  // at most
  int32_t exact_streams = 0;

  friend bool operator==(const DecodeRule&, const DecodeRule&) = default;
};

// Room of a wave: a row's chunks always fit.
struct WaveLimits {
  int64_t rows = 0;
  int64_t chunks = 0;
};

// Chunks of `anchor` tokens that a sequence of `tokens` has.
int64_t NumChunks(int64_t tokens, int32_t anchor);

struct DecodeWave {
  std::vector<RowSlots> rows;
  std::vector<DecodeChunk> chunks;  // none where queries are not absorbed
  PassPlan latent;                  // a range per row
  PassPlan exact;                   // two ranges per row: prefix, window
};

// The generated positions among `sequences`, in their order. `tables`: of the sequences.
std::vector<DecodeWave> PlanDecode(const DecodeRule& rule, const WaveLimits& limits,
                                   std::span<const SequenceSpan> sequences,
                                   std::span<const SequenceTables> tables);

}  // namespace lorc::cuda
