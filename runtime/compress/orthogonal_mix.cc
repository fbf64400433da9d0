#include "runtime/compress/orthogonal_mix.h"

#include <bit>
#include <cmath>
#include <numbers>
#include <random>

namespace lorc {

std::vector<double> OrthogonalMix(int32_t width, uint64_t seed) {
  const int32_t power = width & -width;
  const int32_t odd = width / power;
  std::mt19937_64 bits(seed);  // its sequence is fixed by the standard
  std::vector<double> signs(width);
  for (double& sign : signs) sign = bits() % 2 == 0 ? 1.0 : -1.0;
  const double scale = 1.0 / std::sqrt(static_cast<double>(width));
  std::vector<double> mix(static_cast<size_t>(width) * width);
  for (int32_t row = 0; row < width; ++row) {
    for (int32_t column = 0; column < width; ++column) {
      const auto common = static_cast<uint32_t>(row / odd & column / odd);
      const double angle = 2 * std::numbers::pi * (row % odd) * (column % odd) / odd;
      const double hadamard = std::popcount(common) % 2 == 0 ? 1.0 : -1.0;
      mix[row * width + column] =
          signs[column] * scale * hadamard * (std::cos(angle) + std::sin(angle));
    }
  }
  return mix;
}

}  // namespace lorc
