#include "runtime/compress/rotation.h"

#include "runtime/kv/rope.h"

namespace lorc {

Rotation::Rotation(const ModelConfig& config, int64_t num_positions)
    : half_(config.head_dim / 2), cosines_(num_positions * half_), sines_(num_positions * half_) {
  FillRopeTables(config, num_positions, cosines_.data(), sines_.data());
}

template <bool kInverse>
void Rotation::Turn(int64_t position, int64_t num_heads, float* heads) const {
  const float* cosine = cosines_.data() + position * half_;
  const float* sine = sines_.data() + position * half_;
  for (int64_t head = 0; head < num_heads; ++head, heads += 2 * half_) {
    for (int64_t j = 0; j < half_; ++j) {
      const float a = heads[j];
      const float b = heads[j + half_];
      const float s = kInverse ? -sine[j] : sine[j];
      heads[j] = a * cosine[j] - b * s;
      heads[j + half_] = b * cosine[j] + a * s;
    }
  }
}

void Rotation::Apply(int64_t position, int64_t num_heads, float* heads) const {
  Turn<false>(position, num_heads, heads);
}

void Rotation::Undo(int64_t position, int64_t num_heads, float* heads) const {
  Turn<true>(position, num_heads, heads);
}

}  // namespace lorc
