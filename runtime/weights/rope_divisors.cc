#include "runtime/weights/rope_divisors.h"

#include <cmath>
#include <cstdint>
#include <numbers>

namespace lorc {
namespace {

// Short wavelengths stay, long ones are divided by the factor, those between are blended by how
// often they fit into the original context.
double Llama3Divisor(const RopeScaling& scaling, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double turns = scaling.original_context_length / wavelength;
  if (turns > scaling.high_freq_factor) return 1.0;
  if (turns < scaling.low_freq_factor) return scaling.factor;
  const double smooth =
      (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return 1.0 / ((1.0 - smooth) / scaling.factor + smooth);
}

}  // namespace

std::vector<double> RopeFrequencyDivisors(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  const int32_t pairs = config.head_dim / 2;
  std::vector<double> divisors(static_cast<size_t>(pairs), 1.0);
  for (int32_t j = 0; j < pairs; ++j) {
    double& divisor = divisors[static_cast<size_t>(j)];
    switch (scaling.type) {
      case RopeScaling::Type::kNone:
        break;
      case RopeScaling::Type::kLinear:
        divisor = scaling.factor;
        break;
      case RopeScaling::Type::kLlama3:
        divisor = Llama3Divisor(scaling, std::pow(config.rope_base, -2.0 * j / config.head_dim));
        break;
      case RopeScaling::Type::kPerPair:
        divisor = scaling.divisors[static_cast<size_t>(j)];
        break;
    }
  }
  return divisors;
}

}  // namespace lorc
