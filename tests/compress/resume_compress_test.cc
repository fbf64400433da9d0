// Compress with a file of statistics: interrupted, again with another size, another run's file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "runtime/compress/compress.h"
#include "runtime/compress/sample_text_file.h"
#include "runtime/compress/statistics_file.h"
#include "runtime/kv/plan_file.h"
#include "runtime/weights/safetensors_writer.h"
#include "tests/compress/tiny_fixture.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using testing::Contains;
using testing::Not;

constexpr char kWriting[] = "writing calibration text";
constexpr char kGathering[] = "gathering statistics";

class ResumeCompressTest : public testing::Test {
 protected:
  ResumeCompressTest() {
    request_.window = 64;
    request_.calibration_windows = 3;
    request_.gradient_windows = 2;
    request_.measure_windows = 2;
    request_.weight_type = DType::kF32;
    request_.options.exact_window = 16;
    request_.options.segment_width = 8;
    request_.options.bytes_per_token = 100;
  }

  // Nothing where it fails, which `error` tells. Stages that ran are in `stages_`.
  std::optional<KvPlan> Make(const CompressRequest& request, absl::Status* error = nullptr) {
    stages_.clear();
    auto result = Compress(*tiny_.backend, *tiny_.checkpoint, *tiny_.tokenizer, request,
                           [this](const std::string& name, double) { stages_.insert(name); });
    if (error != nullptr) *error = result.status();
    if (!result.ok()) return std::nullopt;
    return std::move(result->plan);
  }

  std::string FileOf(const KvPlan& plan) const {
    const std::string path = tiny_.folder.File("plan");
    EXPECT_OK(WritePlan(plan, path));
    return test::ReadFile(path);
  }

  CompressRequest Kept() const {
    CompressRequest request = request_;
    request.statistics_path = path_;
    return request;
  }

  WrittenTextSource TextSource() const {
    return {tiny_.checkpoint->Fingerprint(), "f32", 5, 64, tiny_.config().vocabulary_size, 0};
  }

  test::TinyFixture tiny_;
  CompressRequest request_;
  const std::string path_ = tiny_.folder.File("statistics");
  std::set<std::string> stages_;
};

TEST_F(ResumeCompressTest, AnotherSizeUsesThemAgain) {
  const auto first = Make(request_);
  const auto kept = Make(Kept());
  ASSERT_TRUE(first.has_value() && kept.has_value());
  EXPECT_EQ(FileOf(*kept), FileOf(*first));
  EXPECT_THAT(stages_, Contains(kWriting));
  request_.options.bytes_per_token = 80;
  const auto second = Make(request_);
  const auto again = Make(Kept());
  ASSERT_TRUE(second.has_value() && again.has_value());
  EXPECT_THAT(stages_, Not(Contains(kWriting)));
  EXPECT_THAT(stages_, Not(Contains(kGathering)));
  EXPECT_EQ(FileOf(*again), FileOf(*second));
  EXPECT_NE(FileOf(*again), FileOf(*first));
}

TEST_F(ResumeCompressTest, AnInterruptedRunGoesOn) {
  const auto expected = Make(Kept());
  ASSERT_TRUE(expected.has_value());
  // As it would be after the first of three windows, had each been a batch.
  const auto text = ReadWrittenText(TextSource(), path_ + ".text");
  ASSERT_OK(text);
  auto split = SplitWindows(*text, 64, 3, 2);
  ASSERT_OK(split);
  split->calibration = RepeatBeginnings(std::move(split->calibration));
  const auto whole = ReadStatistics(path_, tiny_.config());
  ASSERT_OK(whole);
  ASSERT_EQ(whole->source.windows_hash, HashWindows(split->calibration));
  std::filesystem::remove(path_);
  StatisticsOptions options;
  options.exact_window = 16;
  options.gradient_windows = 2;
  options.batch_bytes = 1;
  options.resume_path = tiny_.folder.File("batches");
  ASSERT_OK(CollectStatistics(*tiny_.checkpoint, split->calibration, options, [&](double) {
    const auto done = ReadStatistics(options.resume_path, tiny_.config());
    if (!done.ok() || done->windows_done != 1) return;
    EXPECT_OK(test::WriteFile(path_, test::ReadFile(options.resume_path)));
  }));
  ASSERT_EQ(ReadStatistics(path_, tiny_.config())->windows_done, 1);
  const auto resumed = Make(Kept());
  ASSERT_TRUE(resumed.has_value());
  EXPECT_THAT(stages_, Contains(kGathering));
  EXPECT_EQ(FileOf(*resumed), FileOf(*expected));
  EXPECT_EQ(ReadStatistics(path_, tiny_.config())->windows_done, 3);
}

TEST_F(ResumeCompressTest, RefusesAnotherRunsFiles) {
  ASSERT_TRUE(Make(Kept()).has_value());
  const std::string before = test::ReadFile(path_);
  const auto refused = [&](const CompressRequest& request, const std::string& what) {
    absl::Status error;
    EXPECT_FALSE(Make(request, &error).has_value());
    EXPECT_THAT(error, test::FailsWith(absl::StatusCode::kFailedPrecondition,
                                       std::vector<std::string>{path_, what, "remove the file"}));
    EXPECT_THAT(stages_, Not(Contains(kGathering)));
  };
  const auto changed = [&](auto member, auto value) {
    CompressRequest request = Kept();
    request.*member = value;
    return request;
  };
  refused(changed(&CompressRequest::seed, uint64_t{1}), "from seed 0");
  refused(changed(&CompressRequest::window, 48), "windows of 64 tokens");
  refused(changed(&CompressRequest::measure_windows, 3), "of 5 windows instead of 6");
  refused(changed(&CompressRequest::weight_type, DType::kBf16), "weights in \"f32\"");
  refused(changed(&CompressRequest::gradient_windows, 1), "2 windows with gradients");
  refused(changed(&CompressRequest::text, std::string(600, 'a')), "another text");
  CompressRequest other = Kept();
  other.options.exact_window = 32;
  refused(other, "exact window 16");
  EXPECT_EQ(test::ReadFile(path_), before);
}

TEST_F(ResumeCompressTest, RefusesDamagedTexts) {
  ASSERT_TRUE(Make(Kept()).has_value());
  const std::string text = path_ + ".text";
  const std::string bytes = test::ReadFile(text);
  const auto refused = [&](const std::string& what) {
    EXPECT_THAT(ReadWrittenText(TextSource(), text).status(), test::IsInvalid({text, what}));
  };
  for (size_t size = 0; size < bytes.size(); size += bytes.size() / 40) {
    ASSERT_OK(test::WriteFile(text, bytes.substr(0, size)));
    refused("");
  }
  std::string strange = bytes;
  strange.back() = 1;  // the last token is larger than 2^24
  ASSERT_OK(test::WriteFile(text, strange));
  refused("is not in the vocabulary of");
  ASSERT_OK(WriteSafetensors(text, {}, {}));
  refused("not a text that a model wrote");
  const auto header = Safetensors::Parse(std::as_bytes(std::span(bytes)), "text")->metadata();
  ASSERT_OK(WriteSafetensors(text, {}, header));
  refused("is missing");
}

TEST_F(ResumeCompressTest, RefusesAFileThatItDoesNotNeed) {
  request_.options.method = "lorc";
  request_.options.bytes_per_token.reset();
  absl::Status error;
  EXPECT_FALSE(Make(Kept(), &error).has_value());
  EXPECT_THAT(error, test::IsInvalid({"--statistics", "method lorc"}));
}

}  // namespace
}  // namespace lorc
