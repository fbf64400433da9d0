// Small parts of the service by themselves: answers, logs, tokens of callers, memory.
#include "service/answer.h"

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <utility>
#include <vector>
#include <nlohmann/json.hpp>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/available_memory.h"
#include "service/bearer_auth.h"
#include "service/logger.h"
#include "service/metrics/histogram.h"
#include "service/rpc_status.h"
#include "tests/support/files.h"
#include "tests/support/tiny_model.h"
#include "tests/weights/status_matchers.h"

namespace lorc::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class AnswerTest : public testing::Test {
 protected:
  static TokenId Byte(unsigned char byte) { return 4 + byte; }

  Answer Make(const std::vector<std::string>& stops, int32_t min_tokens = 0) {
    return Answer(tokenizer_.get(), *TextStream::Create(stops), min_tokens, false);
  }

  static void Add(Answer& answer, const std::string& bytes) {
    for (const char byte : bytes)
      answer.Add({.token = Byte(static_cast<unsigned char>(byte)), .chosen = {}, .top = {}});
  }

  struct Part {
    std::string text;
    std::vector<uint32_t> ids;
  };
  static Part Take(Answer& answer) {
    Part part;
    google::protobuf::RepeatedPtrField<v1::GeneratedToken> tokens;
    answer.Take(&part.text, &tokens);
    for (const auto& token : tokens) part.ids.push_back(token.id());
    return part;
  }

  const TinyModel model_;
  const std::unique_ptr<Tokenizer> tokenizer_ = *Tokenizer::Create(model_.vocabulary());
};

TEST_F(AnswerTest, TokensComeWithTheirText) {
  Answer answer = Make({"abcd"});
  Add(answer, "xab");
  Part part = Take(answer);
  EXPECT_EQ(part.text, "x");
  EXPECT_THAT(part.ids, ElementsAre(Byte('x')));
  Add(answer, "y");
  part = Take(answer);
  EXPECT_EQ(part.text, "aby");
  EXPECT_THAT(part.ids, ElementsAre(Byte('a'), Byte('b'), Byte('y')));
  Add(answer, "\xc3");
  EXPECT_THAT(Take(answer).ids, IsEmpty());
  Add(answer, "\xa4");
  part = Take(answer);
  EXPECT_EQ(part.text, "\u00e4");
  EXPECT_THAT(part.ids, ElementsAre(Byte(0xc3), Byte(0xa4)));
}

TEST_F(AnswerTest, StopEndsIt) {
  Answer answer = Make({"abcd", "bc"});
  Add(answer, "xabcdef");
  ASSERT_TRUE(answer.stop().has_value());
  EXPECT_EQ(answer.stop()->index, 1);
  EXPECT_EQ(answer.stop()->generated_tokens, 4);
  EXPECT_TRUE(answer.is_closed());
  answer.Close();
  const Part part = Take(answer);
  EXPECT_EQ(part.text, "xa");
  EXPECT_THAT(part.ids, ElementsAre(Byte('x'), Byte('a')));
}

TEST_F(AnswerTest, NoStopBeforeMinTokens) {
  Answer answer = Make({"a"}, 3);
  Add(answer, "aaaa");
  EXPECT_EQ(answer.stop()->generated_tokens, 3);
  EXPECT_EQ(Take(answer).text, "aa");
}

TEST_F(AnswerTest, EndTokenComesLastAndControlTokensHaveNoText) {
  Answer answer = Make({"ab"});
  Add(answer, "xa");
  answer.Add({.token = 1, .chosen = {}, .top = {}});
  answer.Add({.token = 2, .ends_request = true, .chosen = {}, .top = {}});
  EXPECT_THAT(Take(answer).ids, ElementsAre(Byte('x')));
  answer.Close();
  const Part part = Take(answer);
  EXPECT_EQ(part.text, "a");
  EXPECT_THAT(part.ids, ElementsAre(Byte('a'), 1, 2));
  EXPECT_THAT(Take(answer).ids, IsEmpty());
}

TEST_F(AnswerTest, UnfinishedCharacterAtTheEnd) {
  Answer answer = Make({"\ufffd"});
  Add(answer, "x\xc3");
  EXPECT_FALSE(answer.stop().has_value());
  answer.Close();
  EXPECT_EQ(answer.stop()->generated_tokens, 2);
  EXPECT_EQ(Take(answer).text, "x");
}

TEST(Utf8, InvalidBytesAreReplaced) {
  EXPECT_EQ(ToValidUtf8("a\xff\xc3\xa4\xe2\x82"), "a\ufffd\u00e4\ufffd");
}

TEST(Log, TextEscapesWhatComesFromClients) {
  std::ostringstream out;
  Logger logger(LogLevel::kInfo, LogFormat::kText, out);
  logger.Info("request", {{"id", "a b\n\"c\" status=OK"}, {"n", 3}, {"ms", 1.5}, {"ok", true}});
  logger.Debug("unseen");
  EXPECT_THAT(out.str(),
              HasSubstr(R"( info request id="a b\n\"c\" status=OK" n=3 ms=1.5 ok=true)"));
  const std::string text = out.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST(Log, JsonIsJson) {
  std::ostringstream out;
  Logger logger(LogLevel::kDebug, LogFormat::kJson, out);
  logger.Debug("request", {{"id", "\xff{}%s\n"}, {"n", int64_t{1} << 60}, {"ok", false}});
  const auto json = nlohmann::json::parse(out.str());
  EXPECT_EQ(json["event"], "request");
  EXPECT_EQ(json["level"], "debug");
  EXPECT_EQ(json["id"], "\ufffd{}%s\n");
  EXPECT_EQ(json["n"], int64_t{1} << 60);
  EXPECT_EQ(json["ok"], false);
}

TEST(BearerAuth, Files) {
  const TempFolder folder;
  const std::string path = folder.File("tokens");
  ASSERT_OK(WriteFile(path, "# callers\n\n  first \nsecond\r\n"));
  const auto auth = BearerAuth::FromFile(path);
  ASSERT_OK(auth);
  const auto check = [&auth](const std::string& key, const std::string& value) {
    return auth->Check({{key, value}}).code();
  };
  EXPECT_EQ(check("authorization", "Bearer first"), absl::StatusCode::kOk);
  EXPECT_EQ(check("authorization", "bearer second"), absl::StatusCode::kOk);
  EXPECT_EQ(check("authorization", "Bearer third"), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(check("authorization", "Bearer firs"), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(check("authorization", "Basic first"), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(check("token", "first"), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(auth->Check({}).code(), absl::StatusCode::kUnauthenticated);
  EXPECT_TRUE(BearerAuth().Check({}).ok());

  ASSERT_OK(WriteFile(path, "# nobody\n"));
  EXPECT_THAT(BearerAuth::FromFile(path), IsInvalid({"has no token"}));
  ASSERT_OK(WriteFile(path, "a b\n"));
  EXPECT_THAT(BearerAuth::FromFile(path), IsInvalid({":1", "printable"}));
  EXPECT_FALSE(BearerAuth::FromFile(folder.File("none")).ok());
}

TEST(Status, LongMessagesAreCutAtACharacter) {
  std::string message(1535, 'x');
  message += "\u00e4\u00e4";
  const grpc::Status status = ToGrpcStatus(absl::InvalidArgumentError(message));
  EXPECT_EQ(status.error_message(), std::string(1535, 'x') + " ...");
}

TEST(AvailableMemory, TheLeastOfMachineAndGroups) {
  const TempFolder folder;
  const std::string& root = folder.path();
  const auto write = [&root](const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root + path).parent_path());
    ASSERT_OK(WriteFile(root + path, text));
  };
  EXPECT_EQ(FindAvailableMemory(root).bytes, 0);
  write("/proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n");
  EXPECT_EQ(FindAvailableMemory(root).bytes, 4000 * 1024);
  EXPECT_EQ(FindAvailableMemory(root).source, "MemAvailable");
  write("/proc/self/cgroup", "0::/a/b\n");
  write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  write("/sys/fs/cgroup/a/memory.max", "3000000\n");
  write("/sys/fs/cgroup/a/memory.current", "2000000\n");
  write("/sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 500000\n");
  EXPECT_EQ(FindAvailableMemory(root).bytes, 1500000);
  write("/proc/self/cgroup", "4:memory:/c\n");
  write("/sys/fs/cgroup/memory/c/memory.limit_in_bytes", "9223372036854771712\n");
  write("/sys/fs/cgroup/memory/c/memory.usage_in_bytes", "5\n");
  write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000\n");
  write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "5\n");
  EXPECT_EQ(FindAvailableMemory(root).bytes, 999995);
}

TEST(Histogram, BoundsAreInclusive) {
  Histogram histogram({1, 2, 5});
  for (const double value : {0.5, 1.0, 1.5, 5.0, 9.0}) histogram.Observe(value);
  const Histogram::Snapshot snapshot = histogram.Read();
  EXPECT_THAT(snapshot.cumulative, ElementsAre(2, 3, 4));
  EXPECT_EQ(snapshot.count, 5);
  EXPECT_EQ(snapshot.sum, 17);
}

}  // namespace
}  // namespace lorc::test
