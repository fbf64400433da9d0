// Flags and YAML, right and wrong.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/config_fields.h"
#include "service/config_values.h"
#include "service/host_port.h"
#include "service/server_config.h"
#include "tests/support/files.h"
#include "tests/weights/status_matchers.h"

namespace lorc::test {
namespace {

using testing::HasSubstr;

absl::StatusOr<CommandLine> Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "lorc-server");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
}

TEST(Flags, EveryFieldIsOneAndTheValueComesBack) {
  for (const ConfigField& field : ConfigFields()) {
    ServerConfig config;
    // What a field prints, it reads.
    EXPECT_OK(field.set(field.get(config), config)) << field.name;
  }
  const auto line = Parse({"--model", "m.gguf", "--kv-budget-bytes=1.5GiB", "--max-running", "3",
                           "--drain-timeout", "1500ms", "--weights", "int8", "--dry-run",
                           "--default-top-p", "0.5"});
  ASSERT_OK(line);
  EXPECT_EQ(line->config.model, "m.gguf");
  EXPECT_EQ(line->config.kv_budget_bytes, int64_t{3} << 29);
  EXPECT_EQ(line->config.max_running, 3);
  EXPECT_EQ(line->config.drain_timeout_ns, 1'500'000'000);
  EXPECT_EQ(line->config.weights, "int8");
  EXPECT_TRUE(line->config.dry_run);
  EXPECT_EQ(line->config.default_top_p, 0.5f);
}

TEST(Flags, HelpAndVersion) {
  auto line = Parse({"--help"});
  ASSERT_OK(line);
  for (const ConfigField& field : ConfigFields()) {
    EXPECT_THAT(line->message, HasSubstr(field.flag()));
  }
  line = Parse({"--version"});
  ASSERT_OK(line);
  EXPECT_THAT(line->message, HasSubstr("lorc-server"));
}

TEST(Flags, UnknownOnesNameTheNearest) {
  EXPECT_THAT(Parse({"--model", "m", "--max-runing", "3"}),
              IsInvalid({"--max-runing", "nearest", "--max-running"}));
  EXPECT_THAT(Parse({"--model", "m", "--kv-budget=3"}), IsInvalid({"--kv-budget-bytes"}));
  EXPECT_THAT(Parse({"--model", "m", "stray"}), IsInvalid({"\"stray\""}));
  EXPECT_THAT(Parse({"--model"}), IsInvalid({"--model"}));
}

TEST(Flags, RangesAreNamed) {
  const auto with = [](const char* flag, const char* value) {
    return Parse({"--model", "m", flag, value}).status();
  };
  EXPECT_THAT(with("--max-running", "0"), IsInvalid({"--max-running", "is 0", "1..4096"}));
  EXPECT_THAT(with("--max-running", "many"), IsInvalid({"--max-running", "whole number", "many"}));
  EXPECT_THAT(with("--max-running", "3.5"), IsInvalid({"--max-running"}));
  EXPECT_THAT(with("--max-running", "99999999999999999999"), IsInvalid({"--max-running"}));
  EXPECT_THAT(with("--kv-budget-bytes", "4GB"), IsInvalid({"--kv-budget-bytes", "4GB", "GiB"}));
  EXPECT_THAT(with("--kv-budget-bytes", "-1"), IsInvalid({"--kv-budget-bytes"}));
  EXPECT_THAT(with("--kv-budget-bytes", "9999999999TiB"), IsInvalid({"--kv-budget-bytes"}));
  EXPECT_THAT(with("--drain-timeout", "soon"), IsInvalid({"--drain-timeout", "soon"}));
  EXPECT_THAT(with("--drain-timeout", "-1s"), IsInvalid({"--drain-timeout"}));
  EXPECT_THAT(with("--weights", "int4"), IsInvalid({"--weights", "int4", "bf16"}));
  EXPECT_THAT(with("--backend", "tpu"), IsInvalid({"--backend", "tpu", "cpu|cuda"}));
  EXPECT_THAT(with("--block-tokens", "24"), IsInvalid({"--block-tokens", "16, 32 or 64"}));
  EXPECT_THAT(with("--max-sequence-tokens", "1"), IsInvalid({"--max-sequence-tokens"}));
  EXPECT_THAT(with("--default-top-p", "0"), IsInvalid({"--default-top-p", "(0, 1]"}));
  EXPECT_THAT(with("--default-min-p", "1"), IsInvalid({"--default-min-p", "[0, 1)"}));
  EXPECT_THAT(with("--default-temperature", "nan"), IsInvalid({"--default-temperature"}));
  EXPECT_THAT(with("--grpc-address", "50051"), IsInvalid({"--grpc-address", "HOST:PORT"}));
  EXPECT_THAT(with("--http-address", "localhost:70000"), IsInvalid({"--http-address"}));
  EXPECT_THAT(with("--log-level", "loud"), IsInvalid({"--log-level"}));
  EXPECT_THAT(with("--dry-run=maybe", "x"), IsInvalid({}));
}

TEST(Flags, WhatGoesTogether) {
  EXPECT_THAT(Parse({}), IsInvalid({"--model"}));
  EXPECT_THAT(Parse({"--model", "m", "--tls-cert", "c"}), IsInvalid({"--tls-key"}));
  EXPECT_THAT(Parse({"--model", "m", "--tls-client-ca", "c"}), IsInvalid({"--tls-cert"}));
}

TEST(Yaml, FlagsWin) {
  const TempFolder folder;
  const std::string path = folder.File("server.yaml");
  ASSERT_OK(WriteFile(path, "model: a.gguf\nmax_running: 5\nmax_waiting: 6\nlog_format: json\n"));
  const auto line = Parse({"--config", path.c_str(), "--max-running", "7"});
  ASSERT_OK(line);
  EXPECT_EQ(line->config.model, "a.gguf");
  EXPECT_EQ(line->config.max_running, 7);
  EXPECT_EQ(line->config.max_waiting, 6);
  EXPECT_EQ(line->config.log_format, "json");
}

TEST(Yaml, WrongFiles) {
  ServerConfig config;
  const auto apply = [&config](const char* yaml) { return ApplyYaml(yaml, "s.yaml", &config); };
  EXPECT_OK(apply(""));
  EXPECT_OK(apply("# nothing\n"));
  EXPECT_THAT(apply("model: a\nmax_runing: 3\n"),
              IsInvalid({"s.yaml:2", "\"max_runing\"", "\"max_running\""}));
  EXPECT_THAT(apply("max-running: 3\n"), IsInvalid({"max_running"}));
  EXPECT_THAT(apply("max_running: 3\nmax_running: 4\n"), IsInvalid({"s.yaml:2", "set twice"}));
  EXPECT_THAT(apply("max_running: [3]\n"), IsInvalid({"max_running", "a list"}));
  EXPECT_THAT(apply("max_running: {a: 3}\n"), IsInvalid({"max_running", "a mapping"}));
  EXPECT_THAT(apply("max_running:\n"), IsInvalid({"max_running", "none"}));
  EXPECT_THAT(apply("max_running: 0\n"), IsInvalid({"s.yaml:1", "max_running", "1..4096"}));
  EXPECT_THAT(apply("- a\n- b\n"), IsInvalid({"key: value"}));
  EXPECT_THAT(apply("a: b: c\n"), IsInvalid({"s.yaml:1", "not YAML"}));
  EXPECT_THAT(apply("[: {"), IsInvalid({"not YAML"}));
  EXPECT_THAT(apply("? [a]\n: 3\n"), IsInvalid({"plain word"}));
  EXPECT_EQ(Parse({"--config", "/no/such/file"}).status().code(), absl::StatusCode::kNotFound);
}

// The example has every key, each with its default.
TEST(Yaml, TheExampleIsTrue) {
  const std::string yaml = ReadFile(LORC_SOURCE_DIR "/docs/server.yaml");
  ASSERT_FALSE(yaml.empty());
  ServerConfig config;
  ASSERT_OK(ApplyYaml(yaml, "docs/server.yaml", &config));
  const ServerConfig defaults;
  for (const ConfigField& field : ConfigFields()) {
    EXPECT_THAT(yaml, HasSubstr("\n" + field.name + ": "));
    if (field.name == "model") continue;
    EXPECT_EQ(field.get(config), field.get(defaults)) << field.name;
  }
}

TEST(Values, Bytes) {
  EXPECT_EQ(*ParseBytes("0"), 0);
  EXPECT_EQ(*ParseBytes("1073741824"), 1 << 30);
  EXPECT_EQ(*ParseBytes("9007199254740993"), 9007199254740993);
  EXPECT_EQ(*ParseBytes("1KiB"), 1024);
  EXPECT_EQ(*ParseBytes("2 MiB"), 2 << 20);
  EXPECT_EQ(*ParseBytes("0.5GiB"), 1 << 29);
  EXPECT_EQ(*ParseBytes("3TiB"), int64_t{3} << 40);
  for (const char* wrong :
       {"", "GiB", "1gib", "1 KB", "1K", "inf", "nan", "1e30", "0x10", "1GiB "}) {
    EXPECT_FALSE(ParseBytes(wrong).ok()) << wrong;
  }
  EXPECT_EQ(FormatBytes(int64_t{3} << 40), "3TiB");
  EXPECT_EQ(FormatBytes(1536), "1536");
  EXPECT_EQ(FormatBytes(0), "0");
  EXPECT_EQ(RoundedBytes(1536), "1.50 KiB");
}

TEST(Values, Durations) {
  EXPECT_EQ(*ParseDuration("30"), 30'000'000'000);
  EXPECT_EQ(*ParseDuration("0.5"), 500'000'000);
  EXPECT_EQ(*ParseDuration("250ms"), 250'000'000);
  EXPECT_EQ(*ParseDuration("2m"), 120'000'000'000);
  EXPECT_EQ(*ParseDuration("1h"), 3'600'000'000'000);
  for (const char* wrong : {"", "s", "1d", "-1s", "1 s 2"}) {
    EXPECT_FALSE(ParseDuration(wrong).ok()) << wrong;
  }
  EXPECT_EQ(FormatDuration(1'500'000'000), "1500ms");
  EXPECT_EQ(FormatDuration(30'000'000'000), "30s");
}

TEST(Values, HostPort) {
  EXPECT_EQ(ParseHostPort("127.0.0.1:0")->ToString(), "127.0.0.1:0");
  EXPECT_EQ(ParseHostPort("[::1]:80")->host, "::1");
  EXPECT_EQ(ParseHostPort("[::1]:80")->ToString(), "[::1]:80");
  for (const char* wrong : {"", ":1", "host", "host:", "host:-1", "host:65536", "::1:80", "h:1x"}) {
    EXPECT_FALSE(ParseHostPort(wrong).ok()) << wrong;
  }
}

}  // namespace
}  // namespace lorc::test
