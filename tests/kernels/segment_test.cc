// One segment of every type: bytes, what is read of what was written, and its error.

#include "kernels/ops/segment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "kernels/cpu/cache_blocks.h"
#include "tests/kernels/kernel_test_util.h"

namespace lorc {
namespace {

constexpr int64_t kBlock = 32;
constexpr KeyOrValue kBoth[] = {KeyOrValue::kKey, KeyOrValue::kValue};

CacheTensor OneSegment(SegmentType type, int32_t width) { return {1, 1, width, {{type, width}}}; }

// A block of one segment, all bits set at first.
struct Block {
  Block(SegmentType type, int32_t width)
      : tensor(OneSegment(type, width)),
        bytes(tensor.BytesPerToken() * kBlock + kPoolSlackBytes, std::byte{0xff}) {}

  void Write(KeyOrValue which, int64_t slot, const float* values) {
    WriteToken(tensor, which, kBlock, slot, values, bytes.data());
  }
  std::vector<float> Read(KeyOrValue which, int64_t num_tokens) const {
    std::vector<float> values(num_tokens * tensor.rank);
    ReadTokens(tensor, which, kBlock, 0, num_tokens, bytes.data(), values.data(), tensor.rank);
    return values;
  }

  CacheTensor tensor;
  std::vector<std::byte> bytes;
};

TEST(SegmentTest, NamesAndBytes) {
  const auto bytes = [](const char* name, int32_t width) {
    return CacheSegment{*SegmentTypeFromName(name), width}.BytesPerToken();
  };
  EXPECT_EQ(bytes("f32", 24), 96);
  EXPECT_EQ(bytes("bf16", 24), 48);
  EXPECT_EQ(bytes("fp8", 24), 24);
  EXPECT_EQ(bytes("int8", 24), 24 + 4);
  EXPECT_EQ(bytes("int4", 24), 12 + 4);
  EXPECT_EQ(bytes("int3", 24), 9 + 4);
  EXPECT_EQ(bytes("int2", 24), 6 + 4);
  EXPECT_EQ(bytes("int3", kMaxSegmentWidth), 3 * kMaxSegmentWidth / 8 + 4);
  for (const SegmentType type : kSegmentTypes) {
    EXPECT_EQ(SegmentTypeFromName(Name(type)), type);
    EXPECT_NE(std::string(kSegmentTypeNames).find(Name(type)), std::string::npos);
  }
  for (const char* name : {"", "int5", "f16", "INT4", "int4 "}) {
    EXPECT_FALSE(SegmentTypeFromName(name).has_value()) << name;
  }
}

// Tokens that share bytes leave each other alone: any order of writing gives the same, over
// whatever was there before.
TEST(SegmentTest, TokensComeInAnyOrder) {
  ForEachInstructionSet([](const std::string& target) {
    for (const SegmentType type : kSegmentTypes) {
      for (const int32_t width : {8, 24, 64}) {
        for (const KeyOrValue which : kBoth) {
          SCOPED_TRACE(target + " " + Name(type) + " " + std::to_string(width));
          const auto values = RandomNormal(kBlock * width, width);
          Block rising(type, width), other(type, width), alone(type, width);
          for (int64_t t = 0; t < kBlock; ++t) rising.Write(which, t, values.data() + t * width);
          // Every slot twice, the first time with another token's numbers.
          for (int64_t t = 0; t < kBlock; ++t) {
            other.Write(which, (t * 7 + 1) % kBlock, values.data() + t * width);
          }
          for (int64_t t = 0; t < kBlock; ++t) {
            const int64_t slot = (t * 5 + 3) % kBlock;
            other.Write(which, slot, values.data() + slot * width);
          }
          EXPECT_EQ(rising.bytes, other.bytes);
          const auto all = rising.Read(which, kBlock);
          for (const int64_t count : {1, 7, 17}) {
            const auto some = rising.Read(which, count);
            EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin()));
          }
          // And each as it is without the others.
          alone.Write(which, 0, values.data() + 5 * width);
          const auto read = alone.Read(which, 1);
          EXPECT_TRUE(std::equal(read.begin(), read.end(), all.begin() + 5 * width));
        }
      }
    }
  });
}

// Numbers that a type holds exactly come back, each in its place.
TEST(SegmentTest, CodesComeBackInTheirPlaces) {
  ForEachInstructionSet([](const std::string& target) {
    for (const SegmentType type : kSegmentTypes) {
      if (!HasScale(type)) continue;
      for (const KeyOrValue which : kBoth) {
        SCOPED_TRACE(target + " " + Name(type));
        constexpr int32_t kWidth = 24;
        const int32_t top = MaxCode(type);
        Block block(type, kWidth);
        std::vector<float> values;
        for (int64_t t = 0; t < kBlock; ++t) {
          for (int32_t i = 0; i < kWidth; ++i) {
            const int64_t code = i == 0 ? 0 : i == 1 ? top : (t * 31 + i * 17 + t * i) % (top + 1);
            values.push_back(-3.0f + 0.5f * static_cast<float>(code));
          }
          block.Write(which, t, values.data() + t * kWidth);
        }
        EXPECT_EQ(block.Read(which, kBlock), values);
      }
    }
  });
}

TEST(SegmentTest, Fp8KeepsWhatItHolds) {
  std::vector<float> held;
  for (int code = 0; code < 256; ++code) held.push_back(Fp8ToF32(static_cast<fp8_t>(code)));
  held[0x7f] = held[0xff] = 448;  // NaN
  ForEachInstructionSet([&](const std::string& target) {
    for (const KeyOrValue which : kBoth) {
      SCOPED_TRACE(target);
      Block block(SegmentType::kFp8, 256);
      block.Write(which, 0, held.data());
      EXPECT_EQ(block.Read(which, 1), held);
      std::vector<float> beyond(256, 1e9f);
      beyond[3] = -449.0f;
      beyond[9] = NAN;
      beyond[10] = INFINITY;
      block.Write(which, 0, beyond.data());
      const auto read = block.Read(which, 1);
      EXPECT_EQ(read[0], 448);
      EXPECT_EQ(read[3], -448);
      EXPECT_TRUE(std::isnan(read[9]));
      EXPECT_TRUE(std::isnan(read[10]));
    }
  });
}

// What is not finite, wherever it stands, makes all of the segment's numbers NaN; what f16 cannot
// scale does as well.
TEST(SegmentTest, NotFiniteStaysVisible) {
  constexpr int32_t kWidth = 32;
  ForEachInstructionSet([](const std::string& target) {
    for (const SegmentType type : kSegmentTypes) {
      if (!HasScale(type)) continue;
      for (const KeyOrValue which : kBoth) {
        for (const float bad : {NAN, INFINITY, -INFINITY, -1e6f, 3e7f}) {
          for (int i = 0; i < kWidth; ++i) {
            Block block(type, kWidth);
            std::vector<float> values(kWidth, 0.25f);
            values[i] = bad;
            block.Write(which, 0, values.data());
            for (const float value : block.Read(which, 1)) {
              ASSERT_TRUE(std::isnan(value))
                  << target << " " << Name(type) << " " << bad << " " << i;
            }
          }
        }
      }
    }
  });
}

// Equal numbers, far from zero or at it, and one that stands out: never worse than half a step of
// the whole range.
TEST(SegmentTest, NoSegmentIsWorseThanItsRange) {
  constexpr int32_t kWidth = 32;
  std::vector<std::vector<float>> cases = {std::vector<float>(kWidth, 0.0f),
                                           std::vector<float>(kWidth, 1000.0f)};
  cases.push_back(RandomNormal(kWidth, 1));
  cases.back()[17] = 40.0f;
  cases.push_back(RandomNormal(kWidth, 2, 1e-7f));
  cases.push_back(RandomNormal(kWidth, 3));
  for (int i = 0; i < kWidth; ++i) cases.back()[i] = i % 2 == 0 ? -1.0f : 1.0f;
  for (const SegmentType type : kSegmentTypes) {
    if (!HasScale(type)) continue;
    for (const auto& values : cases) {
      const auto [low, high] = std::minmax_element(values.begin(), values.end());
      const double range = double{*high} - *low;
      Block block(type, kWidth);
      block.Write(KeyOrValue::kKey, 0, values.data());
      const auto read = block.Read(KeyOrValue::kKey, 1);
      double squares = 0;
      for (int i = 0; i < kWidth; ++i) squares += std::pow(double{read[i]} - values[i], 2);
      // The least scale, and the roundings of scale and minimum to f16.
      EXPECT_LE(std::sqrt(squares / kWidth), 0.5 * std::max(range / MaxCode(type), 0x1p-24) +
                                                 0x1p-11 * (std::abs(*low) + range) + 0x1p-25)
          << Name(type) << " " << values[0];
    }
  }
}

// By simulation: the mean over segments of 32 normal numbers, within four standard errors and the
// digits that the constants have.
TEST(SegmentTest, DistortionIsWhatItSays) {
  constexpr int32_t kWidth = 32;
  constexpr int64_t kSegments = 100'000;
  const auto values = RandomNormal(kSegments * kWidth, 5);
  for (const SegmentType type : kSegmentTypes) {
    Block block(type, kWidth);
    double sum = 0, squares = 0;
    for (int64_t s = 0; s < kSegments; ++s) {
      const float* written = values.data() + s * kWidth;
      block.Write(KeyOrValue::kKey, 0, written);
      const auto read = block.Read(KeyOrValue::kKey, 1);
      double error = 0;
      for (int32_t i = 0; i < kWidth; ++i) {
        error += std::pow(double{read[i]} - written[i], 2) / kWidth;
      }
      sum += error;
      squares += error * error;
    }
    const double mean = sum / kSegments;
    const double deviation = std::sqrt((squares / kSegments - mean * mean) / kSegments);
    const double stated = QuantiserDistortion(type);
    EXPECT_NEAR(mean, stated, 4 * deviation + 0.01 * stated) << Name(type);
    RecordProperty(std::string("distortion_") + Name(type), testing::PrintToString(mean));
  }
}

}  // namespace
}  // namespace lorc
