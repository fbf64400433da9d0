#include "runtime/compress/bit_allocation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace lorc {
namespace {

TensorGains Falling(double first, double ratio, int32_t width, int32_t groups = 1) {
  TensorGains tensor;
  tensor.groups = groups;
  for (int32_t i = 0; i < width; ++i) tensor.gains.push_back(first * std::pow(ratio, i));
  return tensor;
}

std::vector<TensorGains> SomeTensors() {
  return {Falling(10, 0.9, 192), Falling(1, 0.98, 192), Falling(100, 0.7, 64, 3),
          Falling(0.01, 0.95, 40)};
}

int64_t BytesOf(const BitAllocation& allocation, const std::vector<TensorGains>& tensors) {
  int64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    for (const CacheSegment& segment : allocation.segments[i]) {
      bytes += tensors[i].groups * segment.BytesPerToken();
    }
  }
  return bytes;
}

TEST(AllocateBitsTest, KeepsToTheBytesAndUsesThem) {
  const auto tensors = SomeTensors();
  const int64_t least = LeastBytes(tensors, 32);
  const int64_t most = MostBytes(tensors, 32);
  ASSERT_LT(least, most);
  double last = HUGE_VAL;
  for (int64_t bytes = least; bytes <= most; bytes += 16) {
    const auto allocation = AllocateBits(tensors, 32, bytes);
    ASSERT_TRUE(allocation.ok()) << allocation.status();
    EXPECT_EQ(allocation->bytes_per_token, BytesOf(*allocation, tensors));
    EXPECT_LE(allocation->bytes_per_token, bytes);
    // The dearest single step: a segment of 32 numbers from nothing to two bits, in 3 groups.
    EXPECT_GT(allocation->bytes_per_token, bytes - 3 * 64);
    // More bytes never cost more, but for what a rest of some bytes can or cannot buy.
    EXPECT_LE(allocation->loss, 1.05 * last) << bytes;
    last = allocation->loss;
  }
}

TEST(AllocateBitsTest, LossIsWhatTheSegmentsLose) {
  const auto tensors = SomeTensors();
  const auto allocation = AllocateBits(tensors, 32, 500);
  ASSERT_TRUE(allocation.ok()) << allocation.status();
  double loss = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    size_t at = 0;
    for (const CacheSegment& segment : allocation->segments[i]) {
      for (int32_t k = 0; k < segment.width; ++k) {
        loss += QuantiserDistortion(segment.type) * tensors[i].gains[at++];
      }
    }
    while (at < tensors[i].gains.size()) loss += tensors[i].gains[at++];
  }
  EXPECT_NEAR(allocation->loss, loss, 1e-12 * loss);
}

// No exchange of one step between two segments makes it better: what a price per byte means.
TEST(AllocateBitsTest, ImportantNumbersGetMoreBits) {
  const std::vector<TensorGains> tensors = {Falling(1000, 0.9, 128), Falling(1, 0.9, 128)};
  const auto allocation = AllocateBits(tensors, 32, 120);
  ASSERT_TRUE(allocation.ok()) << allocation.status();
  const auto bits = [&](size_t tensor) {
    int64_t sum = 0;
    for (const CacheSegment& segment : allocation->segments[tensor]) {
      sum += segment.width * BitsPerNumber(segment.type);
    }
    return sum;
  };
  EXPECT_GT(bits(0), bits(1));
  for (const auto& segments : allocation->segments) {
    for (size_t i = 1; i < segments.size(); ++i) {
      EXPECT_LE(BitsPerNumber(segments[i].type), BitsPerNumber(segments[i - 1].type));
    }
  }
}

TEST(AllocateBitsTest, BeatsEveryPlainTruncation) {
  const auto tensors = SomeTensors();
  for (const SegmentType type : {SegmentType::kInt8, SegmentType::kInt4, SegmentType::kInt2}) {
    for (const int32_t kept : {1, 2, 3}) {
      int64_t bytes = 0;
      double loss = 0;
      for (const TensorGains& tensor : tensors) {
        int32_t at = 0;
        for (int32_t segment = 0; at < std::ssize(tensor.gains); ++segment) {
          const int32_t width = std::min<int32_t>(32, std::ssize(tensor.gains) - at);
          if (segment < kept) bytes += tensor.groups * CacheSegment{type, width}.BytesPerToken();
          for (int32_t k = 0; k < width; ++k) {
            loss += tensor.gains[at++] * (segment < kept ? QuantiserDistortion(type) : 1.0);
          }
        }
      }
      const auto allocation = AllocateBits(tensors, 32, bytes);
      ASSERT_TRUE(allocation.ok()) << allocation.status();
      EXPECT_LE(allocation->loss, loss * (1 + 1e-12)) << Name(type) << " x " << kept;
    }
  }
}

TEST(AllocateBitsTest, SaysWhatIsNeeded) {
  const auto tensors = SomeTensors();
  const auto allocation = AllocateBits(tensors, 32, LeastBytes(tensors, 32) - 1);
  EXPECT_EQ(allocation.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(allocation.status().message(),
              testing::HasSubstr(std::to_string(LeastBytes(tensors, 32))));
}

TEST(AllocateBitsTest, TensorsWithoutGainKeepTheLeast) {
  const std::vector<TensorGains> tensors = {Falling(0, 1, 64), Falling(1, 0.9, 64)};
  const auto allocation = AllocateBits(tensors, 32, 1 << 20);
  ASSERT_TRUE(allocation.ok()) << allocation.status();
  EXPECT_EQ(allocation->segments[0], (std::vector<CacheSegment>{{SegmentType::kInt2, 32}}));
  EXPECT_EQ(allocation->segments[1].size(), 2);
}

}  // namespace
}  // namespace lorc
