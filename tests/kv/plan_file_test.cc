#include "runtime/kv/plan_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <nlohmann/json.hpp>

#include "runtime/weights/safetensors_writer.h"
#include "tests/kv/plan_fixture.h"
#include "tests/support/files.h"
#include "tests/support/tiny_model.h"

namespace lorc {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr char kMetadataKey[] = "lorc_kv_plan";

class PlanFileTest : public testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }

  // The small plan's file with its header changed by `edit`.
  absl::StatusOr<KvPlan> ReadEdited(const std::function<void(json&)>& edit) {
    const std::string path = Path("plan.safetensors");
    EXPECT_TRUE(WritePlan(test::SmallPlan(), path).ok());
    const auto file = Safetensors::Open(path);
    EXPECT_TRUE(file.ok());
    json header = json::parse(file->metadata().at(kMetadataKey));
    edit(header);
    const std::string edited = Path("edited.safetensors");
    EXPECT_TRUE(WriteSafetensors(edited, file->tensors(), {{kMetadataKey, header.dump()}}).ok());
    return ReadPlan(edited);
  }

  void ExpectRefused(const std::function<void(json&)>& edit, const std::string& message) {
    const auto plan = ReadEdited(edit);
    ASSERT_FALSE(plan.ok()) << message;
    EXPECT_THAT(std::string(plan.status().message()), HasSubstr(message));
    EXPECT_THAT(std::string(plan.status().message()), HasSubstr("edited.safetensors"));
  }

  test::TempFolder folder_;
};

TEST_F(PlanFileTest, WhatIsWrittenIsRead) {
  const KvPlan plan = test::SmallPlan();
  ASSERT_TRUE(WritePlan(plan, Path("plan.safetensors")).ok());
  const auto read = ReadPlan(Path("plan.safetensors"));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(PlanHeaderJson(*read), PlanHeaderJson(plan));
  ASSERT_EQ(read->layers.size(), plan.layers.size());
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    EXPECT_EQ(read->layers[i].key.encoder, plan.layers[i].key.encoder);
    EXPECT_EQ(read->layers[i].key.decoder, plan.layers[i].key.decoder);
    EXPECT_EQ(read->layers[i].value.encoder, plan.layers[i].value.encoder);
    EXPECT_EQ(read->layers[i].key.segments, plan.layers[i].key.segments);
  }
  EXPECT_EQ(read->options, plan.options);
  EXPECT_EQ(read->measured.perplexity, 10.75);
  const test::TinyModel model;
  EXPECT_TRUE(read->Validate(model.config()).ok()) << read->Validate(model.config());
}

TEST_F(PlanFileTest, SegmentsOfEveryTypeAreRead) {
  const KvPlan plan = test::MixedPlan();
  ASSERT_TRUE(WritePlan(plan, Path("plan.safetensors")).ok());
  const auto read = ReadPlan(Path("plan.safetensors"));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(PlanHeaderJson(*read), PlanHeaderJson(plan));
  EXPECT_EQ(read->layers[0].key.segments, plan.layers[0].key.segments);
  EXPECT_EQ(read->layers[1].value.segments, plan.layers[1].value.segments);
  EXPECT_TRUE(read->Validate(test::TinyModel().config()).ok());
  const json header = json::parse(PlanHeaderJson(*read));
  EXPECT_EQ(header["layers"][0]["key"]["segments"][2], json({{"type", "int2"}, {"width", 8}}));
  EXPECT_EQ(header["layers"][0]["key"]["bytes_per_token"], (8 + 4) + (4 + 4) + (2 + 4));
  EXPECT_EQ(header["layers"][0]["value"]["bytes_per_token"], (3 + 4) + 8);
  EXPECT_EQ(header["layers"][1]["key"]["bytes_per_token"], 2 * (3 + 4));
  EXPECT_EQ(header["layers"][1]["value"]["bytes_per_token"], 2 * (8 + 4));
}

TEST_F(PlanFileTest, HeaderIsTheDocumentedOne) {
  const json header = json::parse(PlanHeaderJson(test::SmallPlan()));
  EXPECT_EQ(header["format"], "lorc-kv-plan");
  EXPECT_EQ(header["version"], 1);
  EXPECT_EQ(header["anchor"], 64);
  // int8: 24 numbers and 2 scales of 4 bytes, 16 and 2; f32: 2 x 8 numbers; bf16: 32 numbers.
  EXPECT_EQ(header["bytes_per_token"], (24 + 8) + (16 + 8) + 2 * 8 * 4 + 2 * 32);
  const json key = header["layers"][0]["key"];
  EXPECT_EQ(key["layout"], "direct");
  EXPECT_EQ(key["segments"][1], json({{"type", "int8"}, {"width", 16}}));
  EXPECT_EQ(key["facts"]["kept_energy"], 0.875);
}

TEST_F(PlanFileTest, RefusesWhatItDoesNotUnderstand) {
  ExpectRefused([](json& h) { h["format"] = "other"; }, "expected lorc-kv-plan");
  ExpectRefused([](json& h) { h["version"] = 3; }, "version 3");
  ExpectRefused([](json& h) { h["layers"] = 5; }, "layers");
  ExpectRefused([](json& h) { h["layers"] = json::array(); }, "layers");
  ExpectRefused([](json& h) { h["exact_prefix"] = -16; }, "exact_prefix");
  ExpectRefused([](json& h) { h["anchor"] = 1e9; }, "anchor");
  ExpectRefused([](json& h) { h.erase("base"); }, "base");
  ExpectRefused([](json& h) { h["options"]["x"] = 1; }, "options");
  ExpectRefused([](json& h) { h["layers"][0]["key"]["layout"] = "sideways"; }, "sideways");
  ExpectRefused([](json& h) { h["layers"][0].erase("value"); }, "value");
  ExpectRefused([](json& h) { h["layers"][0]["key"]["rank"] = 0; }, "rank");
  ExpectRefused([](json& h) { h["layers"][0]["key"]["rank"] = 16; }, "encoder");
  ExpectRefused([](json& h) { h["layers"][0]["key"]["groups"] = 2; }, "encoder");
  ExpectRefused([](json& h) { h["layers"][0]["key"]["segments"] = "all"; }, "segments");
  ExpectRefused([](json& h) { h["layers"][0]["key"]["segments"][0]["type"] = "int5"; },
                "int4, int3 or int2");
  ExpectRefused([](json& h) { h["layers"][0]["key"]["segments"][0]["width"] = 100000; }, "width");
  ExpectRefused([](json& h) { h["layers"].erase(1); }, "tensors");
  ExpectRefused([](json& h) { h["measured"] = {1}; }, "measured");
}

TEST_F(PlanFileTest, OtherFilesAreNotPlans) {
  EXPECT_EQ(ReadPlan(Path("missing")).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(WriteSafetensors(Path("weights.safetensors"), {}, {}).ok());
  EXPECT_THAT(std::string(ReadPlan(Path("weights.safetensors")).status().message()),
              HasSubstr("not a KV plan"));
}

TEST_F(PlanFileTest, AFailedWriteLeavesNothing) {
  EXPECT_FALSE(WritePlan(test::SmallPlan(), Path("no/such/folder/plan.safetensors")).ok());
}

// Any bytes give a plan or an error: cut at every length, and with random bytes changed.
TEST_F(PlanFileTest, DamagedFilesGiveErrors) {
  ASSERT_TRUE(WritePlan(test::MixedPlan(), Path("plan.safetensors")).ok());
  std::ifstream file(Path("plan.safetensors"), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto parse = [](const std::string& content) -> absl::StatusOr<KvPlan> {
    const auto parsed = Safetensors::Parse(std::as_bytes(std::span(content)), "bytes");
    if (!parsed.ok()) return parsed.status();
    return ParsePlan(*parsed);
  };
  ASSERT_TRUE(parse(bytes).ok());
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(parse(bytes.substr(0, length)).ok()) << length;
  }
  const test::TinyModel model;
  std::mt19937 random(7);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = bytes;
    for (int i = 0; i < 3; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
    const auto plan = parse(damaged);
    if (!plan.ok() || !plan->Validate(model.config()).ok()) ++refused;
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace lorc
