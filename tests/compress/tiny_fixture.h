// The tiny model of tests/support as the compression sees it: a checkpoint that can be damaged
// first, a tokenizer, an executor.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "runtime/compress/offline_model.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/support/files.h"
#include "tests/support/tiny_model.h"

namespace lorc::test {

struct TinyFixture {
  // `edit` changes the GGUF file before it is written.
  explicit TinyFixture(const std::function<void(GgufBuilder&)>& edit = nullptr,
                       const TinyModelOptions& options = {})
      : model(options) {
    GgufBuilder gguf = MakeTinyGguf(model);
    if (edit) edit(gguf);
    EXPECT_TRUE(WriteFile(folder.File("tiny.gguf"), gguf.Build()).ok());
    auto opened = Checkpoint::Open(folder.File("tiny.gguf"));
    EXPECT_TRUE(opened.ok()) << opened.status();
    checkpoint = *std::move(opened);
    tokenizer = *Tokenizer::Create(model.vocabulary());
    backend = *MakeCpuBackend(1);
  }

  const ModelConfig& config() const { return model.config(); }

  // Uncompressed, in float32.
  std::unique_ptr<ModelExecutor> MakeExecutor(int32_t max_step_tokens) const {
    OfflineOptions offline;
    offline.weight_type = DType::kF32;
    offline.max_sequence_tokens = config().context_length;
    offline.max_step_tokens = max_step_tokens;
    auto executor = MakeOfflineModel(*backend, *checkpoint,
                                     KvPlan::Full(config(), SegmentType::kF32), offline, nullptr);
    EXPECT_TRUE(executor.ok()) << executor.status();
    return *std::move(executor);
  }

  TempFolder folder;
  TinyModel model;
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Backend> backend;
};

// Any tokens of the tiny vocabulary, the same for the same seed.
inline std::vector<TokenId> TinyTokens(int32_t count, uint32_t seed) {
  std::vector<TokenId> tokens(count);
  uint32_t state = seed;
  for (TokenId& token : tokens) {
    state = state * 1664525u + 1013904223u;
    token = static_cast<TokenId>(4 + (state >> 9) % 270);
  }
  return tokens;
}

}  // namespace lorc::test
