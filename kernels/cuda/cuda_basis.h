// The bases of one latent tensor on a CUDA device, bf16.
#pragma once

#include <vector_types.h>

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/base/memory.h"
#include "kernels/matrix.h"

namespace lorc {

class MatrixLoader;

class CudaBasis final : public Basis {
 public:
  // Keys and values get fragments() in their own orders.
  static absl::StatusOr<std::unique_ptr<CudaBasis>> Make(const BasisSource& source, bool is_key,
                                                         MatrixLoader& loader);
  // What Make takes; values are not read.
  static int64_t Bytes(const BasisSource& source, bool is_key);

  int64_t size_bytes() const override {
    return encoder_.size() + decoder_.size() + fragments_.size() + column_norm_.size();
  }

  // Device memory, as BasisSource has it.
  const bf16_t* encoder() const { return encoder_.as<bf16_t>(); }  // [groups, rank, group_width]
  const bf16_t* decoder() const { return decoder_.as<bf16_t>(); }  // [groups, group_width, rank]

  // Of BasisSource::absorbed ones: see decode_basis.h.
  const uint4* fragments() const { return fragments_.as<uint4>(); }
  const float* column_norm() const { return column_norm_.as<float>(); }  // [g], keys only

 private:
  CudaBasis() = default;

  Buffer encoder_;
  Buffer decoder_;
  Buffer fragments_;
  Buffer column_norm_;
};

}  // namespace lorc
