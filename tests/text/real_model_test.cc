// The real model's tokenizer and chat template against their reference implementations.
#include <gtest/gtest.h>

#include <cstdlib>

#include "runtime/tokenizer/tokenizer.h"
#include "runtime/weights/checkpoint.h"
#include "service/chat_template/chat_template.h"
#include "service/text_stream/text_stream.h"
#include "tests/text/smollm2_goldens.h"

namespace lorc {
namespace {

class SmolLm2Test : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* path = std::getenv("LORC_TEST_MODEL");
    ASSERT_NE(path, nullptr) << "LORC_TEST_MODEL names the model's GGUF file";
    const auto checkpoint = Checkpoint::Open(path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    auto vocabulary = (*checkpoint)->ReadVocabulary();
    ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
    auto tokenizer = Tokenizer::Create(*std::move(vocabulary));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = tokenizer->release();
  }
  static void TearDownTestSuite() {
    delete tokenizer_;
    tokenizer_ = nullptr;
  }
  void SetUp() override { ASSERT_NE(tokenizer_, nullptr); }

  static std::vector<TokenId> Encode(const std::string& text, bool parse_special) {
    return tokenizer_->Encode(text, parse_special);
  }

  static Tokenizer* tokenizer_;
};

Tokenizer* SmolLm2Test::tokenizer_ = nullptr;

TEST_F(SmolLm2Test, TextsHaveTheReferencesTokens) {
  for (const TextGolden& golden : TextGoldens()) {
    EXPECT_EQ(Encode(golden.text, golden.parse_special), golden.ids) << golden.text;
  }
}

TEST_F(SmolLm2Test, ChatsAreRenderedAndTokenisedAsTheReferenceDoes) {
  const Vocabulary& vocabulary = tokenizer_->vocabulary();
  ASSERT_FALSE(vocabulary.eos.empty());
  const auto chat_template = ChatTemplate::Parse(
      vocabulary.chat_template, std::string(tokenizer_->TokenBytes(vocabulary.bos)),
      std::string(tokenizer_->TokenBytes(vocabulary.eos[0])));
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  for (const ChatGolden& golden : ChatGoldens()) {
    const auto rendered = chat_template->Render(golden.messages, true);
    ASSERT_TRUE(rendered.ok()) << rendered.status();
    EXPECT_EQ(*rendered, golden.rendered);
    EXPECT_EQ(Encode(*rendered, true), golden.ids);
  }
}

TEST_F(SmolLm2Test, SpecialTokens) {
  EXPECT_EQ(tokenizer_->size(), 49152);
  EXPECT_EQ(tokenizer_->Find("<|im_end|>"), 2);
  EXPECT_TRUE(tokenizer_->IsControl(2));
  EXPECT_EQ(tokenizer_->Find(" the"), Encode(" the", false)[0]);
  EXPECT_EQ(tokenizer_->Decode(Encode("a<|im_end|>b", true), false), "ab");
  EXPECT_EQ(tokenizer_->Decode(Encode("a<|im_end|>b", true), true), "a<|im_end|>b");
}

TEST_F(SmolLm2Test, TokensStreamAsTheirText) {
  const std::string text =
      "Zürich – naïve café, 東京 and Санкт-Петербург 🙂\t  end\r\n\n  ";
  auto stream = TextStream::Create({"never in it"});
  ASSERT_TRUE(stream.ok());
  std::string streamed;
  int64_t count = 0;
  for (const TokenId token : Encode(text, false)) {
    streamed += stream->Feed(tokenizer_->TokenBytes(token));
    ++count;
  }
  streamed += stream->Finish();
  EXPECT_EQ(streamed, text);
  EXPECT_EQ(stream->tokens_returned(), count);
}

}  // namespace
}  // namespace lorc
