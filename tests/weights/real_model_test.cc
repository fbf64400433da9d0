// What is known about SmolLM2-135M-Instruct (Q4_1), read from the file.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "runtime/weights/checkpoint.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

class RealModelTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* path = std::getenv("LORC_TEST_MODEL");
    ASSERT_NE(path, nullptr) << "LORC_TEST_MODEL must name SmolLM2-135M-Instruct.Q4_1.gguf";
    auto checkpoint = Checkpoint::Open(path);
    ASSERT_OK(checkpoint);
    checkpoint_ = *std::move(checkpoint);
  }

  std::unique_ptr<Checkpoint> checkpoint_;
};

TEST_F(RealModelTest, HasTheKnownHyperparameters) {
  const ModelConfig& config = checkpoint_->config();
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.num_layers, 30);
  EXPECT_EQ(config.hidden_size, 576);
  EXPECT_EQ(config.num_heads, 9);
  EXPECT_EQ(config.num_kv_heads, 3);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.ffn_size, 1536);
  EXPECT_EQ(config.vocabulary_size, 49152);
  EXPECT_EQ(config.context_length, 8192);
  EXPECT_EQ(config.rope_base, 100000.0);
  EXPECT_EQ(config.rope_scaling.type, RopeScaling::Type::kNone);
  EXPECT_FLOAT_EQ(config.rms_norm_epsilon, 1e-5f);
  EXPECT_TRUE(config.tied_embeddings);
}

TEST_F(RealModelTest, HasTheKnownTensors) {
  EXPECT_EQ(checkpoint_->StoredType(TensorRole::kTokenEmbedding, 0), "Q8_0");
  EXPECT_EQ(checkpoint_->StoredType(TensorRole::kOutput, 0), "Q8_0");
  EXPECT_EQ(checkpoint_->StoredType(TensorRole::kKey, 29), "Q4_1");
  EXPECT_EQ(checkpoint_->StoredType(TensorRole::kFfnNorm, 0), "F32");
  std::vector<float> row(576);
  for (int64_t i = 0; i < 49152; i += 4096) {
    checkpoint_->ReadRows(TensorRole::kTokenEmbedding, 0, i, i + 1, row.data());
    EXPECT_TRUE(std::ranges::all_of(row, [](float value) { return std::isfinite(value); }));
    EXPECT_FALSE(std::ranges::all_of(row, [](float value) { return value == 0.0f; }));
  }
}

TEST_F(RealModelTest, HasTheKnownVocabulary) {
  const auto vocabulary = checkpoint_->ReadVocabulary();
  ASSERT_OK(vocabulary);
  EXPECT_EQ(vocabulary->tokens.size(), 49152u);
  EXPECT_EQ(vocabulary->merges.size(), 48900u);
  EXPECT_EQ(vocabulary->pre_tokenizer, "smollm");
  EXPECT_EQ(vocabulary->bos, 1);
  EXPECT_EQ(vocabulary->eos, std::vector<TokenId>{2});
  EXPECT_FALSE(vocabulary->add_bos);
  EXPECT_FALSE(vocabulary->ignore_merges);
  EXPECT_EQ(vocabulary->tokens[0].text, "<|endoftext|>");
  EXPECT_EQ(vocabulary->tokens[2].text, "<|im_end|>");
  EXPECT_EQ(vocabulary->tokens[2].kind, Vocabulary::Kind::kControl);
  EXPECT_EQ(vocabulary->merges[0], (std::pair<std::string, std::string>("\u0120", "t")));
  EXPECT_NE(vocabulary->chat_template.find("<|im_start|>"), std::string::npos);
}

TEST_F(RealModelTest, HasTheKnownFingerprint) {
  EXPECT_EQ(checkpoint_->Fingerprint(), "18f108def4d1651c9e534d62ee71f209");
}

}  // namespace
}  // namespace lorc
