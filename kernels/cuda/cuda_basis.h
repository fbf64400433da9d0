// The bases of one latent tensor on a CUDA device, bf16.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/base/memory.h"
#include "kernels/matrix.h"

namespace lorc {

class MatrixLoader;

class CudaBasis final : public Basis {
 public:
  static absl::StatusOr<std::unique_ptr<CudaBasis>> Make(const BasisSource& source,
                                                         MatrixLoader& loader);

  int64_t size_bytes() const override { return encoder_.size() + decoder_.size(); }

  // Device memory, as BasisSource has it.
  const bf16_t* encoder() const { return encoder_.as<bf16_t>(); }  // [groups, rank, group_width]
  const bf16_t* decoder() const { return decoder_.as<bf16_t>(); }  // [groups, group_width, rank]

 private:
  CudaBasis() = default;

  Buffer encoder_;
  Buffer decoder_;
};

}  // namespace lorc
