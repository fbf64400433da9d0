// How a text becomes windows: how long and how many, and how they end.
#include "runtime/compress/calibration_text.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "runtime/compress/compress.h"
#include "tests/compress/tiny_fixture.h"

namespace lorc {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

TEST(CalibrationTextTest, WindowsEndAsTheyBegin) {
  TokenWindows windows;
  for (const int length : {64, 50, 3, 0}) {
    std::vector<TokenId>& window = windows.emplace_back(length);
    std::iota(window.begin(), window.end(), 100 * length);
  }
  const TokenWindows repeated = RepeatBeginnings(windows);
  ASSERT_EQ(repeated.size(), windows.size());
  for (size_t i = 0; i < windows.size(); ++i) {
    const int64_t length = std::ssize(windows[i]);
    const int64_t passage = length * 5 / 16;
    ASSERT_EQ(std::ssize(repeated[i]), length);
    for (int64_t t = 0; t < length; ++t) {
      const int64_t said = t < length - passage ? t : t - (length - passage);
      EXPECT_EQ(repeated[i][t], windows[i][said]) << length << " tokens, token " << t;
    }
  }
}

TEST(CalibrationTextTest, TextsAreJoinedWithoutTheTokensThatStartThem) {
  const TokenWindows texts = {{0, 1, 2, 3}, {0, 4, 5, 6}, {0, 7, 8, 9}};
  EXPECT_EQ(JoinTexts(texts, 4), (TokenWindows{{1, 2, 3, 4}, {5, 6, 7, 8}}));
}

TEST(CalibrationTextTest, LongWindowsCountForSeveral) {
  EXPECT_EQ(WindowsInPlaceOf(15, 64), 15);
  EXPECT_EQ(WindowsInPlaceOf(15, 1024), 15);
  EXPECT_EQ(WindowsInPlaceOf(15, 2048), 8);
  EXPECT_EQ(WindowsInPlaceOf(15, 4096), 4);
  EXPECT_EQ(WindowsInPlaceOf(8, 4096), 2);
  EXPECT_EQ(WindowsInPlaceOf(8, 8192), 2);
  EXPECT_EQ(WindowsInPlaceOf(1, 8192), 1);
  EXPECT_EQ(WindowsInPlaceOf(1 << 20, 1025), (1 << 20) - 1023);
}

TEST(CalibrationTextTest, WindowsAreAsLongAsTextAndModelAllow) {
  EXPECT_EQ(LongestWindow(kUnlimited, 15, 8192), 4096);
  EXPECT_EQ(LongestWindow(6 * 4096, 15, 4096), 4096);
  EXPECT_EQ(LongestWindow(6 * 4096 - 1, 15, 8192), 2048);
  EXPECT_EQ(LongestWindow(kUnlimited, 15, 4095), 2048);
  EXPECT_EQ(LongestWindow(10 * 2048, 15, 8192), 2048);
  EXPECT_EQ(LongestWindow(10 * 2048 - 1, 15, 8192), 1024);
  EXPECT_EQ(LongestWindow(0, 15, 8192), 1024);
  EXPECT_EQ(LongestWindow(kUnlimited, 15, 512), 512);
  EXPECT_EQ(LongestWindow(4 * 4096, 8, 8192), 4096);
}

TEST(CalibrationTextTest, OtherMethodsHaveShortWindows) {
  CompressRequest loss;
  ChooseWindows(kUnlimited, 8192, &loss);
  EXPECT_EQ(loss.window, 4096);
  EXPECT_EQ(loss.calibration_windows, 4);
  EXPECT_EQ(loss.gradient_windows, 2);
  EXPECT_EQ(loss.measure_windows, 2);
  for (const char* method : {"kv-core", "kq-svd", "full"}) {
    CompressRequest request;
    request.options.method = method;
    ChooseWindows(kUnlimited, 8192, &request);
    EXPECT_EQ(request.window, 1024) << method;
    EXPECT_EQ(request.calibration_windows, 15) << method;
  }
  CompressRequest given;
  given.window = 256;
  ChooseWindows(kUnlimited, 8192, &given);
  EXPECT_EQ(given.window, 256);
  EXPECT_EQ(given.measure_windows, 8);
}

TEST(CalibrationTextTest, PlansSayHowTheyWereCalibrated) {
  const test::TinyFixture tiny;
  CompressRequest request;
  request.calibration_windows = 2;
  request.gradient_windows = 1;
  request.measure_windows = 1;
  request.weight_type = DType::kF32;
  const auto calibration = [&] {
    const auto made = Compress(*tiny.backend, *tiny.checkpoint, *tiny.tokenizer, request, nullptr);
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? made->plan.options.at("calibration") : "";
  };
  // The model's context is 512 tokens.
  EXPECT_EQ(calibration(),
            "2 windows of 512 tokens that end as they begin, written by the model, seed 0");
  request.options.method = "kv-core";
  EXPECT_EQ(calibration(), "2 windows of 512 tokens, written by the model, seed 0");
}

}  // namespace
}  // namespace lorc
