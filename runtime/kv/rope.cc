#include "runtime/kv/rope.h"

#include <cmath>

#include "runtime/weights/rope_divisors.h"

namespace lorc {

std::vector<double> InverseFrequencies(const ModelConfig& config) {
  std::vector<double> frequencies = RopeFrequencyDivisors(config);
  for (size_t j = 0; j < frequencies.size(); ++j) {
    frequencies[j] = std::pow(config.rope_base, -2.0 * static_cast<double>(j) / config.head_dim) /
                     frequencies[j];
  }
  return frequencies;
}

void FillRopeTables(const ModelConfig& config, int64_t num_positions, float* cosines,
                    float* sines) {
  const std::vector<double> frequencies = InverseFrequencies(config);
  for (int64_t n = 0; n < num_positions; ++n) {
    for (const double frequency : frequencies) {
      const double angle = static_cast<double>(n) * frequency;
      *cosines++ = static_cast<float>(std::cos(angle));
      *sines++ = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace lorc
