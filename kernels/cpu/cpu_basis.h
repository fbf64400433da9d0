// The bases of one latent tensor in the forms that the CPU's loops want.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/base/memory.h"
#include "kernels/cpu/cpu_matrix.h"
#include "kernels/matrix.h"

namespace lorc {

class CpuBasis final : public Basis {
 public:
  // `type`: of the products that project and rebuild (f32 or bf16). Keys get absorb(), values
  // output().
  static absl::StatusOr<std::unique_ptr<CpuBasis>> Make(const BasisSource& source, bool is_key,
                                                        DType type, MemoryAccount* account,
                                                        ThreadPool& pool);
  // What Make takes; values are not read.
  static int64_t Bytes(const BasisSource& source, bool is_key, DType type);

  int64_t size_bytes() const override;

  DType type() const { return encoders_[0]->type(); }
  const CpuMatrix& encoder(int32_t group) const { return *encoders_[group]; }  // [r, s*d]
  const CpuMatrix& decoder(int32_t group) const { return *decoders_[group]; }  // [s*d, r]

  // Of BasisSource::absorbed ones.
  //
  // D of one KV head, f32, as an absorbing query needs it: [d][padded r], rows of padded_rank()
  // floats, the padding 0.
  const float* absorb(int32_t kv_head) const {
    return f32_.as<float>() + int64_t{kv_head} * head_dim_ * padded_rank_;
  }
  // D^T of one KV head, f32, as the output needs it: [r][padded d].
  const float* output(int32_t kv_head) const {
    return f32_.as<float>() + int64_t{kv_head} * rank_ * padded_head_dim_;
  }
  int32_t padded_rank() const { return padded_rank_; }          // a multiple of 16
  int32_t padded_head_dim() const { return padded_head_dim_; }  // a multiple of 16

 private:
  CpuBasis() = default;

  int32_t head_dim_ = 0;
  int32_t padded_head_dim_ = 0;
  int32_t rank_ = 0;
  int32_t padded_rank_ = 0;
  std::vector<std::unique_ptr<CpuMatrix>> encoders_;
  std::vector<std::unique_ptr<CpuMatrix>> decoders_;
  Buffer f32_;
};

}  // namespace lorc
