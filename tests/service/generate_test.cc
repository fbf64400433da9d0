// What a client gets: text, tokens, ends and numbers, streamed and at once.
#include <grpcpp/grpcpp.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/answer.h"
#include "tests/service/test_server.h"

namespace lorc::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

void ExpectEqual(const Reply& a, const Reply& b) {
  EXPECT_TRUE(a.status.ok()) << a.status.error_message();
  EXPECT_TRUE(b.status.ok()) << b.status.error_message();
  EXPECT_EQ(a.text, b.text);
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.finish, b.finish);
  EXPECT_EQ(a.usage.prompt_tokens(), b.usage.prompt_tokens());
  EXPECT_EQ(a.usage.generated_tokens(), b.usage.generated_tokens());
  EXPECT_EQ(a.usage.matched_stop(), b.usage.matched_stop());
}

std::string Detokenize(const std::vector<uint32_t>& ids) {
  v1::DetokenizeRequest request;
  request.mutable_ids()->Add(ids.begin(), ids.end());
  v1::DetokenizeResponse response;
  grpc::ClientContext context;
  EXPECT_TRUE(Shared().stub().Detokenize(&context, request, &response).ok());
  return response.text();
}

std::vector<uint32_t> Tokenize(const v1::TokenizeRequest& request) {
  v1::TokenizeResponse response;
  grpc::ClientContext context;
  EXPECT_TRUE(Shared().stub().Tokenize(&context, request, &response).ok());
  return {response.ids().begin(), response.ids().end()};
}

TEST(Generate, StreamIsTheSameAsOnce) {
  for (const uint64_t seed : {1, 2, 3, 4, 5}) {
    v1::GenerateRequest request = TextRequest("the hello world", 40);
    request.mutable_sampling()->set_temperature(1);
    request.mutable_sampling()->set_seed(seed);
    const Reply stream = Shared().Stream(request);
    ExpectEqual(stream, Shared().Once(request));
    EXPECT_EQ(stream.finish, v1::FINISH_REASON_LENGTH);
    EXPECT_THAT(stream.ids, SizeIs(40));
    EXPECT_EQ(stream.text, Detokenize(stream.ids));
  }
}

TEST(Generate, StreamsWhileTheModelWorks) {
  const v1::GenerateRequest request = TextRequest("the hello world", 20);
  const Reply whole = Shared().Once(request);
  Shared().gate().set_step_delay(std::chrono::milliseconds(2));
  const Reply stream = Shared().Stream(request);
  Shared().gate().set_step_delay({});
  ExpectEqual(stream, whole);
  EXPECT_GT(stream.num_parts, 5);
}

TEST(Generate, UsageAddsUp) {
  const Reply answer = Shared().Once(TextRequest("hello", 20));
  ASSERT_TRUE(answer.status.ok());
  const v1::Usage& usage = answer.usage;
  EXPECT_EQ(usage.generated_tokens(), 20);
  EXPECT_GT(usage.prompt_tokens(), 0);
  EXPECT_EQ(usage.cached_prompt_tokens(), 0);
  EXPECT_GE(usage.queue_seconds(), 0);
  EXPECT_GT(usage.prefill_seconds(), 0);
  EXPECT_GT(usage.decode_seconds(), 0);
  // Whole blocks of 16 tokens; the last token is not cached.
  const uint64_t computed = usage.prompt_tokens() + 19;
  v1::GetModelInfoResponse info;
  grpc::ClientContext context;
  ASSERT_TRUE(Shared().stub().GetModelInfo(&context, {}, &info).ok());
  EXPECT_EQ(usage.kv_bytes(), (computed + 15) / 16 * 16 * info.kv_bytes_per_token());
  EXPECT_EQ(usage.kv_bytes_full(), computed * info.kv_bytes_per_token_full());
}

TEST(Generate, SeedsRepeatAndDiffer) {
  std::set<std::string> texts;
  for (int i = 0; i < 4; ++i) {
    v1::GenerateRequest request = TextRequest("hello", 24);
    request.mutable_sampling()->set_temperature(1.5);
    texts.insert(Shared().Once(request).text);  // no seed: a new one each time
  }
  EXPECT_GT(texts.size(), 1u);
}

TEST(Generate, DefaultsAreTheServers) {
  v1::GenerateRequest request;
  request.set_text("hello");
  request.mutable_stop()->set_ignore_eos(true);
  const Reply answer = Shared().Once(request);
  EXPECT_EQ(answer.usage.generated_tokens(), Shared().config().default_max_tokens);
  ExpectEqual(answer, Shared().Once(request));  // greedy
}

TEST(Generate, DefaultMaxTokensIsCutToWhatIsLeft) {
  v1::GenerateRequest request = TextRequest("", 1);
  request.mutable_stop()->clear_max_tokens();
  for (int i = 0; i < 509; ++i) request.mutable_tokens()->add_ids(10);
  const Reply answer = Shared().Once(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.usage.generated_tokens(), 3);  // context length 512
}

TEST(Generate, TextTokensAndChatAreThreeWaysToTheSamePrompt) {
  const std::string rendered = "<|im_start|>user\nhello world<|im_end|>\n<|im_start|>assistant\n";
  v1::GenerateRequest chat = TextRequest("", 12);
  auto* message = chat.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hello world");

  v1::GenerateRequest text = TextRequest(rendered, 12);
  text.set_parse_special(true);

  v1::TokenizeRequest tokenize;
  tokenize.set_text(rendered);
  tokenize.set_parse_special(true);
  const std::vector<uint32_t> ids = Tokenize(tokenize);
  v1::GenerateRequest tokens = TextRequest("", 12);
  tokens.mutable_tokens()->mutable_ids()->Add(ids.begin(), ids.end());

  v1::TokenizeRequest tokenize_chat;
  *tokenize_chat.mutable_chat() = chat.chat();
  EXPECT_EQ(Tokenize(tokenize_chat), ids);
  const Reply answer = Shared().Once(chat);
  ExpectEqual(answer, Shared().Once(text));
  ExpectEqual(answer, Shared().Once(tokens));
  EXPECT_EQ(answer.usage.prompt_tokens(), ids.size());
}

TEST(Generate, SpecialTokensInTextAreTextUnlessParsed) {
  v1::TokenizeRequest request;
  request.set_text("<|im_start|>");
  EXPECT_GT(Tokenize(request).size(), 1u);
  request.set_parse_special(true);
  EXPECT_THAT(Tokenize(request), testing::ElementsAre(1u));
}

// Every stop string that can be cut from the answer ends it where it is first complete.
TEST(Generate, StopStringsAcrossTokenBorders) {
  v1::GenerateRequest request = TextRequest("hello", 60);
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_seed(7);
  const Reply whole = Shared().Once(request);
  ASSERT_TRUE(whole.status.ok());
  // Runs of ASCII, so that a substring is text of its own.
  int tried = 0;
  for (size_t begin = 1; begin + 4 < whole.text.size(); ++begin) {
    std::string stop = whole.text.substr(begin, 1 + begin % 4);
    bool ascii = true;
    for (const char c : stop) ascii = ascii && static_cast<unsigned char>(c) < 0x80;
    if (!ascii) continue;
    ++tried;
    request.mutable_stop()->clear_stop_strings();
    request.mutable_stop()->add_stop_strings("never to be seen");
    request.mutable_stop()->add_stop_strings(stop);
    const Reply stream = Shared().Stream(request);
    ASSERT_TRUE(stream.status.ok());
    EXPECT_EQ(stream.finish, v1::FINISH_REASON_STOP_STRING);
    EXPECT_EQ(stream.text, whole.text.substr(0, whole.text.find(stop))) << "stop " << stop;
    EXPECT_EQ(stream.usage.matched_stop(), stop);
    // The tokens are those wholly before it, and it took some more to complete it.
    EXPECT_LT(stream.ids.size(), stream.usage.generated_tokens());
    EXPECT_EQ(stream.ids,
              std::vector<uint32_t>(whole.ids.begin(), whole.ids.begin() + std::ssize(stream.ids)));
    ExpectEqual(stream, Shared().Once(request));
  }
  EXPECT_GT(tried, 5);
  EXPECT_TRUE(Shared().WaitUntilIdle());
}

TEST(Generate, MinTokensHoldsBackEveryStop) {
  v1::GenerateRequest request = TextRequest("hello", 30);
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_seed(3);
  const Reply whole = Shared().Once(request);
  // Ends at once on any of the first tokens, but for min_tokens.
  for (size_t i = 0; i < 8; ++i) request.mutable_stop()->add_stop_token_ids(whole.ids[i]);
  const Reply at_once = Shared().Once(request);
  EXPECT_EQ(at_once.finish, v1::FINISH_REASON_STOP_TOKEN);
  EXPECT_EQ(at_once.usage.generated_tokens(), 1);
  EXPECT_THAT(at_once.ids, testing::ElementsAre(whole.ids[0]));
  EXPECT_THAT(at_once.text, IsEmpty());
  request.mutable_stop()->set_min_tokens(10);
  EXPECT_GE(Shared().Once(request).usage.generated_tokens(), 10);

  request = TextRequest("hello", 30);
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_seed(3);
  request.mutable_stop()->set_min_tokens(12);
  for (const char c : whole.text.substr(0, 16)) {
    if (static_cast<unsigned char>(c) < 0x80) {
      request.mutable_stop()->add_stop_strings(std::string(1, c));
    }
    if (request.stop().stop_strings_size() == 16) break;
  }
  const Reply held = Shared().Stream(request);
  EXPECT_GE(held.usage.generated_tokens(), 12);
  ExpectEqual(held, Shared().Once(request));
}

TEST(Generate, EndTokenIsInTheTokensNotInTheText) {
  v1::GenerateRequest request;
  request.set_text("hello");
  request.mutable_stop()->set_max_tokens(400);
  request.mutable_sampling()->set_temperature(2);
  // The tiny model's output is nearly uniform: some seed meets <|im_end|>.
  for (uint64_t seed = 0; seed < 200; ++seed) {
    request.mutable_sampling()->set_seed(seed);
    const Reply answer = Shared().Stream(request);
    ASSERT_TRUE(answer.status.ok());
    if (answer.finish != v1::FINISH_REASON_EOS) continue;
    EXPECT_EQ(answer.ids.back(), 2u);
    EXPECT_EQ(answer.ids.size(), answer.usage.generated_tokens());
    EXPECT_EQ(answer.text, Detokenize(answer.ids));  // which drops special tokens
    return;
  }
  FAIL() << "no seed met the end token";
}

TEST(Generate, Logprobs) {
  v1::GenerateRequest request = TextRequest("hello", 8);
  for (const v1::GeneratedToken& token : Shared().Once(request).tokens) {
    EXPECT_FALSE(token.has_chosen());
    EXPECT_EQ(token.top_size(), 0);
  }
  request.set_logprobs(0);
  for (const v1::GeneratedToken& token : Shared().Once(request).tokens) {
    EXPECT_TRUE(token.has_chosen());
    EXPECT_EQ(token.top_size(), 0);
  }
  request.set_logprobs(20);
  const Reply answer = Shared().Stream(request);
  ASSERT_THAT(answer.tokens, SizeIs(8));
  for (const v1::GeneratedToken& token : answer.tokens) {
    ASSERT_EQ(token.top_size(), 20);
    EXPECT_EQ(token.chosen().id(), token.id());
    EXPECT_EQ(token.top(0).id(), token.id());  // greedy
    EXPECT_EQ(token.top(0).logprob(), token.chosen().logprob());
    double sum = 0;
    for (int i = 0; i < 20; ++i) {
      EXPECT_LE(token.top(i).logprob(), i == 0 ? 0 : token.top(i - 1).logprob());
      sum += std::exp(token.top(i).logprob());
    }
    EXPECT_LE(sum, 1.0001);
    const auto bytes = std::string(ToValidUtf8(Detokenize({token.id()})));
    if (!bytes.empty()) {
      EXPECT_EQ(token.chosen().text(), bytes);
    }
  }
}

TEST(Generate, SamplingReachesTheEngine) {
  v1::GenerateRequest request = TextRequest("hello", 4);
  v1::SamplingParams& sampling = *request.mutable_sampling();
  sampling.set_temperature(0.5);
  sampling.set_top_k(7);
  sampling.set_top_p(0.75);
  sampling.set_min_p(0.125);
  sampling.set_repetition_penalty(1.25);
  sampling.set_presence_penalty(-0.5);
  sampling.set_frequency_penalty(0.25);
  sampling.set_seed(0xfedcba9876543210u);
  request.mutable_stop()->set_min_tokens(2);
  request.mutable_stop()->add_stop_token_ids(99);
  request.set_logprobs(3);
  ASSERT_TRUE(Shared().Once(request).status.ok());
  const SamplingParams seen = Shared().gate().last_sampling();
  EXPECT_EQ(seen.temperature, 0.5f);
  EXPECT_EQ(seen.top_k, 7);
  EXPECT_EQ(seen.top_p, 0.75f);
  EXPECT_EQ(seen.min_p, 0.125f);
  EXPECT_EQ(seen.repetition_penalty, 1.25f);
  EXPECT_EQ(seen.presence_penalty, -0.5f);
  EXPECT_EQ(seen.frequency_penalty, 0.25f);
  EXPECT_EQ(seen.seed, 0xfedcba9876543210u);
  EXPECT_EQ(seen.num_logprobs, 3);
  EXPECT_EQ(seen.min_tokens, 2);
  EXPECT_THAT(seen.suppressed_tokens, testing::Contains(99));

  // Huge is off, not negative.
  sampling.set_top_k(0xffffffffu);
  ASSERT_TRUE(Shared().Once(request).status.ok());
  EXPECT_EQ(Shared().gate().last_sampling().top_k, Tiny().config().vocabulary_size);
}

TEST(Generate, RequestIds) {
  v1::GenerateRequest request = TextRequest("hello", 2);
  const std::string made = Shared().Stream(request).request_id;
  EXPECT_THAT(made, SizeIs(16));
  EXPECT_NE(Shared().Once(request).request_id, made);
  request.set_request_id("my request");
  EXPECT_EQ(Shared().Once(request).request_id, "my request");
  // What a header can't hold is served all the same, and can't break the log.
  request.set_request_id("\u00e4\n forged=1");
  EXPECT_TRUE(Shared().Stream(request).status.ok());
  EXPECT_THAT(Shared().log(), HasSubstr(R"(id="ä\n forged=1")"));
  EXPECT_THAT(Shared().log(), HasSubstr("status=OK finish=LENGTH"));
}

TEST(Detokenize, BytesThatAreNoUtf8) {
  // Token 4 is byte 0, and so on: byte 0xff alone is no character.
  EXPECT_EQ(Detokenize({4u + 0xff}), "\ufffd");
  EXPECT_EQ(Detokenize({}), "");
}

TEST(Detokenize, SpecialTokensWhereWanted) {
  v1::DetokenizeRequest request;
  request.add_ids(1);
  request.add_ids(4 + 'a');
  v1::DetokenizeResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(Shared().stub().Detokenize(&context, request, &response).ok());
  EXPECT_EQ(response.text(), "a");
  request.set_keep_special(true);
  grpc::ClientContext again;
  ASSERT_TRUE(Shared().stub().Detokenize(&again, request, &response).ok());
  EXPECT_EQ(response.text(), "<|im_start|>a");
}

TEST(ModelInfo, SaysWhatIsServed) {
  v1::GetModelInfoResponse info;
  grpc::ClientContext context;
  ASSERT_TRUE(Shared().stub().GetModelInfo(&context, {}, &info).ok());
  const ModelConfig& config = Tiny().config();
  EXPECT_EQ(info.model_name(), "tiny");
  EXPECT_EQ(info.architecture(), "llama");
  EXPECT_GT(info.num_parameters(), 0);
  EXPECT_EQ(info.vocabulary_size(), config.vocabulary_size);
  EXPECT_EQ(info.context_length(), config.context_length);
  EXPECT_EQ(info.plan_method(), "full");
  EXPECT_EQ(info.backend(), "cpu");
  EXPECT_FALSE(info.server_version().empty());
  EXPECT_TRUE(info.has_chat_template());
  ASSERT_EQ(info.layers_size(), config.num_layers);
  uint64_t sum = 0;
  for (const v1::LayerKvLayout& layer : info.layers()) {
    EXPECT_EQ(layer.key_layout(), "full");
    EXPECT_EQ(layer.key_type(), "f32");
    EXPECT_EQ(layer.key_rank(), config.kv_width());
    sum += layer.key_bytes_per_token() + layer.value_bytes_per_token();
  }
  EXPECT_EQ(info.kv_bytes_per_token(), sum);
  EXPECT_EQ(info.kv_bytes_per_token_full(), sum / 2);  // bf16 for f32
  EXPECT_EQ(info.default_stop().max_tokens(), Shared().config().default_max_tokens);
  EXPECT_EQ(info.default_sampling().temperature(), 0);
  EXPECT_EQ(info.default_sampling().top_p(), 1);
  EXPECT_FALSE(info.default_sampling().has_seed());
}

}  // namespace
}  // namespace lorc::test
