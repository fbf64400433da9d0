// Shared by the kernel tests: seeded data, rounding to a type, comparison with computed bounds, and
// running the same case on every instruction set that the machine has.
#pragma once

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/matrix.h"

namespace lorc {

inline std::vector<float> RandomNormal(int64_t count, uint64_t seed, float scale = 1.0f) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

inline std::vector<float> RoundTo(DType type, std::vector<float> values) {
  if (type == DType::kBf16) {
    for (float& value : values) value = Bf16ToF32(F32ToBf16(value));
  }
  return values;
}

inline std::vector<bf16_t> ToBf16(const std::vector<float>& values) {
  std::vector<bf16_t> out(values.size());
  for (size_t i = 0; i < values.size(); ++i) out[i] = F32ToBf16(values[i]);
  return out;
}

inline MatrixSource SourceOf(const std::vector<float>& values, int64_t rows, int64_t columns) {
  return {rows, columns, [&values, columns](int64_t begin, int64_t end, float* out) {
            std::copy(values.begin() + begin * columns, values.begin() + end * columns, out);
          }};
}

// Fails with the worst element's index, values and bound, and how many elements are out of bounds.
inline void ExpectWithin(const std::vector<float>& actual, const std::vector<double>& expected,
                         const std::vector<double>& bound, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  ASSERT_EQ(bound.size(), expected.size()) << what;
  int64_t failures = 0;
  int64_t worst = -1;
  double worst_ratio = 1.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(actual[i] - expected[i]);
    if (error <= bound[i]) continue;  // false for NaN
    ++failures;
    const double ratio = std::isfinite(error) ? error / (bound[i] + 1e-300) : HUGE_VAL;
    if (worst < 0 || ratio > worst_ratio) {
      worst = static_cast<int64_t>(i);
      worst_ratio = ratio;
    }
  }
  if (failures > 0) {
    ADD_FAILURE() << what << ": " << failures << " of " << actual.size()
                  << " out of bounds; worst at " << worst << ": actual " << actual[worst]
                  << ", expected " << expected[worst] << ", bound " << bound[worst];
  }
}

// Runs `body` once per instruction set that Highway finds here.
inline void ForEachInstructionSet(const std::function<void(const std::string&)>& body) {
  const int64_t supported = hwy::SupportedTargets();
  for (int64_t bit = 1; bit != 0 && bit <= supported; bit <<= 1) {
    if ((supported & bit) == 0 || bit > HWY_AVX2) continue;
    hwy::SetSupportedTargetsForTest(bit);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body(hwy::TargetName(bit));
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace lorc
