// Every field's wrong values: the code, and a message that names the field.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/test_server.h"
#include "tests/support/files.h"

namespace lorc::test {
namespace {

using testing::HasSubstr;

struct WrongCase {
  const char* name;
  std::function<void(v1::GenerateRequest&)> edit;
  std::vector<const char*> parts;  // of the message
};

void PrintTo(const WrongCase& wrong, std::ostream* out) { *out << wrong.name; }

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<WrongCase> WrongCases() {
  using R = v1::GenerateRequest;
  std::vector<WrongCase> cases = {
      {"no_input", [](R& r) { r.clear_input(); }, {"input is not set", "text, tokens or chat"}},
      {"empty_text", [](R& r) { r.set_text(""); }, {"prompt is empty"}},
      {"no_tokens", [](R& r) { r.mutable_tokens(); }, {"prompt is empty"}},
      {"no_messages", [](R& r) { r.mutable_chat(); }, {"chat.messages is empty"}},
      {"role",
       [](R& r) { r.mutable_chat()->add_messages()->set_role("robot"); },
       {"chat.messages[0].role", "\"robot\"", "system, user or assistant"}},
      {"token_id",
       [](R& r) {
         r.mutable_tokens()->add_ids(5);
         r.mutable_tokens()->add_ids(288);
       },
       {"tokens.ids[1] is 288", "0..287"}},
      {"huge_token_id",
       [](R& r) { r.mutable_tokens()->add_ids(0xffffffffu); },
       {"tokens.ids[0] is 4294967295"}},
      {"request_id",
       [](R& r) { r.set_request_id(std::string(129, 'x')); },
       {"request_id", "129 bytes", "128"}},
      {"logprobs", [](R& r) { r.set_logprobs(21); }, {"logprobs is 21", "0..20"}},
      {"priority_high", [](R& r) { r.set_priority(101); }, {"priority is 101", "-100..100"}},
      {"priority_low", [](R& r) { r.set_priority(-101); }, {"priority is -101", "-100..100"}},
      {"prompt_too_long",
       [](R& r) {
         r.mutable_stop()->clear_max_tokens();
         for (int i = 0; i < 512; ++i) r.mutable_tokens()->add_ids(9);
       },
       {"the prompt has 512 tokens", "1..511", "bytes of cache", "the budget is"}},
      {"text_far_too_long",
       [](R& r) { r.set_text(std::string(100'000, 'x')); },
       {"text has 100000 bytes", "512 tokens"}},
      {"chat_far_too_long",
       [](R& r) {
         auto* message = r.mutable_chat()->add_messages();
         message->set_role("user");
         message->set_content(std::string(100'000, 'x'));
       },
       {"chat has 100000 bytes"}},
      {"max_tokens_zero",
       [](R& r) { r.mutable_stop()->set_max_tokens(0); },
       {"stop.max_tokens is 0", "1.."}},
      {"max_tokens_never_fits",
       [](R& r) { r.mutable_stop()->set_max_tokens(100'000); },
       {"stop.max_tokens is 100000", "bytes of cache", "the budget is"}},
      {"max_tokens_huge",
       [](R& r) { r.mutable_stop()->set_max_tokens(0xffffffffu); },
       {"stop.max_tokens is 4294967295"}},
      {"min_tokens",
       [](R& r) { r.mutable_stop()->set_min_tokens(9); },
       {"stop.min_tokens is 9", "0..8"}},
      {"stop_strings",
       [](R& r) {
         for (int i = 0; i < 17; ++i) r.mutable_stop()->add_stop_strings(std::string(1, 'x'));
       },
       {"stop.stop_strings", "17", "16"}},
      {"empty_stop_string",
       [](R& r) {
         r.mutable_stop()->add_stop_strings(std::string(4, 'x'));
         r.mutable_stop()->add_stop_strings();
       },
       {"stop.stop_strings[1]", "1..256 bytes"}},
      {"long_stop_string",
       [](R& r) { r.mutable_stop()->add_stop_strings(std::string(257, 'x')); },
       {"stop.stop_strings[0]", "257 bytes"}},
      {"stop_token_ids",
       [](R& r) {
         for (int i = 0; i < 65; ++i) r.mutable_stop()->add_stop_token_ids(5);
       },
       {"stop.stop_token_ids", "65", "64"}},
      {"stop_token_id",
       [](R& r) { r.mutable_stop()->add_stop_token_ids(288); },
       {"stop.stop_token_ids[0] is 288", "0..287"}},
  };
  struct Knob {
    const char* field;
    void (v1::SamplingParams::*set)(float);
    std::vector<float> wrong;
    const char* range;
  };
  using S = v1::SamplingParams;
  const Knob knobs[] = {
      {"sampling.temperature", &S::set_temperature, {-0.1f, 2.1f}, "[0, 2]"},
      {"sampling.top_p", &S::set_top_p, {0.0f, -1.0f, 1.1f}, "(0, 1]"},
      {"sampling.min_p", &S::set_min_p, {-0.1f, 1.0f}, "[0, 1)"},
      {"sampling.repetition_penalty", &S::set_repetition_penalty, {0.0f, 2.1f}, "(0, 2]"},
      {"sampling.presence_penalty", &S::set_presence_penalty, {-2.1f, 2.1f}, "[-2, 2]"},
      {"sampling.frequency_penalty", &S::set_frequency_penalty, {-2.1f, 2.1f}, "[-2, 2]"},
  };
  for (const Knob& knob : knobs) {
    std::vector<float> wrong = knob.wrong;
    wrong.insert(wrong.end(), {kNan, kInfinity, -kInfinity, 999999.0f});
    for (const float value : wrong) {
      cases.push_back({knob.field,
                       [set = knob.set, value](R& r) { (r.mutable_sampling()->*set)(value); },
                       {knob.field, knob.range}});
    }
  }
  return cases;
}

class WrongRequest : public testing::TestWithParam<WrongCase> {};

TEST_P(WrongRequest, IsNamed) {
  v1::GenerateRequest request = TextRequest("hello", 8);
  GetParam().edit(request);
  for (const Reply& answer : {Shared().Once(request), Shared().Stream(request)}) {
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    for (const char* part : GetParam().parts) {
      EXPECT_THAT(answer.status.error_message(), HasSubstr(part));
    }
    EXPECT_EQ(answer.num_parts, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Fields, WrongRequest, testing::ValuesIn(WrongCases()));

TEST(Validation, EdgesOfRangesAreFine) {
  v1::GenerateRequest request = TextRequest("hello", 8);
  v1::SamplingParams& sampling = *request.mutable_sampling();
  sampling.set_temperature(2);
  sampling.set_top_p(1);
  sampling.set_min_p(0);
  sampling.set_repetition_penalty(2);
  sampling.set_presence_penalty(-2);
  sampling.set_frequency_penalty(2);
  request.set_priority(-100);
  request.set_logprobs(20);
  request.set_request_id(std::string(128, 'x'));
  request.mutable_stop()->set_min_tokens(8);
  for (int i = 0; i < 16; ++i) request.mutable_stop()->add_stop_strings(std::string(256, 'y'));
  for (int i = 0; i < 64; ++i) request.mutable_stop()->add_stop_token_ids(287);
  EXPECT_TRUE(Shared().Once(request).status.ok());
  request = TextRequest("", 1);
  for (int i = 0; i < 511; ++i) request.mutable_tokens()->add_ids(9);
  EXPECT_TRUE(Shared().Once(request).status.ok());
}

// Logits that these would make infinite stay finite.
TEST(Validation, TinyTemperaturesAndPenalties) {
  const Reply greedy = Shared().Once(TextRequest("hello", 8));
  ASSERT_TRUE(greedy.status.ok());
  v1::GenerateRequest request = TextRequest("hello", 8);
  v1::SamplingParams& sampling = *request.mutable_sampling();
  for (const float temperature : {1e-45f, 1e-40f, 1e-6f, 1e-5f}) {
    sampling.set_temperature(temperature);
    for (const int top_k : {0, 5}) {
      sampling.set_top_k(top_k);
      for (const float min_p : {0.0f, 0.5f}) {
        sampling.set_min_p(min_p);
        const Reply reply = Shared().Once(request);
        EXPECT_TRUE(reply.status.ok());
        EXPECT_EQ(reply.ids, greedy.ids) << temperature << " " << top_k << " " << min_p;
      }
    }
  }
  sampling.set_repetition_penalty(1e-38f);
  for (const float temperature : {0.0f, 1e-5f, 2.0f}) {
    sampling.set_temperature(temperature);
    EXPECT_TRUE(Shared().Once(request).status.ok());
  }
}

TEST(Validation, TokenizeAndDetokenize) {
  v1::TokenizeResponse tokenized;
  grpc::ClientContext first;
  grpc::Status status = Shared().stub().Tokenize(&first, {}, &tokenized);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("input is not set"));
  v1::DetokenizeRequest request;
  request.add_ids(1);
  request.add_ids(400);
  v1::DetokenizeResponse detokenized;
  grpc::ClientContext second;
  status = Shared().stub().Detokenize(&second, request, &detokenized);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("ids[1] is 400"));
}

// Not what any client library sends: bytes that are no message, and strings that are no UTF-8.
TEST(Validation, MessagesThatAreNone) {
  grpc::GenericStub stub(Shared().channel());
  for (const std::string_view bytes : {"\xff\xff\xff\xff", "\x12\x02\xff\xfe", "\x0a\x7f"}) {
    grpc::Slice slice(bytes.data(), bytes.size());
    grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const auto call =
        stub.PrepareUnaryCall(&context, "/lorc.v1.GenerationService/GenerateOnce", request, &queue);
    call->StartCall();
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    EXPECT_FALSE(status.ok());
  }
  EXPECT_TRUE(Shared().Once(TextRequest("still there", 2)).status.ok());
}

TEST(Validation, LedgersAreAsAtTheStart) { EXPECT_TRUE(Shared().WaitUntilIdle()); }

TEST(Validation, RefusedRequestsAreCounted) {
  TestServer server;
  v1::GenerateRequest request = TextRequest("hello", 0);
  EXPECT_FALSE(server.Once(request).status.ok());
  EXPECT_FALSE(server.Stream(request).status.ok());
  EXPECT_EQ(server.Stats().requests_refused(), 2);
  EXPECT_EQ(server.Stats().requests_finished(), 0);
}

TEST(Validation, NoChatTemplate) {
  TestServer server([](ServerConfig& config) {
    static const TempFolder folder;
    config.model = folder.File("no_chat.gguf");
    GgufBuilder builder = MakeTinyGguf(Tiny());
    builder.Remove("tokenizer.chat_template");
    ASSERT_TRUE(WriteFile(config.model, builder.Build()).ok());
  });
  v1::GenerateRequest request = TextRequest("", 4);
  auto* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hello");
  const Reply answer = server.Once(request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("no chat template"));
}

}  // namespace
}  // namespace lorc::test
