#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <vector>

#include "absl/strings/str_format.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/rope_divisors.h"
#include "runtime/weights/tensor_role.h"

namespace lorc {
namespace {

// Rows of a tensor that are hashed, its first and last among them. A change of training touches
// every row; eight of them keep a model of 100 GB at some hundred MB of reading.
constexpr int64_t kSampledRows = 8;
// Part of the hash, so that a fingerprint made by another rule cannot match by chance.
constexpr char kRule[] = "lorc-fingerprint-1";

struct FreeState {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

class Hasher {
 public:
  Hasher() : state_(XXH3_createState()) { XXH3_128bits_reset(state_.get()); }

  void AddBytes(const void* data, size_t size) { XXH3_128bits_update(state_.get(), data, size); }

  void AddInteger(int64_t value) { AddBytes(&value, sizeof(value)); }

  // Canonicalises in place: values that compare equal hash equal, and so do all NaNs.
  void AddFloats(std::vector<float>& values) {
    for (float& value : values) {
      if (value == 0.0f) value = 0.0f;
      if (std::isnan(value)) value = std::bit_cast<float>(0x7fc00000u);
    }
    AddBytes(values.data(), values.size() * sizeof(float));
  }

  std::string HexDigest() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
  }

 private:
  std::unique_ptr<XXH3_state_t, FreeState> state_;
};

void AddConfig(const ModelConfig& config, Hasher& hasher) {
  hasher.AddInteger(config.num_layers);
  hasher.AddInteger(config.hidden_size);
  hasher.AddInteger(config.num_heads);
  hasher.AddInteger(config.num_kv_heads);
  hasher.AddInteger(config.head_dim);
  hasher.AddInteger(config.ffn_size);
  hasher.AddInteger(config.vocabulary_size);
  // Files hold these in binary32 (GGUF) or as decimal text (JSON): binary32 is what they share.
  std::vector<float> reals = {config.rms_norm_epsilon, static_cast<float>(config.rope_base)};
  hasher.AddFloats(reals);
  // A GGUF file holds divisors that its converter computed in single precision, a folder the rule
  // they come from. In steps of a 32nd of an octave both say the same.
  for (const double divisor : RopeFrequencyDivisors(config))
    hasher.AddInteger(std::llround(32.0 * std::log2(divisor)));
}

void AddTensor(const Checkpoint& checkpoint, TensorRole role, int32_t layer, Hasher& hasher) {
  const TensorShape shape = checkpoint.Shape(role, layer);
  hasher.AddInteger(static_cast<int64_t>(role));
  hasher.AddInteger(layer);
  hasher.AddInteger(shape.rows);
  hasher.AddInteger(shape.columns);
  const int64_t samples = std::min(kSampledRows, shape.rows);
  std::vector<float> values(static_cast<size_t>(shape.columns));
  for (int64_t i = 0; i < samples; ++i) {
    const int64_t row = samples > 1 ? i * (shape.rows - 1) / (samples - 1) : 0;
    checkpoint.ReadRows(role, layer, row, row + 1, values.data());
    hasher.AddFloats(values);
  }
}

}  // namespace

std::string Checkpoint::Fingerprint() const {
  Hasher hasher;
  hasher.AddBytes(kRule, sizeof(kRule));
  AddConfig(config(), hasher);
  for (const TensorRole role : kAllTensorRoles) {
    const int32_t copies = IsPerLayer(role) ? config().num_layers : 1;
    for (int32_t layer = 0; layer < copies; ++layer) AddTensor(*this, role, layer, hasher);
  }
  return hasher.HexDigest();
}

}  // namespace lorc
