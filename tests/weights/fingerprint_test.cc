#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <string>

#include "runtime/weights/checkpoint.h"
#include "tests/support/files.h"
#include "tests/support/quantize.h"
#include "tests/support/tiny_model.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using test::GgufBuilder;
using test::TempFolder;
using test::TinyHfOptions;
using test::TinyModel;
using test::TinyModelOptions;

std::string OfFile(const std::string& path) {
  const auto checkpoint = Checkpoint::Open(path);
  EXPECT_OK(checkpoint);
  return checkpoint.ok() ? (*checkpoint)->Fingerprint() : "";
}

std::string OfGguf(const GgufBuilder& gguf) {
  const TempFolder folder;
  EXPECT_OK(test::WriteFile(folder.File("m.gguf"), gguf.Build()));
  return OfFile(folder.File("m.gguf"));
}

std::string OfGguf(const TinyModel& model) { return OfGguf(test::MakeTinyGguf(model)); }

std::string OfHf(const TinyModel& model, const TinyHfOptions& options = {}) {
  const TempFolder folder;
  EXPECT_OK(test::WriteTinyHf(model, options, folder.path()));
  return OfFile(folder.path());
}

RopeScaling Llama3Scaling() {
  return {.type = RopeScaling::Type::kLlama3, .factor = 8.0, .original_context_length = 256};
}

TEST(FingerprintTest, DoesNotDependOnTheFileFormat) {
  const RopeScaling linear = {.type = RopeScaling::Type::kLinear, .factor = 2.5};
  for (const RopeScaling& scaling : {RopeScaling(), linear, Llama3Scaling()})
    for (const bool tied : {false, true}) {
      const TinyModel model(
          {.rope_base = 500000.0, .rope_scaling = scaling, .tied_embeddings = tied});
      const std::string expected = OfGguf(model);
      EXPECT_EQ(expected.size(), 32u);
      EXPECT_EQ(expected.find_first_not_of("0123456789abcdef"), std::string::npos);
      EXPECT_EQ(OfHf(model), expected);
      EXPECT_EQ(OfHf(model, {.rope_parameters = false}), expected);
      EXPECT_EQ(OfHf(model, {.num_shards = 2}), expected);
    }
}

TEST(FingerprintTest, IsTheSameOnEveryMachineAndInEveryRelease) {
  // KV plans hold it. A change of the rule must change kRule in fingerprint.cc, and this.
  EXPECT_EQ(OfGguf(TinyModel()), "e70fedd1e65b4968eb0ec0ab0688b7e7");
}

TEST(FingerprintTest, DependsOnEveryHyperparameterThatShapesKAndV) {
  const std::function<void(TinyModelOptions&)> changes[] = {
      [](TinyModelOptions&) {},
      [](TinyModelOptions& o) { o.seed = 2; },
      [](TinyModelOptions& o) { o.num_layers = 3; },
      [](TinyModelOptions& o) { o.ffn_size = 64; },
      [](TinyModelOptions& o) { o.num_kv_heads = 4; },
      [](TinyModelOptions& o) { o.head_dim = 8; },
      [](TinyModelOptions& o) { o.rope_base = 20000.0; },
      [](TinyModelOptions& o) { o.rope_scaling = Llama3Scaling(); },
      [](TinyModelOptions& o) {
        o.rope_scaling = {.type = RopeScaling::Type::kLinear, .factor = 2};
      },
  };
  std::set<std::string> seen;
  for (const auto& change : changes) {
    TinyModelOptions options;
    change(options);
    seen.insert(OfGguf(TinyModel(options)));
  }
  EXPECT_EQ(seen.size(), std::size(changes));
}

TEST(FingerprintTest, DoesNotDependOnNamesContextOrVocabularyText) {
  const TinyModel model;
  GgufBuilder gguf = test::MakeTinyGguf(model);
  gguf.SetString("general.name", "other");
  gguf.SetUint32("llama.context_length", 4096);
  gguf.SetString("tokenizer.chat_template", "");
  EXPECT_EQ(OfGguf(gguf), OfGguf(model));
}

TEST(FingerprintTest, DependsOnStoredValuesButNotOnSpellingsOfZeroAndNan) {
  const TinyModel model;
  const auto with = [&](float first, float last) {
    GgufBuilder gguf = test::MakeTinyGguf(model);
    std::string& data = gguf.FindTensor("blk.1.ffn_down.weight").data;
    data.replace(0, 4, test::Bytes(std::bit_cast<uint32_t>(first)));
    data.replace(data.size() - 4, 4, test::Bytes(std::bit_cast<uint32_t>(last)));
    return OfGguf(gguf);
  };
  const float quiet = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(with(1.0f, 1.0f), with(1.0f, 2.0f));
  EXPECT_NE(with(1.0f, 1.0f), with(2.0f, 1.0f));
  EXPECT_EQ(with(0.0f, 1.0f), with(-0.0f, 1.0f));
  EXPECT_EQ(with(quiet, 1.0f), with(-quiet, 1.0f));
  EXPECT_EQ(with(quiet, 1.0f), with(std::bit_cast<float>(0x7fc12345u), 1.0f));
  EXPECT_NE(with(quiet, 1.0f), with(1.0f, quiet));
}

}  // namespace
}  // namespace lorc
