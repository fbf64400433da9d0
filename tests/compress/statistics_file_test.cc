#include "runtime/compress/statistics_file.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <nlohmann/json.hpp>

#include "runtime/weights/safetensors.h"
#include "runtime/weights/safetensors_writer.h"
#include "tests/support/files.h"
#include "tests/support/tiny_model.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using nlohmann::json;

class StatisticsFileTest : public testing::Test {
 protected:
  StatisticsFileTest() {
    progress_.source = {"abc", "def", 5, 256, 16, 64, 1, ~uint64_t{0}};
    progress_.windows_done = 3;
    Statistics& statistics = progress_.statistics;
    statistics.num_tokens = int64_t{1} << 40;
    statistics.num_far_tokens = 22;
    statistics.num_gradient_tokens = 11;
    statistics.layers = EmptyLayerStatistics(config(), true);
    statistics.layers[1].far.values[5] = 1.0 / 3;
    statistics.layers[0].gradients.anchored_keys[9] = -1e-300;
    statistics.layers[0].inputs[1] = 1e300;
  }

  const ModelConfig& config() const { return model_.config(); }
  std::string Path() const { return folder_.File("statistics.safetensors"); }

  // The file with its header changed by `edit`.
  absl::StatusOr<StatisticsProgress> ReadEdited(const std::function<void(json&)>& edit) {
    EXPECT_OK(WriteStatistics(progress_, Path()));
    const auto file = Safetensors::Open(Path());
    EXPECT_OK(file);
    json header = json::parse(file->metadata().at("lorc_statistics"));
    edit(header);
    const std::string edited = folder_.File("edited.safetensors");
    EXPECT_OK(WriteSafetensors(edited, file->tensors(), {{"lorc_statistics", header.dump()}}));
    return ReadStatistics(edited, config());
  }

  const test::TinyModel model_;
  const test::TempFolder folder_;
  StatisticsProgress progress_;
};

TEST_F(StatisticsFileTest, WhatIsWrittenIsRead) {
  ASSERT_OK(WriteStatistics(progress_, Path()));
  const auto read = ReadStatistics(Path(), config());
  ASSERT_OK(read);
  EXPECT_TRUE(read->source == progress_.source);
  EXPECT_EQ(read->windows_done, 3);
  EXPECT_EQ(read->statistics.anchor, 256);
  EXPECT_EQ(read->statistics.exact_prefix, 16);
  EXPECT_EQ(read->statistics.exact_window, 64);
  EXPECT_EQ(read->statistics.num_tokens, int64_t{1} << 40);
  EXPECT_EQ(read->statistics.num_far_tokens, 22);
  EXPECT_EQ(read->statistics.num_gradient_tokens, 11);
  const auto& layers = progress_.statistics.layers;
  ASSERT_EQ(read->statistics.layers.size(), layers.size());
  EXPECT_EQ(read->statistics.layers[1].far.values, layers[1].far.values);
  EXPECT_EQ(read->statistics.layers[0].gradients.anchored_keys, layers[0].gradients.anchored_keys);
  EXPECT_EQ(read->statistics.layers[0].inputs, layers[0].inputs);
}

TEST_F(StatisticsFileTest, RefusesWhatItDoesNotUnderstand) {
  const auto expect_refused = [this](const std::function<void(json&)>& edit,
                                     const std::string& message) {
    EXPECT_THAT(ReadEdited(edit), test::IsInvalid({"edited.safetensors", message}));
  };
  EXPECT_OK(ReadEdited([](json&) {}));
  expect_refused([](json& h) { h["format"] = "lorc-kv-plan"; }, "expected lorc-statistics");
  EXPECT_THAT(ReadEdited([](json& h) { h["version"] = 2; }), test::IsUnimplemented({"version 2"}));
  expect_refused([](json& h) { h.erase("anchor"); }, "anchor");
  expect_refused([](json& h) { h["exact_prefix"] = -16; }, "exact_prefix");
  expect_refused([](json& h) { h["exact_window"] = "wide"; }, "exact_window");
  expect_refused([](json& h) { h["windows_done"] = 6; }, "windows_done");
  expect_refused([](json& h) { h["seed"] = "-1"; }, "seed");
  expect_refused([](json& h) { h["num_tokens"] = "-1"; }, "num_tokens");
  expect_refused([](json& h) { h["num_tokens"] = 7; }, "num_tokens");
  // Tensors of gradients that the header does not explain.
  expect_refused([](json& h) { h["gradient_windows"] = 0; }, "tensors");
}

TEST_F(StatisticsFileTest, RefusesSumsThatAreNotTheModels) {
  ASSERT_OK(WriteStatistics(progress_, Path()));
  test::TinyModelOptions options;
  options.num_layers = 3;
  EXPECT_THAT(ReadStatistics(Path(), test::TinyModel(options).config()),
              test::IsInvalid({Path(), "layers.2", "missing"}));
  options.num_layers = 2;
  options.num_kv_heads = 1;
  EXPECT_THAT(ReadStatistics(Path(), test::TinyModel(options).config()),
              test::IsInvalid({Path(), "layers.0.all.unrotated_keys", "expected 256 F64"}));
  progress_.statistics.layers[1].queries[3] = std::numeric_limits<double>::quiet_NaN();
  ASSERT_OK(WriteStatistics(progress_, Path()));
  EXPECT_THAT(ReadStatistics(Path(), config()),
              test::IsInvalid({Path(), "layers.1.queries", "finite"}));
}

TEST_F(StatisticsFileTest, OtherFilesAreNotStatistics) {
  EXPECT_EQ(ReadStatistics(folder_.File("none"), config()).status().code(),
            absl::StatusCode::kNotFound);
  ASSERT_OK(WriteSafetensors(Path(), {}, {}));
  EXPECT_THAT(ReadStatistics(Path(), config()), test::IsInvalid({"not a file of statistics"}));
}

// Any bytes give statistics or an error.
TEST_F(StatisticsFileTest, DamagedFilesGiveErrors) {
  ASSERT_OK(WriteStatistics(progress_, Path()));
  const std::string bytes = test::ReadFile(Path());
  const std::string damaged = folder_.File("damaged");
  for (size_t length = 0; length < bytes.size(); length += bytes.size() / 50) {
    ASSERT_OK(test::WriteFile(damaged, bytes.substr(0, length)));
    EXPECT_FALSE(ReadStatistics(damaged, config()).ok()) << length;
  }
  // Of the header; any numbers may stand in the sums.
  std::mt19937 random(7);
  int refused = 0;
  for (int round = 0; round < 300; ++round) {
    std::string changed = bytes;
    for (int i = 0; i < 3; ++i) changed[random() % 4000] = static_cast<char>(random());
    ASSERT_OK(test::WriteFile(damaged, changed));
    if (!ReadStatistics(damaged, config()).ok()) ++refused;
  }
  EXPECT_GT(refused, 250);
}

TEST(HashWindowsTest, SeesEveryTokenAndWhereWindowsEnd) {
  EXPECT_EQ(HashWindows({{1, 2}, {3}}), HashWindows({{1, 2}, {3}}));
  EXPECT_NE(HashWindows({{1, 2}, {3}}), HashWindows({{1}, {2, 3}}));
  EXPECT_NE(HashWindows({{1, 2}, {3}}), HashWindows({{1, 2}, {4}}));
  EXPECT_NE(HashWindows({}), HashWindows({{}}));
}

}  // namespace
}  // namespace lorc
