// `lorc generate` against a server in this process.
#include "tools/commands.h"

#include <string>
#include <vector>
#include <nlohmann/json.hpp>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/certificates.h"
#include "tests/service/test_server.h"
#include "tests/support/files.h"

namespace lorc::test {
namespace {

using testing::HasSubstr;

struct Ran {
  int status = -1;
  std::string out, err;
};

Ran RunLorc(std::vector<std::string> arguments) {
  CLI::App app("lorc");
  Ran ran;
  AddGenerateCommand(app, &ran.status);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants a vector
  arguments.push_back("generate");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    ran.status = error.get_exit_code();
  }
  ran.out = testing::internal::GetCapturedStdout();
  ran.err = testing::internal::GetCapturedStderr();
  return ran;
}

Ran RunAgainst(TestServer& server, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"--address", server.server().grpc_address()});
  return RunLorc(std::move(arguments));
}

TEST(GenerateCommand, TextAndUsage) {
  const Reply reply = Shared().Once(TextRequest("hello", 12));
  const Ran ran = RunAgainst(Shared(), {"--max-tokens", "12", "--ignore-eos", "hello"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(ran.out, reply.text + "\n");
  EXPECT_THAT(ran.err, HasSubstr("LENGTH; "));
  EXPECT_THAT(ran.err, HasSubstr("12 generated tokens"));
}

TEST(GenerateCommand, Json) {
  const Reply reply = Shared().Once(TextRequest("hello", 12));
  const Ran ran = RunAgainst(
      Shared(), {"--max-tokens", "12", "--ignore-eos", "--logprobs", "2", "--json", "hello"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  const auto json = nlohmann::json::parse(ran.out);
  EXPECT_EQ(json["text"], reply.text);
  EXPECT_EQ(json["finish"], "LENGTH");
  EXPECT_EQ(json["generated_tokens"], 12);
  ASSERT_EQ(json["tokens"].size(), 12);
  EXPECT_EQ(json["tokens"][0]["top"].size(), 2);
}

TEST(GenerateCommand, KnobsReachTheServer) {
  const Ran ran = RunAgainst(Shared(), {"--chat",
                                        "--system",
                                        "be brief",
                                        "--max-tokens",
                                        "5",
                                        "--ignore-eos",
                                        "--temperature",
                                        "0.5",
                                        "--top-k",
                                        "3",
                                        "--top-p",
                                        "0.5",
                                        "--min-p",
                                        "0.25",
                                        "--seed",
                                        "18446744073709551615",
                                        "--stop",
                                        "never",
                                        "--stop",
                                        "ever",
                                        "hello"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  const SamplingParams seen = Shared().gate().last_sampling();
  EXPECT_EQ(seen.temperature, 0.5f);
  EXPECT_EQ(seen.top_k, 3);
  EXPECT_EQ(seen.top_p, 0.5f);
  EXPECT_EQ(seen.min_p, 0.25f);
  EXPECT_EQ(seen.seed, 0xffffffffffffffffu);
  EXPECT_EQ(Shared().gate().last_tokens().front(), 1);  // <|im_start|>
}

TEST(GenerateCommand, ErrorsAreClear) {
  Ran ran = RunAgainst(Shared(), {"--temperature", "7", "hello"});
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("error: sampling.temperature is 7"));
  EXPECT_EQ(ran.out, "");
  ran = RunAgainst(Shared(), {"bad \xff"});
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("UTF-8"));
  ran = RunLorc({"--address", "127.0.0.1:1", "hello"});
  EXPECT_EQ(ran.status, 1);
  EXPECT_THAT(ran.err, HasSubstr("(server 127.0.0.1:1)"));
  ran = RunAgainst(Shared(), {"--tls-ca", "/no/such/file", "hello"});
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("/no/such/file"));
  EXPECT_GT(RunLorc({}).status, 0);
  EXPECT_GT(RunLorc({"--temperature", "warm", "hello"}).status, 0);

  Shared().gate().Close();
  ran = RunAgainst(Shared(), {"--timeout", "0.2", "hello"});
  Shared().gate().Open();
  EXPECT_EQ(ran.status, 1);
  EXPECT_THAT(ran.err, HasSubstr("Deadline"));
}

TEST(GenerateCommand, TlsAndToken) {
  const CertificateAuthority authority("authority");
  const PemPair pair = authority.Issue("localhost");
  const PemPair own = authority.Issue("client");
  const TempFolder folder;
  const auto write = [&folder](const char* name, const std::string& text) {
    EXPECT_TRUE(WriteFile(folder.File(name), text).ok());
    return folder.File(name);
  };
  const std::string ca = write("ca.pem", authority.certificate());
  TestServer server([&](ServerConfig& config) {
    config.tls_cert = write("server.pem", pair.certificate);
    config.tls_key = write("server.key", pair.key);
    config.tls_client_ca = ca;
    config.bearer_token_file = write("tokens", "secret\n");
  });
  const std::vector<std::string> flags = {"--tls-ca",   ca,
                                          "--tls-cert", write("own.pem", own.certificate),
                                          "--tls-key",  write("own.key", own.key)};
  std::vector<std::string> arguments = flags;
  arguments.push_back("hello");
  EXPECT_EQ(RunAgainst(server, arguments).status, 2);  // no token
  arguments.insert(arguments.end() - 1, {"--bearer-token-file", write("token", " secret\n")});
  const Ran ran = RunAgainst(server, arguments);
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(RunAgainst(server, {"--tls-ca", ca, "hello"}).status, 1);  // no certificate
}

}  // namespace
}  // namespace lorc::test
