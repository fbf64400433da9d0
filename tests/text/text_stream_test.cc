#include "service/text_stream/text_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "runtime/tokenizer/utf8.h"

namespace lorc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TextStream Make(const std::vector<std::string>& stop_strings) {
  auto stream = TextStream::Create(stop_strings);
  EXPECT_TRUE(stream.ok()) << stream.status();
  return *std::move(stream);
}

// What each token returns, and last what Finish does.
std::vector<std::string> FeedAll(TextStream* stream, const std::vector<std::string>& tokens) {
  std::vector<std::string> returned;
  returned.reserve(tokens.size() + 1);
  for (const std::string& token : tokens) returned.push_back(stream->Feed(token));
  returned.push_back(stream->Finish());
  return returned;
}

TEST(TextStreamTest, CharactersWaitForTheirBytes) {
  TextStream stream = Make({});
  EXPECT_THAT(FeedAll(&stream, {"a\xE2", "\x82", "\xAC!", "\xF0\x9F"}),
              ElementsAre("a", "", "€!", "", kReplacementUtf8));
  EXPECT_EQ(stream.tokens_returned(), 4);
  EXPECT_EQ(stream.stop(), std::nullopt);
}

TEST(TextStreamTest, BrokenBytesAreReplacedAsSoonAsTheyAreKnownToBe) {
  const std::string r(kReplacementUtf8);
  TextStream stream = Make({});
  EXPECT_THAT(FeedAll(&stream, {"\xFF", "\xE2\x82", "A", "\xC3\xC3", "\xA9"}),
              ElementsAre(r, "", r + "A", r, "é", ""));
}

TEST(TextStreamTest, HoldsBackWhatMayBecomeAStop) {
  TextStream stream = Make({"</end>", "STOP"});
  EXPECT_THAT(FeedAll(&stream, {"one <", "/", "e two ST", "AY S", "T", "OP three", "four"}),
              ElementsAre("one ", "", "</e two ", "STAY ", "", "", "", ""));
  EXPECT_EQ(stream.stop(), 1);
  EXPECT_EQ(stream.tokens_returned(), 3);  // "AY S" begins the stop string
}

TEST(TextStreamTest, HeldTextComesAtTheEnd) {
  TextStream stream = Make({"stop"});
  EXPECT_THAT(FeedAll(&stream, {"x", "sto"}), ElementsAre("x", "", "sto"));
  EXPECT_EQ(stream.stop(), std::nullopt);
  EXPECT_EQ(stream.tokens_returned(), 2);
}

TEST(TextStreamTest, TheStopThatIsCompleteFirstCountsThenTheLongest) {
  TextStream first = Make({"abcd", "bc"});
  EXPECT_THAT(FeedAll(&first, {"xabcd"}), ElementsAre("xa", ""));
  EXPECT_EQ(first.stop(), 1);
  TextStream longest = Make({"bc", "abc", "abc"});
  EXPECT_THAT(FeedAll(&longest, {"xa", "bc"}), ElementsAre("x", "", ""));
  EXPECT_EQ(longest.stop(), 1);
}

TEST(TextStreamTest, AReplacementCanCompleteAStop) {
  TextStream stream = Make({std::string("!").append(kReplacementUtf8)});
  EXPECT_THAT(FeedAll(&stream, {"a!", "\xE2"}), ElementsAre("a", "", ""));
  EXPECT_EQ(stream.stop(), 0);
}

TEST(TextStreamTest, AStopThatIsNotAllowedIsText) {
  TextStream stream = Make({"aa"});
  EXPECT_EQ(stream.Feed("xaa", false), "xa");  // the last may begin another
  EXPECT_EQ(stream.Feed("b", false), "ab");
  EXPECT_EQ(stream.Feed("a", false), "");
  EXPECT_EQ(stream.Feed("a", true), "");
  EXPECT_EQ(stream.stop(), 0);
  EXPECT_EQ(stream.tokens_returned(), 2);
}

TEST(TextStreamTest, TokensWithoutTextAreCounted) {
  TextStream stream = Make({"zz"});
  EXPECT_THAT(FeedAll(&stream, {"", "z", "", "y"}), ElementsAre("", "", "", "zy", ""));
  EXPECT_EQ(stream.tokens_returned(), 4);
}

TEST(TextStreamTest, BadStopStringsAreRefused) {
  const auto message = [](const std::vector<std::string>& stop_strings) {
    const auto status = TextStream::Create(stop_strings).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(message(std::vector<std::string>(17, "x")), HasSubstr("17 given; at most 16"));
  EXPECT_THAT(message({"x", ""}), HasSubstr("stop_strings[1]: 0 bytes"));
  EXPECT_THAT(message({std::string(257, 'x')}), HasSubstr("257 bytes"));
  EXPECT_THAT(message({"\xC3"}), HasSubstr("stop_strings[0] is not UTF-8"));
  EXPECT_TRUE(TextStream::Create(std::vector<std::string>(16, std::string(256, 'x'))).ok());
}

// The same by definition, on the whole text.
struct Naive {
  std::string text;                // of all tokens
  std::vector<int64_t> certain;    // its length after each token, then at the end
  std::vector<int64_t> token_end;  // where each token's text ends
  std::optional<int32_t> stop;
  int64_t stop_begin = 0;
  size_t stop_token = 0;  // the token that completes it; the number of tokens: Finish
};

Naive Answer(const std::vector<std::string>& tokens, const std::vector<std::string>& stops,
             size_t min_tokens) {
  Naive naive;
  std::string bytes;
  std::vector<size_t> ends;
  ends.reserve(tokens.size());
  for (const std::string& token : tokens) ends.push_back((bytes += token).size());
  size_t next_certain = 0;
  size_t next_end = 0;
  for (size_t at = 0; at < bytes.size();) {
    const Utf8Step step = NextUtf8(std::string_view(bytes).substr(at));
    // A character is certain with the token that holds its last byte; what is broken, with the
    // byte after it, unless a single byte shows that it can't begin one.
    const bool needs_more =
        step.kind == Utf8Kind::kIncomplete ||
        (step.kind == Utf8Kind::kInvalid &&
         NextUtf8(std::string_view(bytes).substr(at, step.size)).kind == Utf8Kind::kIncomplete);
    const size_t known_at = at + step.size + (needs_more ? 1 : 0);
    while (next_certain < ends.size() && ends[next_certain] < known_at) {
      naive.certain.push_back(static_cast<int64_t>(naive.text.size()));
      ++next_certain;
    }
    while (next_end < ends.size() && ends[next_end] <= at) {
      naive.token_end.push_back(static_cast<int64_t>(naive.text.size()));
      ++next_end;
    }
    AppendUtf8(step.code_point, &naive.text);
    at += step.size;
  }
  const int64_t length = static_cast<int64_t>(naive.text.size());
  naive.certain.resize(tokens.size() + 1, length);
  naive.token_end.resize(tokens.size(), length);
  size_t token = 0;
  for (int64_t end = 1; end <= length && !naive.stop; ++end) {
    while (naive.certain[token] < end) ++token;
    if (token < min_tokens && token < tokens.size()) continue;
    for (size_t i = 0; i < stops.size(); ++i) {
      const int64_t size = static_cast<int64_t>(stops[i].size());
      if (size > end || naive.text.compare(end - size, size, stops[i]) != 0) continue;
      if (naive.stop && size <= static_cast<int64_t>(stops[*naive.stop].size())) continue;
      naive.stop = static_cast<int32_t>(i);
      naive.stop_begin = end - size;
      naive.stop_token = token;
    }
  }
  return naive;
}

// The end of the longest text that no stop string can begin in.
int64_t Undecided(std::string_view text, const std::vector<std::string>& stops) {
  for (size_t begin = 0; begin < text.size(); ++begin) {
    const std::string_view end = text.substr(begin);
    for (const std::string& stop : stops) {
      if (end.size() < stop.size() && stop.starts_with(end)) return static_cast<int64_t>(begin);
    }
  }
  return static_cast<int64_t>(text.size());
}

TEST(TextStreamTest, AgreesWithTheWholeText) {
  std::mt19937 random(11);
  const std::vector<std::string> parts = {"a",    "b",    "ab",          "é",    "€",
                                          "🙂", "\xFF", " ",           "\xE2", "\x82",
                                          "\xF0", "\x9F", "\xEF\xBF\xBD"};
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    const size_t num_parts = random() % 24;
    for (size_t i = 0; i < num_parts; ++i) bytes += parts[random() % parts.size()];
    std::vector<std::string> tokens;
    for (size_t at = 0; at < bytes.size();) {
      const size_t size = std::min<size_t>(random() % 5, bytes.size() - at);
      tokens.push_back(bytes.substr(at, size));
      at += size;
    }
    std::vector<std::string> stops;
    for (size_t i = random() % 4; i > 0; --i) {
      std::string stop;
      for (size_t j = 1 + random() % 3; j > 0; --j) {
        const std::string& part = parts[random() % parts.size()];
        stop += static_cast<size_t>(ValidUtf8Prefix(part)) == part.size() ? part : "a";
      }
      stops.push_back(stop);
    }
    const size_t min_tokens = random() % 3 == 0 ? random() % 6 : 0;

    const Naive naive = Answer(tokens, stops, min_tokens);
    TextStream stream = Make(stops);
    std::string returned;
    for (size_t i = 0; i <= tokens.size(); ++i) {
      returned += i < tokens.size() ? stream.Feed(tokens[i], i >= min_tokens) : stream.Finish();
      const bool stopped = naive.stop && i >= naive.stop_token;
      ASSERT_EQ(stream.stop(), stopped ? naive.stop : std::nullopt) << round << " token " << i;
      const std::string certain = naive.text.substr(0, naive.certain[i]);
      const int64_t expected = stopped              ? naive.stop_begin
                               : i == tokens.size() ? naive.certain[i]
                                                    : Undecided(certain, stops);
      ASSERT_EQ(returned, naive.text.substr(0, expected)) << round << " token " << i;
      const int64_t last = static_cast<int64_t>(std::min(i + 1, tokens.size()));
      const int64_t whole = std::count_if(naive.token_end.begin(), naive.token_end.begin() + last,
                                          [&](int64_t end) { return end <= expected; });
      ASSERT_EQ(stream.tokens_returned(), whole) << round << " token " << i;
    }
  }
}

}  // namespace
}  // namespace lorc
