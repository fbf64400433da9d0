#include "runtime/tokenizer/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lorc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Split(const std::string& name, std::string_view text) {
  const auto pre_tokenizer = PreTokenizer::Create(name);
  EXPECT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status();
  std::vector<std::string_view> pieces;
  (*pre_tokenizer)->Split(text, &pieces);
  return {pieces.begin(), pieces.end()};
}

// Expected pieces here are those of Hugging Face's tokenizers 0.23.
TEST(PreTokenizerTest, Gpt2) {
  EXPECT_THAT(
      Split("gpt2", "Hello world  it's 2024's\r\n\n end "),
      ElementsAre("Hello", " world", " ", " it", "'s", " 2024", "'s", "\r\n\n", " end", " "));
  EXPECT_THAT(Split("gpt2", "'S'll'LL"), ElementsAre("'", "S", "'ll", "'", "LL"));
  EXPECT_THAT(Split("gpt2", "東京 Ⅷ² Привет!?"), ElementsAre("東京", " Ⅷ²", " Привет", "!?"));
  EXPECT_THAT(Split("gpt2", ""), ElementsAre());
}

TEST(PreTokenizerTest, SmolLmTakesEveryDigitAlone) {
  EXPECT_THAT(Split("smollm", "in 2024, x1"),
              ElementsAre("in", " ", "2", "0", "2", "4", ",", " x", "1"));
  // The space before a digit stands at the end of its piece: the pattern does not look beyond it.
  EXPECT_THAT(Split("smollm", "a  1"), ElementsAre("a", "  ", "1"));
  EXPECT_THAT(Split("gpt2", "a  1"), ElementsAre("a", " ", " 1"));
  EXPECT_THAT(Split("smollm", "½Ⅷ٥"), ElementsAre("½", "Ⅷ", "٥"));
}

TEST(PreTokenizerTest, Llama3) {
  EXPECT_THAT(Split("llama3", "IT'S 12345 (foo)\n\n  bar\t "),
              ElementsAre("IT", "'S", " ", "123", "45", " (", "foo", ")\n\n", " ", " bar", "\t "));
}

// U+180E is a space to PCRE2 but not to Unicode; U+0085 is one to both.
TEST(PreTokenizerTest, SpacesAreUnicodes) {
  EXPECT_THAT(Split("gpt2", "a\u180e!"), ElementsAre("a", "\u180e!"));
  EXPECT_THAT(Split("gpt2", "a\u0085!"), ElementsAre("a", "\u0085", "!"));
  EXPECT_THAT(Split("gpt2", "a\u3000\u2003b"), ElementsAre("a", "\u3000", "\u2003", "b"));
}

TEST(PreTokenizerTest, WhatIsNotUtf8StandsApart) {
  EXPECT_THAT(Split("gpt2", "ab\xFF\xC3 cd"), ElementsAre("ab", "\xFF\xC3", " cd"));
  EXPECT_THAT(Split("gpt2", "a \xED\xA0\x80 1"), ElementsAre("a", " ", "\xED\xA0\x80", " 1"));
  EXPECT_THAT(Split("smollm", "\x80"), ElementsAre("\x80"));
  EXPECT_THAT(Split("llama3", "x\xE2\x82"), ElementsAre("x", "\xE2\x82"));
}

TEST(PreTokenizerTest, LongRunsAreCutInLinearTime) {
  const int64_t size = 1 << 20;
  for (const char* name : {"gpt2", "smollm", "llama3"}) {
    EXPECT_EQ(Split(name, std::string(size, 'a')).size(), 1u) << name;
    EXPECT_EQ(Split(name, std::string(size, ' ')).size(), 1u) << name;
    EXPECT_EQ(Split(name, std::string(size, ' ') + "x").size(), 2u) << name;
    EXPECT_EQ(Split(name, std::string(size, '\xFF')).size(), 1u) << name;
  }
}

TEST(PreTokenizerTest, UnknownNameListsTheKnownOnes) {
  const auto status = PreTokenizer::Create("tekken").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"tekken\""));
  for (const char* name : {"gpt2", "smollm", "llama3"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
}

}  // namespace
}  // namespace lorc
