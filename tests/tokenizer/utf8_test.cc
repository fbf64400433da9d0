#include "runtime/tokenizer/utf8.h"

#include <gtest/gtest.h>

namespace lorc {
namespace {

// As a reader that replaces each step that is not valid.
std::string Replaced(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    AppendUtf8(step.code_point, &out);
    text.remove_prefix(step.size);
  }
  return out;
}

TEST(Utf8Test, EveryCodePointSurvives) {
  for (char32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point >= 0xD800 && code_point <= 0xDFFF) continue;
    std::string text;
    AppendUtf8(code_point, &text);
    const Utf8Step step = NextUtf8(text);
    ASSERT_EQ(step.kind, Utf8Kind::kValid);
    ASSERT_EQ(step.code_point, code_point);
    ASSERT_EQ(static_cast<size_t>(step.size), text.size());
    for (size_t cut = 1; cut < text.size(); ++cut) {
      ASSERT_EQ(NextUtf8(text.substr(0, cut)).kind, Utf8Kind::kIncomplete);
    }
  }
}

// Figures from Python: bytes.decode("utf-8", errors="replace").
TEST(Utf8Test, BrokenTextIsReplacedAsPythonDoes) {
  const std::string r(kReplacementUtf8);
  EXPECT_EQ(Replaced("\xE2\x82"), r);
  EXPECT_EQ(Replaced("\xE2\x82"
                     "A"),
            r + "A");
  EXPECT_EQ(Replaced("\xC0\x80"), r + r);
  EXPECT_EQ(Replaced("\xED\xA0\x80"), r + r + r);
  EXPECT_EQ(Replaced("\xF0\x80\x80\x80"), r + r + r + r);
  EXPECT_EQ(Replaced("\xF0\x9F\x98"), r);
  EXPECT_EQ(Replaced("\xF4\x90\x80\x80"), r + r + r + r);
  EXPECT_EQ(Replaced("a\x80z"), "a" + r + "z");
  EXPECT_EQ(Replaced("\xF0\x9F\xE2\x82\xAC"), r + "€");
}

TEST(Utf8Test, WhatIsNoCodePointIsWrittenAsReplacement) {
  std::string text;
  AppendUtf8(0xD800, &text);
  AppendUtf8(0x110000, &text);
  EXPECT_EQ(text, std::string(kReplacementUtf8) + std::string(kReplacementUtf8));
}

TEST(Utf8Test, ValidPrefixEndsBeforeTheFirstFault) {
  EXPECT_EQ(ValidUtf8Prefix(""), 0);
  EXPECT_EQ(ValidUtf8Prefix("né"), 3);
  EXPECT_EQ(ValidUtf8Prefix("né\xFFz"), 3);
  EXPECT_EQ(ValidUtf8Prefix("n\xC3"), 1);
}

}  // namespace
}  // namespace lorc
