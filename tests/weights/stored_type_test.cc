#include "runtime/weights/stored_type.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "tests/support/quantize.h"

namespace lorc {
namespace {

constexpr StoredType kTypes[] = {StoredType::kF32,  StoredType::kF16,  StoredType::kBf16,
                                 StoredType::kQ8_0, StoredType::kQ4_0, StoredType::kQ4_1};

// Any bytes are valid blocks; these have scales of moderate size among them, and wild ones.
std::string RandomBytes(size_t size, uint32_t seed) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) {
    seed = seed * 1664525u + 1013904223u;
    byte = static_cast<char>(seed >> 24);
  }
  return bytes;
}

class StoredTypeTest : public testing::TestWithParam<StoredType> {};

TEST_P(StoredTypeTest, DequantizesAsTheFormulaSays) {
  const StoredType type = GetParam();
  constexpr int64_t kElements = 32 * 1000;
  const int64_t size = *StoredBytes(type, kElements);
  // One byte in front: files promise no alignment.
  const std::string bytes = RandomBytes(static_cast<size_t>(size) + 1, 7);
  std::vector<float> actual(kElements);
  Dequantize(type, reinterpret_cast<const std::byte*>(bytes.data()) + 1, kElements, actual.data());
  const std::vector<double> expected = test::NaiveDequantize(type, bytes.substr(1));
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::isnan(expected[i])) {
      EXPECT_TRUE(std::isnan(actual[i])) << "element " << i;
    } else {
      // Products are exact in both; only Q4_1's sum is rounded, once each.
      EXPECT_EQ(actual[i], static_cast<float>(expected[i])) << "element " << i;
    }
  }
}

TEST_P(StoredTypeTest, RoundTripsWithinHalfAStep) {
  const StoredType type = GetParam();
  std::vector<float> values(320);
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i * i));
  const std::string bytes = test::Quantize(type, values);
  ASSERT_EQ(static_cast<int64_t>(bytes.size()), *StoredBytes(type, 320));
  std::vector<float> actual(values.size());
  Dequantize(type, reinterpret_cast<const std::byte*>(bytes.data()), 320, actual.data());
  // Steps of blocks that span [-1, 1], halved (Q4_0's 7.5 codes on one side: a whole one), and a
  // few parts in a thousand for the rounding of scale and minimum.
  const double bound = type == StoredType::kF32    ? 0.0
                       : type == StoredType::kF16  ? 0x1p-11
                       : type == StoredType::kBf16 ? 0x1p-8
                       : type == StoredType::kQ8_0 ? 0.5 / 127 + 1e-3
                       : type == StoredType::kQ4_0 ? 1.0 / 8 + 3e-3
                                                   : 0.5 * 2 / 15 + 3e-3;
  for (size_t i = 0; i < values.size(); ++i)
    EXPECT_NEAR(actual[i], values[i], bound) << "element " << i;
}

INSTANTIATE_TEST_SUITE_P(Types, StoredTypeTest, testing::ValuesIn(kTypes),
                         [](const auto& test) { return std::string(Name(test.param)); });

TEST(StoredTypeTest, EveryHalfConvertsAsTheScalarConversionDoes) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    std::byte bytes[2];
    std::memcpy(bytes, &half, 2);
    float actual = 0.0f;
    Dequantize(StoredType::kF16, bytes, 1, &actual);
    ASSERT_EQ(std::bit_cast<uint32_t>(actual), std::bit_cast<uint32_t>(F16ToF32(half))) << bits;
  }
}

TEST(StoredTypeTest, SizesAreWholeBlocksAndDoNotOverflow) {
  EXPECT_EQ(StoredBytes(StoredType::kQ4_1, 64), 40);
  EXPECT_EQ(StoredBytes(StoredType::kQ4_0, 64), 36);
  EXPECT_EQ(StoredBytes(StoredType::kQ8_0, 64), 68);
  EXPECT_EQ(StoredBytes(StoredType::kQ8_0, 48), std::nullopt);
  EXPECT_EQ(StoredBytes(StoredType::kF32, std::numeric_limits<int64_t>::max()), std::nullopt);
  EXPECT_EQ(StoredBytes(StoredType::kF32, -1), std::nullopt);
}

}  // namespace
}  // namespace lorc
