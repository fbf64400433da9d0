#include "runtime/kv/rope.h"

#include <cmath>
#include <numbers>

namespace lorc {
namespace {

double ScaleLlama3(double frequency, const RopeScaling& scaling) {
  const double original = scaling.original_context_length;
  const double wavelength = 2 * std::numbers::pi / frequency;
  const double longest_kept = original / scaling.high_freq_factor;
  const double shortest_scaled = original / scaling.low_freq_factor;
  if (wavelength < longest_kept) return frequency;
  if (wavelength > shortest_scaled) return frequency / scaling.factor;
  const double smooth = (original / wavelength - scaling.low_freq_factor) /
                        (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency;
}

}  // namespace

std::vector<double> InverseFrequencies(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  std::vector<double> frequencies(config.head_dim / 2);
  for (size_t j = 0; j < frequencies.size(); ++j) {
    double frequency = std::pow(config.rope_base, -2.0 * static_cast<double>(j) / config.head_dim);
    switch (scaling.type) {
      case RopeScaling::Type::kNone:
        break;
      case RopeScaling::Type::kLinear:
        frequency /= scaling.factor;
        break;
      case RopeScaling::Type::kLlama3:
        frequency = ScaleLlama3(frequency, scaling);
        break;
      case RopeScaling::Type::kPerPair:
        frequency /= scaling.divisors[j];
        break;
    }
    frequencies[j] = frequency;
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
