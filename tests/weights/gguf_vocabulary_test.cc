#include "runtime/weights/gguf_vocabulary.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/gguf_builder.h"
#include "tests/support/tiny_model.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using test::GgufBuilder;
using test::IsInvalid;
using test::IsUnimplemented;
using Kind = Vocabulary::Kind;

constexpr int32_t kRows = 288;

absl::StatusOr<Vocabulary> Read(const std::function<void(GgufBuilder&)>& change,
                                int32_t rows = kRows) {
  GgufBuilder builder = test::MakeTinyGguf(test::TinyModel());
  change(builder);
  const std::string bytes = builder.Build();
  const auto gguf = Gguf::Parse(std::as_bytes(std::span(bytes)), "m.gguf");
  EXPECT_OK(gguf);
  return ReadGgufVocabulary(*gguf, rows);
}

TEST(GgufVocabularyTest, HoldsTheVocabulary) {
  const auto vocabulary = Read([](GgufBuilder&) {});
  ASSERT_OK(vocabulary);
  const test::TinyModel model;
  const Vocabulary& expected = model.vocabulary();
  ASSERT_EQ(vocabulary->tokens.size(), expected.tokens.size());
  for (size_t id = 0; id < expected.tokens.size(); ++id) {
    EXPECT_EQ(vocabulary->tokens[id].text, expected.tokens[id].text);
    EXPECT_EQ(vocabulary->tokens[id].kind, expected.tokens[id].kind);
  }
  EXPECT_EQ(vocabulary->merges, expected.merges);
  EXPECT_EQ(vocabulary->pre_tokenizer, "smollm");
  EXPECT_EQ(vocabulary->bos, 1);
  EXPECT_EQ(vocabulary->eos, std::vector<TokenId>{2});
  EXPECT_FALSE(vocabulary->add_bos);
  EXPECT_FALSE(vocabulary->ignore_merges);
  EXPECT_EQ(vocabulary->chat_template, expected.chat_template);
}

TEST(GgufVocabularyTest, PreTokenizersHaveOneName) {
  const auto name = [](const char* pre) {
    const auto vocabulary =
        Read([&](GgufBuilder& gguf) { gguf.SetString("tokenizer.ggml.pre", pre); });
    EXPECT_OK(vocabulary);
    return vocabulary.ok() ? vocabulary->pre_tokenizer : "";
  };
  EXPECT_EQ(name("gpt-2"), "gpt2");
  EXPECT_EQ(name("default"), "gpt2");
  EXPECT_EQ(name("smollm"), "smollm");
  EXPECT_EQ(name("llama-bpe"), "llama3");
  EXPECT_EQ(name("something-new"), "something-new");
  const auto absent = Read([](GgufBuilder& gguf) { gguf.Remove("tokenizer.ggml.pre"); });
  ASSERT_OK(absent);
  EXPECT_EQ(absent->pre_tokenizer, "gpt2");
}

TEST(GgufVocabularyTest, Llama3FilesImplyWhatTheyDoNotSay) {
  const auto read = [](bool silent) {
    return Read([&](GgufBuilder& gguf) {
      gguf.SetString("tokenizer.ggml.pre", "llama-bpe");
      if (silent) gguf.Remove("tokenizer.ggml.add_bos_token");
    });
  };
  ASSERT_OK(read(true));
  EXPECT_TRUE(read(true)->ignore_merges);
  EXPECT_TRUE(read(true)->add_bos);
  EXPECT_FALSE(read(false)->add_bos);
}

TEST(GgufVocabularyTest, EveryEndTokenCountsOnce) {
  const auto vocabulary = Read([](GgufBuilder& gguf) {
    gguf.SetUint32("tokenizer.ggml.eot_token_id", 0);
    gguf.SetUint32("tokenizer.ggml.eom_token_id", 2);
  });
  ASSERT_OK(vocabulary);
  EXPECT_EQ(vocabulary->eos, (std::vector<TokenId>{2, 0}));
}

TEST(GgufVocabularyTest, OtherTokenizers) {
  for (const char* model : {"llama", "bert", "t5"})
    EXPECT_THAT(Read([&](GgufBuilder& gguf) { gguf.SetString("tokenizer.ggml.model", model); }),
                IsUnimplemented({"m.gguf", model, "\"gpt2\""}));
  EXPECT_THAT(Read([](GgufBuilder& gguf) { gguf.Remove("tokenizer.ggml.model"); }),
              IsUnimplemented({"tokenizer.ggml.model is \"\""}));
  EXPECT_THAT(Read([](GgufBuilder& gguf) { gguf.SetBool("tokenizer.ggml.add_eos_token", true); }),
              IsUnimplemented({"add_eos_token"}));
}

TEST(GgufVocabularyTest, OddEntries) {
  const auto with = [](const std::function<void(GgufBuilder&)>& change) { return Read(change); };
  EXPECT_THAT(with([](GgufBuilder& gguf) { gguf.Remove("tokenizer.ggml.tokens"); }),
              IsInvalid({"tokenizer.ggml.tokens is missing"}));
  EXPECT_THAT(with([](GgufBuilder& gguf) { gguf.SetUint32("tokenizer.ggml.tokens", 1); }),
              IsInvalid({"not an array of texts"}));
  EXPECT_THAT(with([](GgufBuilder& gguf) { gguf.SetStrings("tokenizer.ggml.tokens", {}); }),
              IsInvalid({"token_type has 277 entries for 0 tokens"}));
  EXPECT_THAT(with([](GgufBuilder& gguf) {
                gguf.SetInt32s("tokenizer.ggml.token_type", std::vector<int32_t>(277, 6));
              }),
              IsInvalid({"of token 0 is 6"}));
  EXPECT_THAT(with([](GgufBuilder& gguf) {
                gguf.SetStrings("tokenizer.ggml.token_type", std::vector<std::string>(277));
              }),
              IsInvalid({"not an array of integers"}));
  for (const char* merge : {"ab", " b", "a ", "a b c", "a  b", "", " "})
    EXPECT_THAT(with([&](GgufBuilder& gguf) { gguf.SetStrings("tokenizer.ggml.merges", {merge}); }),
                IsInvalid({"tokenizer.ggml.merges", "two parts"}));
  EXPECT_THAT(with([](GgufBuilder& gguf) { gguf.SetUint32("tokenizer.ggml.bos_token_id", 277); }),
              IsInvalid({"bos token 277 is none of the 277"}));
  EXPECT_THAT(with([](GgufBuilder& gguf) { gguf.SetUint32("tokenizer.ggml.eos_token_id", 999); }),
              IsInvalid({"eos token 999"}));
  EXPECT_THAT(
      with([](GgufBuilder& gguf) { gguf.SetUint32("tokenizer.ggml.eos_token_id", 4294967295u); }),
      IsInvalid({"eos_token_id is 4294967295"}));
  EXPECT_THAT(with([](GgufBuilder& gguf) {
                gguf.Remove("tokenizer.ggml.bos_token_id");
                gguf.SetBool("tokenizer.ggml.add_bos_token", true);
              }),
              IsInvalid({"a bos token is to be added"}));
  EXPECT_THAT(with([](GgufBuilder& gguf) {
                gguf.SetString("tokenizer.chat_template", std::string(2 << 20, 'x'));
              }),
              IsInvalid({"chat template has 2097152 bytes"}));
  EXPECT_THAT(Read([](GgufBuilder&) {}, 276), IsInvalid({"ids up to 276", "276 rows"}));
}

}  // namespace
}  // namespace lorc
