// Who may talk to the server, and over what.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/certificates.h"
#include "tests/service/health_client.h"
#include "tests/service/test_server.h"
#include "tests/support/files.h"
#include "tests/weights/status_matchers.h"

namespace lorc::test {
namespace {

using testing::HasSubstr;

// An authority, a server of it, and the files of both.
class SecurityTest : public testing::Test {
 protected:
  SecurityTest() {
    const PemPair server = authority_.Issue("localhost");
    cert_ = Write("server.pem", server.certificate);
    key_ = Write("server.key", server.key);
    ca_ = Write("ca.pem", authority_.certificate());
  }

  std::string Write(const std::string& name, const std::string& text) {
    EXPECT_OK(WriteFile(folder_.File(name), text));
    return folder_.File(name);
  }

  void UseTls(ServerConfig& config) const {
    config.tls_cert = cert_;
    config.tls_key = key_;
  }

  static std::shared_ptr<grpc::Channel> Channel(TestServer& server, const std::string& roots,
                                                const PemPair& own = {}) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = roots;
    options.pem_private_key = own.key;
    options.pem_cert_chain = own.certificate;
    return grpc::CreateChannel(server.server().grpc_address(), grpc::SslCredentials(options));
  }

  static grpc::Status Ask(const std::shared_ptr<grpc::Channel>& channel,
                          const std::string& token = "") {
    grpc::ClientContext context;
    if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
    v1::GenerateOnceResponse response;
    return v1::GenerationService::NewStub(channel)->GenerateOnce(&context, TextRequest("hello", 2),
                                                                 &response);
  }

  absl::Status ListenError(const std::function<void(ServerConfig&)>& edit) {
    ServerConfig config = TinyConfig();
    UseTls(config);
    edit(config);
    std::ostringstream log;
    Logger logger(LogLevel::kInfo, LogFormat::kText, log);
    return Server::Listen(config, &logger).status();
  }

  const CertificateAuthority authority_{"test authority"};
  const CertificateAuthority stranger_{"another authority"};
  const TempFolder folder_;
  std::string cert_, key_, ca_;
};

TEST_F(SecurityTest, Tls) {
  TestServer server([this](ServerConfig& config) { UseTls(config); });
  EXPECT_TRUE(Ask(Channel(server, authority_.certificate())).ok());
  EXPECT_EQ(Ask(Channel(server, stranger_.certificate())).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Ask(server.channel()).error_code(), grpc::StatusCode::UNAVAILABLE);  // plain text
}

TEST_F(SecurityTest, MutualTls) {
  TestServer server([this](ServerConfig& config) {
    UseTls(config);
    config.tls_client_ca = ca_;
  });
  const std::string& roots = authority_.certificate();
  EXPECT_TRUE(Ask(Channel(server, roots, authority_.Issue("client"))).ok());
  EXPECT_FALSE(Ask(Channel(server, roots)).ok());
  EXPECT_FALSE(Ask(Channel(server, roots, stranger_.Issue("client"))).ok());
}

TEST_F(SecurityTest, WrongFilesAreNamed) {
  const std::string other_key = Write("other.key", authority_.Issue("localhost").key);
  const std::string junk = Write("junk.pem", "no certificate");
  EXPECT_THAT(ListenError([&](ServerConfig& config) { config.tls_cert = junk; }),
              IsInvalid({"--tls-cert", "junk.pem"}));
  EXPECT_THAT(ListenError([&](ServerConfig& config) { config.tls_key = junk; }),
              IsInvalid({"--tls-key", "junk.pem"}));
  EXPECT_THAT(ListenError([&](ServerConfig& config) { config.tls_key = other_key; }),
              IsInvalid({"--tls-key", "other.key"}));
  EXPECT_THAT(ListenError([&](ServerConfig& config) { config.tls_client_ca = junk; }),
              IsInvalid({"--tls-client-ca", "junk.pem"}));
  EXPECT_THAT(ListenError([&](ServerConfig& config) { config.tls_cert = folder_.File("none"); }),
              FailsWith(absl::StatusCode::kNotFound, std::vector<std::string>{"--tls-cert"}));
  EXPECT_THAT(ListenError([&](ServerConfig& config) { config.bearer_token_file = "none"; }),
              FailsWith(absl::StatusCode::kNotFound, std::vector<std::string>{"none"}));
}

TEST_F(SecurityTest, BearerTokens) {
  const std::string tokens = Write("tokens", "first\nsecond\n");
  TestServer server([&](ServerConfig& config) {
    UseTls(config);
    config.bearer_token_file = tokens;
  });
  const auto channel = Channel(server, authority_.certificate());
  EXPECT_TRUE(Ask(channel, "first").ok());
  EXPECT_TRUE(Ask(channel, "second").ok());
  EXPECT_EQ(Ask(channel, "third").error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Ask(channel).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  // Every call of the service.
  const auto stub = v1::GenerationService::NewStub(channel);
  const auto expect_refused = [](const grpc::Status& status) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  };
  {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    const auto reader = stub->Generate(&context, TextRequest("hello", 2));
    EXPECT_FALSE(reader->Read(&response));
    expect_refused(reader->Finish());
  }
  {
    grpc::ClientContext context;
    v1::TokenizeResponse response;
    expect_refused(stub->Tokenize(&context, {}, &response));
  }
  {
    grpc::ClientContext context;
    v1::DetokenizeResponse response;
    expect_refused(stub->Detokenize(&context, {}, &response));
  }
  {
    grpc::ClientContext context;
    v1::GetModelInfoResponse response;
    expect_refused(stub->GetModelInfo(&context, {}, &response));
  }
  {
    grpc::ClientContext context;
    v1::GetServerStatsResponse response;
    expect_refused(stub->GetServerStats(&context, {}, &response));
  }
  // Probes have no tokens.
  EXPECT_EQ(CheckHealth(channel, ""), kServing);
  EXPECT_EQ(server.log().find("bearer_tokens_without_tls"), std::string::npos);
}

TEST_F(SecurityTest, TokensWithoutTlsAreWarnedOf) {
  const std::string tokens = Write("tokens", "first\n");
  TestServer server([&](ServerConfig& config) { config.bearer_token_file = tokens; });
  EXPECT_TRUE(Ask(server.channel(), "first").ok());
  EXPECT_THAT(server.log(), HasSubstr("bearer_tokens_without_tls"));
}

TEST_F(SecurityTest, MessagesAreLimited) {
  TestServer server([](ServerConfig& config) {
    config.max_receive_bytes = 4096;
    config.max_send_bytes = 4096;
  });
  const Reply reply = server.Once(TextRequest(std::string(5000, 'x'), 2));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  v1::GenerateRequest request = TextRequest("hello", 200);
  request.set_logprobs(20);
  EXPECT_EQ(server.Once(request).status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(server.Once(TextRequest("hello", 2)).status.ok());
  EXPECT_TRUE(server.WaitUntilIdle());
}

}  // namespace
}  // namespace lorc::test
