#include "kernels/cuda/cuda_basis.h"

#include <span>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/cuda/cuda_matrix.h"
#include "kernels/cuda/decode_basis.h"

namespace lorc {

absl::StatusOr<std::unique_ptr<CudaBasis>> CudaBasis::Make(const BasisSource& source, bool is_key,
                                                           MatrixLoader& loader) {
  LORC_CHECK(source.groups > 0 && source.rank > 0);
  const int64_t count = int64_t{source.groups} * source.rank * source.group_width;
  std::unique_ptr<CudaBasis> basis(new CudaBasis);
  for (const bool encodes : {true, false}) {
    auto values = loader.LoadValues(encodes ? source.encoder : source.decoder, count);
    if (!values.ok()) return values.status();
    (encodes ? basis->encoder_ : basis->decoder_) = *std::move(values);
  }
  if (!source.absorbed) return basis;
  const cuda::DecoderFragments fragments =
      is_key ? cuda::PackKeyDecoder(source) : cuda::PackValueDecoder(source);
  auto words = loader.LoadBytes(std::as_bytes(std::span(fragments.words)));
  if (!words.ok()) return words.status();
  basis->fragments_ = *std::move(words);
  if (!is_key) return basis;
  auto norms = loader.LoadBytes(std::as_bytes(std::span(fragments.column_norm)));
  if (!norms.ok()) return norms.status();
  basis->column_norm_ = *std::move(norms);
  return basis;
}

int64_t CudaBasis::Bytes(const BasisSource& source, bool is_key) {
  const int64_t one =
      int64_t{source.groups} * source.rank * source.group_width * ByteSize(DType::kBf16);
  if (!source.absorbed) return 2 * one;
  const int64_t num_heads = int64_t{source.groups} * source.group_width / source.head_dim;
  return 3 * one + (is_key ? num_heads * int64_t{sizeof(float)} : 0);
}

}  // namespace lorc
