#include "runtime/tokenizer/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <random>

#include "tests/tokenizer/toy_vocabulary.h"

namespace lorc {
namespace {

using Merges = std::vector<std::pair<std::string, std::string>>;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Encode(const Vocabulary& vocabulary, std::string_view piece) {
  const auto bpe = Bpe::Create(vocabulary);
  EXPECT_TRUE(bpe.ok()) << bpe.status();
  Bpe::Scratch scratch;
  std::vector<TokenId> tokens;
  bpe->Encode(piece, &scratch, &tokens);
  std::vector<std::string> texts;
  texts.reserve(tokens.size());
  for (const TokenId token : tokens) texts.push_back(vocabulary.tokens[token].text);
  return texts;
}

TEST(BpeTest, BetterRankFirstThenLeftmost) {
  const Merges merges = {{"b", "c"}, {"a", "b"}, {"a", "a"}, {"aa", "a"}};
  EXPECT_THAT(Encode(ToyVocabulary(merges), "abc"), ElementsAre("a", "bc"));
  EXPECT_THAT(Encode(ToyVocabulary(merges), "abab"), ElementsAre("ab", "ab"));
  EXPECT_THAT(Encode(ToyVocabulary(merges), "aaaaa"), ElementsAre("aa", "aaa"));
  EXPECT_THAT(Encode(ToyVocabulary(merges), ""), ElementsAre());
}

TEST(BpeTest, BytesWithoutTokenAreLeftOutBeforeMerging) {
  Vocabulary vocabulary = ToyVocabulary({{"a", "b"}});
  vocabulary.tokens[4].kind = Vocabulary::Kind::kControl;
  EXPECT_THAT(Encode(vocabulary,
                     "a\x04"
                     "b"),
              ElementsAre("ab"));
  EXPECT_THAT(Encode(vocabulary, "\x04"), ElementsAre());
}

// The definition, slowly: find the best-ranked pair, leftmost of equals, merge it, start again.
std::vector<std::string> EncodeSlowly(const Merges& merges, std::string_view piece) {
  std::vector<std::string> parts;
  for (const char byte : piece) parts.emplace_back(1, byte);
  while (true) {
    size_t best_rank = merges.size();
    size_t best = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank].first == parts[i] && merges[rank].second == parts[i + 1]) {
          best_rank = rank;
          best = i;
        }
      }
    }
    if (best_rank == merges.size()) return parts;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<int64_t>(best) + 1);
  }
}

TEST(BpeTest, AgreesWithTheDefinition) {
  std::mt19937 random(20);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> known = {"a", "b", "c"};
    Merges merges;
    for (int i = 0; i < 12; ++i) {
      const std::string left = known[random() % known.size()];
      const std::string right = known[random() % known.size()];
      if (left.size() + right.size() > 8) continue;
      const std::pair<std::string, std::string> merge(left, right);
      if (std::find(merges.begin(), merges.end(), merge) != merges.end()) continue;
      merges.push_back(merge);
      if (std::find(known.begin(), known.end(), left + right) == known.end()) {
        known.push_back(left + right);
      }
    }
    std::shuffle(merges.begin(), merges.end(), random);  // ranks need not follow length
    const Vocabulary vocabulary = ToyVocabulary(merges);
    for (int i = 0; i < 20; ++i) {
      std::string piece;
      const size_t size = random() % 40;
      while (piece.size() < size) piece.push_back(static_cast<char>('a' + random() % 3));
      ASSERT_EQ(Encode(vocabulary, piece), EncodeSlowly(merges, piece))
          << "round " << round << " piece " << piece;
    }
  }
}

TEST(BpeTest, OneHugeWordIsNotQuadratic) {
  const int64_t size = 1 << 20;
  const Merges merges = {{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}};
  const auto bpe = Bpe::Create(ToyVocabulary(merges));
  ASSERT_TRUE(bpe.ok());
  Bpe::Scratch scratch;
  std::vector<TokenId> tokens;
  const auto start = std::chrono::steady_clock::now();
  bpe->Encode(std::string(size, 'a'), &scratch, &tokens);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(tokens, std::vector<TokenId>(size / 8, 258));
  EXPECT_LT(elapsed.count(), 60.0);  // 0.2 s when optimised; a quadratic merge would take hours
}

TEST(BpeTest, MergesOfWhatIsNoTokenAreRefused) {
  for (const auto& merge : Merges{{"xy", "a"}, {"a", "xy"}, {"x", "y"}}) {
    Vocabulary vocabulary = ToyVocabulary({{"a", "b"}});
    vocabulary.merges.push_back(merge);
    const auto status = Bpe::Create(vocabulary).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("merge 1: \"xy\""));
  }
  // Text must not become a control token by merging.
  Vocabulary control = ToyVocabulary({{"a", "b"}});
  control.tokens.back().kind = Vocabulary::Kind::kControl;
  EXPECT_EQ(Bpe::Create(control).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Bpe::Create(Vocabulary{}).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lorc
