// A model without a model: tokens are a function of the known tokens, and the cache is a table that
// remembers who wrote what where. It holds every step to the contract of runtime/step.h.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "runtime/executor.h"
#include "scheduler/options.h"
#include "scheduler/request.h"

namespace lorc {

inline constexpr int32_t kFakeVocabulary = 40;
inline constexpr TokenId kFakeEos = 0;
// A request with this seed gets an error of its own in place of its third token.
inline constexpr uint64_t kPoisonedSeed = 666;

// The token after `tokens`, a function of them and the seed alone; never a suppressed one before
// sampling.min_tokens.
TokenId FakeNextToken(std::span<const TokenId> tokens, int32_t num_prompt_tokens,
                      const SamplingParams& sampling);

struct FakeAnswer {
  std::vector<TokenId> tokens;  // the end token included
  FinishReason finish = FinishReason::kNone;
  bool is_poisoned = false;  // ends with an error after `tokens`
};

// What the request gets when nobody interferes.
FakeAnswer FakeAnswerFor(const Request& request);

class FakeExecutor : public Executor {
 public:
  FakeExecutor(const KvGeometry& geometry, const StepLimits& limits);

  const KvGeometry& kv_geometry() const override { return geometry_; }
  int32_t max_step_tokens() const override { return limits_.max_tokens; }
  int32_t max_step_sequences() const override { return limits_.max_sequences; }
  absl::Status Execute(std::span<const SequenceWork> batch, std::span<StepResult> results) override;

  // The first breach of the contract, empty if none; Execute returns it too.
  const std::string& breach() const { return breach_; }

  // The sequence has ended: its blocks may go to others.
  void Forget(int64_t sequence_id);
  int32_t num_computed(int64_t sequence_id) const;

 private:
  struct Cell {
    int64_t sequence_id = 0;
    int32_t position = -1;
    TokenId token = kNoToken;

    friend bool operator==(const Cell&, const Cell&) = default;
  };
  struct Pool {
    std::vector<Cell> cells;      // [blocks, block_tokens]
    std::vector<int64_t> owners;  // [blocks], 0 = nobody

    Pool(int64_t blocks, int32_t block_tokens) : cells(blocks * block_tokens), owners(blocks) {}
  };

  bool CheckShape(const SequenceWork& work);
  bool Own(Pool& pool, std::span<const BlockId> table, BlockRange range, const SequenceWork& work);
  bool CheckContent(const Pool& pool, std::span<const BlockId> table, BlockRange range,
                    const SequenceWork& work);
  bool Compute(const SequenceWork& work);
  Cell& At(Pool& pool, BlockId block, int64_t position);
  void Disown(Pool& pool, std::span<const BlockId> table, BlockRange range);
  bool Breach(const SequenceWork& work, const std::string& what);

  const KvGeometry geometry_;
  const StepLimits limits_;
  Pool latent_;
  Pool exact_;
  std::map<int64_t, int32_t> computed_;  // of live sequences
  std::string breach_;
};

}  // namespace lorc
