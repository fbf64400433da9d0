#include "runtime/compress/multiple_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/compress/score_sequence.h"
#include "tests/compress/tiny_fixture.h"

namespace lorc {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class ReadChoicesTest : public testing::Test {
 protected:
  absl::StatusOr<std::vector<ChoiceQuestion>> Read(std::string_view text) const {
    const std::string path = folder_.File("questions.jsonl");
    EXPECT_TRUE(test::WriteFile(path, text).ok());
    return ReadChoices(path);
  }

  // Refused, with these words: after a good first line and an empty one.
  void ExpectRefused(const std::string& line, const std::string& part) const {
    const auto read = Read(R"({"question":"q","choices":["a","b"],"answer":0})"
                           "\n\n" +
                           line);
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(read.status().ToString(),
                AllOf(HasSubstr("questions.jsonl, line 3"), HasSubstr(part)));
  }

  test::TempFolder folder_;
};

TEST_F(ReadChoicesTest, ReadsLines) {
  const auto read = Read(
      "{\"question\": \"Two and two is\", \"choices\": [\" four\", \" five\"], \"answer\": 0}\r\n"
      "  \n"
      "{\"id\": 7, \"answer\": 2, \"choices\": [\"a\", \"b\", \"\\u00e9\"], \"question\": \"Q\"}");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_THAT(*read, SizeIs(2));
  EXPECT_EQ((*read)[0].question, "Two and two is");
  EXPECT_THAT((*read)[0].choices, ElementsAre(" four", " five"));
  EXPECT_THAT((*read)[1].choices, ElementsAre("a", "b", "\xc3\xa9"));
  EXPECT_EQ((*read)[1].answer, 2);
  EXPECT_THAT((*read)[1].source, HasSubstr("questions.jsonl, line 3"));
}

TEST_F(ReadChoicesTest, RefusesWhatIsNoQuestion) {
  ExpectRefused("nonsense", "not valid JSON");
  ExpectRefused("[1]", "JSON object was expected");
  ExpectRefused(R"({"choices":["a","b"],"answer":0})", "question is missing or empty");
  ExpectRefused(R"({"question":7,"choices":["a","b"],"answer":0})", "question is not a text");
  ExpectRefused(R"({"question":"q","answer":0})", "choices is not a list of two");
  ExpectRefused(R"({"question":"q","choices":["a"],"answer":0})", "choices is not a list of two");
  ExpectRefused(R"({"question":"q","choices":"ab","answer":0})", "choices is not a list of two");
  ExpectRefused(R"({"question":"q","choices":["a",3],"answer":0})", "choices: number 1");
  ExpectRefused(R"({"question":"q","choices":["","b"],"answer":0})", "choices: number 0");
  ExpectRefused(R"({"question":"q","choices":["a","b"]})", "answer is missing");
  ExpectRefused(R"({"question":"q","choices":["a","b"],"answer":2})", "answer is 2; 0 to 1");
  ExpectRefused(R"({"question":"q","choices":["a","b"],"answer":-1})", "answer is -1");
  ExpectRefused(R"({"question":"q","choices":["a","b"],"answer":"a"})", "answer is not an integer");
  EXPECT_THAT(Read("\n \n").status().ToString(), HasSubstr("the file has none"));
  EXPECT_THAT(ReadChoices(folder_.File("none")).status().ToString(), HasSubstr("No such file"));
}

TEST(EncodeChoices, BeginsAsTheModelWantsAndFitsTheContext) {
  test::TinyFixture fixture;
  const std::vector<ChoiceQuestion> questions = {{"file, line 4", "hello", {" world", " the"}, 1}};
  const auto plain = EncodeChoices(questions, *fixture.tokenizer, 512);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ((*plain)[0].question, fixture.tokenizer->Encode("hello", false));
  EXPECT_EQ((*plain)[0].choices[1], fixture.tokenizer->Encode(" the", false));
  EXPECT_THAT((*plain)[0].choice_bytes, ElementsAre(6, 4));
  EXPECT_EQ((*plain)[0].answer, 1);

  Vocabulary vocabulary = fixture.model.vocabulary();
  vocabulary.add_bos = true;
  const TokenId bos = vocabulary.bos;
  const auto with_bos = EncodeChoices(questions, **Tokenizer::Create(std::move(vocabulary)), 512);
  ASSERT_TRUE(with_bos.ok()) << with_bos.status();
  EXPECT_EQ((*with_bos)[0].question[0], bos);
  EXPECT_EQ((*with_bos)[0].question.size(), (*plain)[0].question.size() + 1);

  const int32_t longest = (*plain)[0].longest_tokens();
  EXPECT_EQ(longest,
            std::ssize((*plain)[0].question) +
                std::max(std::ssize((*plain)[0].choices[0]), std::ssize((*plain)[0].choices[1])));
  EXPECT_TRUE(EncodeChoices(questions, *fixture.tokenizer, longest).ok());
  EXPECT_THAT(EncodeChoices(questions, *fixture.tokenizer, longest - 1).status().ToString(),
              AllOf(HasSubstr("file, line 4"), HasSubstr("expected at most")));
}

TEST(ScoreChoices, AreSumsOfLogProbabilitiesAfterTheQuestion) {
  const test::TinyFixture fixture;
  const auto executor = fixture.MakeExecutor(64);
  std::vector<ChoiceQuestion> questions;
  for (int i = 0; i < 12; ++i) {
    questions.push_back({"file",
                         "the question number " + std::to_string(i),
                         {" hello", " a longer answer than the others", " the", " world"},
                         i % 4});
  }
  const auto encoded = EncodeChoices(questions, *fixture.tokenizer, 512);
  ASSERT_TRUE(encoded.ok()) << encoded.status();
  const auto scored = ScoreChoices(*executor, *encoded, nullptr);
  ASSERT_TRUE(scored.ok()) << scored.status();
  bool differs = false;
  for (int i = 0; i < 12; ++i) {
    const auto before = fixture.tokenizer->Encode(questions[i].question, false);
    std::vector<double> expected, normalised;
    for (const std::string& choice : questions[i].choices) {
      std::vector<TokenId> tokens = before;
      for (const TokenId token : fixture.tokenizer->Encode(choice, false)) tokens.push_back(token);
      const auto logprobs = ScoreSequence(*executor, tokens);
      ASSERT_TRUE(logprobs.ok()) << logprobs.status();
      double sum = 0;
      for (size_t t = before.size(); t < tokens.size(); ++t) sum += (*logprobs)[t - 1];
      expected.push_back(sum);
      normalised.push_back(sum / static_cast<double>(choice.size()));
    }
    const auto largest = [](const std::vector<double>& v) {
      return std::max_element(v.begin(), v.end()) - v.begin();
    };
    EXPECT_EQ(scored->scores[i], expected);
    EXPECT_EQ(scored->picked[i], largest(expected));
    EXPECT_EQ(scored->picked_normalised[i], largest(normalised));
    EXPECT_EQ(scored->answers[i], i % 4);
    differs = differs || scored->picked[i] != scored->picked_normalised[i];
  }
  EXPECT_TRUE(differs) << "the two rules picked the same everywhere, which shows nothing";
}

}  // namespace
}  // namespace lorc
