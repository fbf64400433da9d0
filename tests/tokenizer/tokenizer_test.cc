#include "runtime/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "tests/tokenizer/toy_vocabulary.h"

namespace lorc {
namespace {

using Kind = Vocabulary::Kind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// 256 "lo", 257 "low", 258 " l", 259 " low"; then the special tokens from 260.
Vocabulary Toy() {
  return ToyVocabulary({{"l", "o"}, {"lo", "w"}, {" ", "l"}, {" ", "low"}},
                       {{"<s>", Kind::kControl},
                        {"<s><t>", Kind::kControl},
                        {"low er", Kind::kUserDefined},
                        {"[gone]", Kind::kUnused}});
}

std::unique_ptr<Tokenizer> Make(Vocabulary vocabulary) {
  auto tokenizer = Tokenizer::Create(std::move(vocabulary));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TEST(TokenizerTest, EncodesPiecesAndSpecialTokens) {
  const auto tokenizer = Make(Toy());
  EXPECT_THAT(tokenizer->Encode("low low", false), ElementsAre(257, 259));
  EXPECT_THAT(tokenizer->Encode("<s>low<s><t><s>", true), ElementsAre(260, 257, 261, 260));
  EXPECT_THAT(tokenizer->Encode("<s>", false), ElementsAre('<', 's', '>'));
  EXPECT_THAT(tokenizer->Encode("<s", true), ElementsAre('<', 's'));
  EXPECT_THAT(tokenizer->Encode("low erl", false), ElementsAre(262, 'l'));
  EXPECT_THAT(tokenizer->Encode("[gone]", true), ElementsAre('[', 'g', 'o', 'n', 'e', ']'));
  EXPECT_THAT(tokenizer->Encode("", true), ElementsAre());
}

TEST(TokenizerTest, IgnoreMergesTakesWholePieces) {
  Vocabulary vocabulary = Toy();
  vocabulary.tokens.push_back({"Ġwol"});
  EXPECT_THAT(Make(vocabulary)->Encode(" wol", false), ElementsAre(' ', 'w', 'o', 'l'));
  vocabulary.ignore_merges = true;
  EXPECT_THAT(Make(vocabulary)->Encode(" wol low", false), ElementsAre(264, 259));
  EXPECT_THAT(Make(vocabulary)->Encode("<s>", false), ElementsAre('<', 's', '>'));
}

TEST(TokenizerTest, DecodesBytes) {
  const auto tokenizer = Make(Toy());
  const std::vector<TokenId> tokens = {260, 257, -1, 262, 1 << 20, 0xC3, 0xA9};
  EXPECT_EQ(tokenizer->Decode(tokens, true), "<s>lowlow er\xC3\xA9");
  EXPECT_EQ(tokenizer->Decode(tokens, false), "lowlow er\xC3\xA9");
  EXPECT_EQ(tokenizer->TokenBytes(259), " low");
  EXPECT_EQ(tokenizer->TokenBytes(260), "<s>");
  EXPECT_EQ(tokenizer->TokenBytes(0xFF), "\xFF");
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
  EXPECT_EQ(tokenizer->TokenBytes(264), "");
}

TEST(TokenizerTest, FindsTokensByTheirBytes) {
  const auto tokenizer = Make(Toy());
  EXPECT_EQ(tokenizer->Find("<s>"), 260);
  EXPECT_EQ(tokenizer->Find(" low"), 259);
  EXPECT_EQ(tokenizer->Find("[gone]"), 263);
  EXPECT_EQ(tokenizer->Find("Ġlow"), kNoToken);
  EXPECT_EQ(tokenizer->Find(""), kNoToken);
  EXPECT_TRUE(tokenizer->IsControl(260));
  EXPECT_FALSE(tokenizer->IsControl(262));
  EXPECT_FALSE(tokenizer->IsControl(-1));
  EXPECT_EQ(tokenizer->size(), 264);
}

TEST(TokenizerTest, TokensOutsideTheAlphabetStandForThemselves) {
  Vocabulary vocabulary = Toy();
  vocabulary.tokens.push_back({"▁x"});
  EXPECT_EQ(Make(vocabulary)->TokenBytes(264), "▁x");
}

TEST(TokenizerTest, AnyBytesSurviveARoundTripFromManyThreads) {
  const auto tokenizer = Make(Toy());
  const auto work = [&tokenizer](uint32_t seed) {
    std::mt19937 random(seed);
    for (int round = 0; round < 300; ++round) {
      std::string text;
      const size_t size = random() % 60;
      while (text.size() < size) {
        if (random() % 4 == 0) {
          text += std::array{"low", " low", "<s>", "low er", "é", "東", " 12"}[random() % 7];
        } else {
          text.push_back(static_cast<char>(random()));
        }
      }
      for (const bool special : {false, true}) {
        ASSERT_EQ(tokenizer->Decode(tokenizer->Encode(text, special), true), text)
            << "seed " << seed << " round " << round;
      }
    }
  };
  std::thread other(work, 1);
  work(2);
  other.join();
}

TEST(TokenizerTest, BadVocabulariesAreRefused) {
  const auto message = [](const Vocabulary& vocabulary) {
    const auto status = Tokenizer::Create(vocabulary).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(message(Vocabulary{}), HasSubstr("0 tokens"));
  Vocabulary vocabulary = Toy();
  vocabulary.bos = 264;
  EXPECT_THAT(message(vocabulary), HasSubstr("bos 264 of 264"));
  vocabulary = Toy();
  vocabulary.eos = {0, -2};
  EXPECT_THAT(message(vocabulary), HasSubstr("eos -2"));
  vocabulary = Toy();
  vocabulary.pre_tokenizer = "";
  EXPECT_THAT(message(vocabulary), HasSubstr("unknown pre-tokenizer"));
  vocabulary = Toy();
  vocabulary.tokens.push_back({std::string(2000, 'x'), Kind::kControl});
  EXPECT_THAT(message(vocabulary), HasSubstr("token 264 is 2000 bytes"));
  vocabulary = Toy();
  vocabulary.merges.emplace_back("q", "q");
  EXPECT_THAT(message(vocabulary), HasSubstr("merge 4"));
}

}  // namespace
}  // namespace lorc
