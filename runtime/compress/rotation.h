// RoPE of rows of heads, half-split order.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/model/model_config.h"

namespace lorc {

class Rotation {
 public:
  Rotation(const ModelConfig& config, int64_t num_positions);

  // R(position) of `num_heads` heads that follow each other, 0 <= position < num_positions.
  void Apply(int64_t position, int64_t num_heads, float* heads) const;
  // Its inverse, which is its transpose.
  void Undo(int64_t position, int64_t num_heads, float* heads) const;

 private:
  template <bool kInverse>
  void Turn(int64_t position, int64_t num_heads, float* heads) const;

  const int64_t half_;                  // d/2
  std::vector<float> cosines_, sines_;  // [positions, d/2]
};

}  // namespace lorc
