// Which GGUF files are refused as checkpoints, and with what words.
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "runtime/weights/checkpoint.h"
#include "tests/support/files.h"
#include "tests/support/quantize.h"
#include "tests/support/tiny_model.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using test::GgufBuilder;
using test::IsInvalid;
using test::IsUnimplemented;
using test::TempFolder;
using test::TinyModel;

class GgufCheckpointTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Checkpoint>> Open(
      const std::function<void(GgufBuilder&)>& change) {
    GgufBuilder gguf = test::MakeTinyGguf(model_);
    change(gguf);
    EXPECT_OK(test::WriteFile(folder_.File("m.gguf"), gguf.Build()));
    return Checkpoint::Open(folder_.File("m.gguf"));
  }

  absl::StatusOr<std::unique_ptr<Checkpoint>> WithUint32(const std::string& key, uint32_t value) {
    return Open([&](GgufBuilder& gguf) { gguf.SetUint32(key, value); });
  }

  absl::StatusOr<std::unique_ptr<Checkpoint>> WithFloat32(const std::string& key, float value) {
    return Open([&](GgufBuilder& gguf) { gguf.SetFloat32(key, value); });
  }

  absl::StatusOr<std::unique_ptr<Checkpoint>> Without(const std::string& key) {
    return Open([&](GgufBuilder& gguf) { gguf.Remove(key); });
  }

  absl::StatusOr<std::unique_ptr<Checkpoint>> WithDivisors(const std::vector<float>& divisors) {
    return Open([&](GgufBuilder& gguf) {
      gguf.AddTensor({"rope_freqs.weight",
                      0,
                      {static_cast<int64_t>(divisors.size())},
                      test::Quantize(StoredType::kF32, divisors)});
    });
  }

  TempFolder folder_;
  TinyModel model_;
};

TEST_F(GgufCheckpointTest, OtherArchitectures) {
  EXPECT_THAT(Open([](GgufBuilder& gguf) { gguf.SetString("general.architecture", "qwen2"); }),
              IsUnimplemented({"m.gguf", "\"qwen2\"", "only \"llama\""}));
  EXPECT_THAT(Without("general.architecture"), IsInvalid({"general.architecture is missing"}));
  EXPECT_THAT(WithUint32("general.architecture", 1), IsInvalid({"is not a text"}));
}

TEST_F(GgufCheckpointTest, PartsOfAModel) {
  EXPECT_THAT(WithUint32("split.count", 3), IsUnimplemented({"one of 3 parts", "merge"}));
  EXPECT_OK(WithUint32("split.count", 1));
}

TEST_F(GgufCheckpointTest, NamesAreText) {
  const auto with = [&](const char* name) {
    return Open([&](GgufBuilder& gguf) { gguf.SetString("general.name", name); });
  };
  for (const char* name : {"\xff", "a\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80",
                           "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xc3("})
    EXPECT_THAT(with(name), IsInvalid({"general.name is not a text"})) << name;
  for (const char* name :
       {"", "a", "\u00e9", "\u20ac", "\U0001f600", "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf"})
    EXPECT_OK(with(name)) << name;
}

TEST_F(GgufCheckpointTest, RequiredHyperparameters) {
  for (const std::string key :
       {"llama.block_count", "llama.embedding_length", "llama.feed_forward_length",
        "llama.attention.head_count", "llama.context_length"}) {
    EXPECT_THAT(Without(key), IsInvalid({key + " is missing", "an integer from 1"}));
    EXPECT_THAT(WithUint32(key, 0), IsInvalid({key + " is 0"}));
    EXPECT_THAT(WithUint32(key, 4294967295u), IsInvalid({key + " is 4294967295"}));
    EXPECT_THAT(WithFloat32(key, 2.0f), IsInvalid({key + " is not an integer"}));
    EXPECT_THAT(Open([&](GgufBuilder& gguf) { gguf.SetStrings(key, {"1"}); }),
                IsInvalid({key + " is not an integer"}));
  }
  const std::string epsilon = "llama.attention.layer_norm_rms_epsilon";
  EXPECT_THAT(Without(epsilon), IsInvalid({epsilon + " is missing"}));
  EXPECT_THAT(WithFloat32(epsilon, 0.0f), IsInvalid({epsilon + " is 0"}));
  EXPECT_THAT(WithFloat32(epsilon, std::numeric_limits<float>::quiet_NaN()),
              IsInvalid({epsilon + " is "}));
  EXPECT_THAT(WithFloat32(epsilon, std::numeric_limits<float>::infinity()),
              IsInvalid({epsilon + " is inf"}));
  EXPECT_THAT(WithFloat32("llama.rope.freq_base", -1.0f), IsInvalid({"freq_base is -1"}));
}

TEST_F(GgufCheckpointTest, DefaultsOfWhatMayBeAbsent) {
  const test::TinyModel model({.num_kv_heads = 4});
  GgufBuilder gguf = test::MakeTinyGguf(model);
  for (const char* key :
       {"llama.attention.head_count_kv", "llama.attention.key_length",
        "llama.attention.value_length", "llama.rope.dimension_count", "llama.rope.freq_base",
        "general.name", "tokenizer.ggml.pre", "tokenizer.ggml.token_type"})
    gguf.Remove(key);
  ASSERT_OK(test::WriteFile(folder_.File("stem.gguf"), gguf.Build()));
  const auto checkpoint = Checkpoint::Open(folder_.File("stem.gguf"));
  ASSERT_OK(checkpoint);
  EXPECT_EQ((*checkpoint)->config().num_kv_heads, 4);
  EXPECT_EQ((*checkpoint)->config().head_dim, 16);
  EXPECT_EQ((*checkpoint)->config().rope_base, 10000.0);
  EXPECT_EQ((*checkpoint)->config().name, "stem");
}

TEST_F(GgufCheckpointTest, HyperparametersThatDoNotFitTogether) {
  EXPECT_THAT(WithUint32("llama.attention.head_count_kv", 3),
              IsInvalid({"4 query heads", "3 KV heads", "divide"}));
  EXPECT_THAT(WithUint32("llama.attention.key_length", 12),
              IsInvalid({"12 wide", "multiples of 8"}));
  EXPECT_THAT(Open([](GgufBuilder& gguf) {
                gguf.Remove("llama.attention.key_length");
                gguf.SetUint32("llama.embedding_length", 66);
              }),
              IsInvalid({"66 is no multiple of llama.attention.head_count 4"}));
  EXPECT_THAT(WithUint32("llama.rope.dimension_count", 8),
              IsUnimplemented({"keys are 16 wide", "RoPE turns 8"}));
  EXPECT_THAT(WithUint32("llama.attention.value_length", 8), IsUnimplemented({"values 8"}));
}

TEST_F(GgufCheckpointTest, Variations) {
  EXPECT_THAT(WithUint32("llama.expert_count", 8), IsUnimplemented({"expert_count is 8"}));
  EXPECT_OK(WithUint32("llama.expert_count", 0));
  EXPECT_THAT(WithUint32("llama.attention.sliding_window", 4096),
              IsUnimplemented({"sliding_window is 4096"}));
  EXPECT_THAT(WithFloat32("llama.attention.scale", 0.1f),
              IsUnimplemented({"llama.attention.scale"}));
  EXPECT_THAT(Open([](GgufBuilder& gguf) { gguf.SetBool("llama.attention.causal", false); }),
              IsUnimplemented({"causal is false"}));
}

TEST_F(GgufCheckpointTest, RopeScaling) {
  const auto with = [&](const char* type, float factor) {
    return Open([&](GgufBuilder& gguf) {
      gguf.SetString("llama.rope.scaling.type", type);
      gguf.SetFloat32("llama.rope.scaling.factor", factor);
    });
  };
  const auto linear = with("linear", 4.0f);
  ASSERT_OK(linear);
  EXPECT_EQ((*linear)->config().rope_scaling.type, RopeScaling::Type::kLinear);
  EXPECT_EQ((*linear)->config().rope_scaling.factor, 4.0);
  const auto none = with("none", 4.0f);
  ASSERT_OK(none);
  EXPECT_EQ((*none)->config().rope_scaling.type, RopeScaling::Type::kNone);
  EXPECT_THAT(with("yarn", 4.0f), IsUnimplemented({"\"yarn\"", "\"linear\""}));
  EXPECT_THAT(with("linear", 0.0f), IsInvalid({"factor is 0"}));
  const auto old = WithFloat32("llama.rope.scale_linear", 2.0f);
  ASSERT_OK(old);
  EXPECT_EQ((*old)->config().rope_scaling.type, RopeScaling::Type::kLinear);
  EXPECT_EQ((*old)->config().rope_scaling.factor, 2.0);
}

TEST_F(GgufCheckpointTest, RopeDivisors) {
  const auto plain = WithDivisors({1, 1, 1, 1, 1, 1, 1, 1});
  ASSERT_OK(plain);
  EXPECT_EQ((*plain)->config().rope_scaling.type, RopeScaling::Type::kNone);
  const auto scaled = WithDivisors({1, 1, 1, 1, 2, 4, 8, 8});
  ASSERT_OK(scaled);
  EXPECT_EQ((*scaled)->config().rope_scaling.type, RopeScaling::Type::kPerPair);
  EXPECT_EQ((*scaled)->config().rope_scaling.divisors,
            (std::vector<float>{1, 1, 1, 1, 2, 4, 8, 8}));
  EXPECT_THAT(WithDivisors({1, 2}), IsInvalid({"a vector of 8 F32 values"}));
  EXPECT_THAT(WithDivisors({1, 1, 1, 1, 2, 4, 8, 0}), IsInvalid({"holds 0"}));
  EXPECT_THAT(WithDivisors({1, 1, 1, 1, 2, 4, 8, -8}), IsInvalid({"holds -8"}));
  EXPECT_THAT(Open([](GgufBuilder& gguf) {
                gguf.SetString("llama.rope.scaling.type", "linear");
                gguf.SetFloat32("llama.rope.scaling.factor", 2.0f);
                gguf.AddTensor({"rope_freqs.weight", 0, {8}, std::string(32, '\x40')});
              }),
              IsUnimplemented({"both"}));
}

TEST_F(GgufCheckpointTest, MissingTensors) {
  for (const char* name : {"token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight",
                           "blk.1.attn_q.weight", "blk.1.ffn_down.weight"})
    EXPECT_THAT(Open([&](GgufBuilder& gguf) { gguf.RemoveTensor(name); }),
                IsInvalid({name, "is missing"}));
  const auto tied = Open([](GgufBuilder& gguf) { gguf.RemoveTensor("output.weight"); });
  ASSERT_OK(tied);
  EXPECT_TRUE((*tied)->config().tied_embeddings);
}

TEST_F(GgufCheckpointTest, TensorsOfOtherShapesAndTypes) {
  EXPECT_THAT(Open([](GgufBuilder& gguf) {
                auto& extents = gguf.FindTensor("blk.0.ffn_up.weight").extents;
                std::swap(extents[0], extents[1]);
              }),
              IsInvalid({"blk.0.ffn_up.weight", "shape 64 x 96", "ask for 96 x 64"}));
  EXPECT_THAT(Open([](GgufBuilder& gguf) {
                gguf.FindTensor("blk.0.ffn_up.weight").extents = {64, 32, 3};
              }),
              IsInvalid({"shape 3 x 32 x 64"}));
  EXPECT_THAT(WithUint32("llama.feed_forward_length", 128), IsInvalid({"ask for 128 x 64"}));
  EXPECT_THAT(Open([](GgufBuilder& gguf) { gguf.FindTensor("blk.1.attn_v.weight").type_id = 14; }),
              IsUnimplemented({"blk.1.attn_v.weight", "Q6_K", "Q4_1 are supported"}));
  EXPECT_THAT(Open([](GgufBuilder& gguf) {
                gguf.AddTensor({"blk.0.attn_q.bias", 0, {64}, std::string(256, '\0')});
              }),
              IsUnimplemented({"blk.0.attn_q.bias", "biases"}));
  EXPECT_THAT(WithUint32("llama.block_count", 1), IsUnimplemented({"blk.1.", "of 1 layers"}));
  EXPECT_THAT(WithUint32("llama.block_count", 3), IsInvalid({"blk.2.", "is missing"}));
}

}  // namespace
}  // namespace lorc
