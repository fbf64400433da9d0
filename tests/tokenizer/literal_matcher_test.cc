#include "runtime/tokenizer/literal_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace lorc {
namespace {

using Literals = std::vector<std::pair<std::string, TokenId>>;

TEST(LiteralMatcherTest, EarliestThenLongest) {
  const LiteralMatcher matcher({{"ab", 1}, {"abcd", 2}, {"bc", 3}, {"", 4}, {"ab", 5}});
  const auto match = matcher.Find("xabcabcd", 0);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->begin, 1u);
  EXPECT_EQ(match->end, 3u);
  EXPECT_EQ(match->token, 1);
  EXPECT_EQ(matcher.Find("xabcabcd", 4)->token, 2);
  EXPECT_EQ(matcher.Find("xabcabcd", 2)->token, 3);
  EXPECT_FALSE(matcher.Find("xyz", 0));
  EXPECT_FALSE(matcher.Find("", 0));
  EXPECT_FALSE(LiteralMatcher({}).Find("x", 0));
}

TEST(LiteralMatcherTest, AgreesWithASearchForEach) {
  std::mt19937 random(7);
  const auto word = [&random](size_t size) {
    std::string text;
    while (text.size() < size) text.push_back(static_cast<char>(random() % 3 == 0 ? 0xF0 : 'a'));
    return text;
  };
  for (int round = 0; round < 2000; ++round) {
    Literals literals;
    for (TokenId id = 0; id < 5; ++id) literals.emplace_back(word(1 + random() % 5), id);
    const std::string text = word(random() % 12);
    size_t begin = std::string::npos;
    size_t size = 0;
    for (const auto& [literal, id] : literals) {
      const size_t at = text.find(literal);
      if (at == std::string::npos || at > begin) continue;
      if (at < begin || literal.size() > size) size = literal.size();
      begin = at;
    }
    const auto match = LiteralMatcher(literals).Find(text, 0);
    ASSERT_EQ(match.has_value(), begin != std::string::npos) << round;
    if (!match) continue;
    EXPECT_EQ(match->begin, begin) << round;
    EXPECT_EQ(match->end, begin + size) << round;
    EXPECT_EQ(text.substr(begin, size), literals[match->token].first) << round;
  }
}

}  // namespace
}  // namespace lorc
