#include "kernels/cuda/cuda_basis.h"

#include "kernels/base/check.h"
#include "kernels/cuda/cuda_matrix.h"

namespace lorc {

absl::StatusOr<std::unique_ptr<CudaBasis>> CudaBasis::Make(const BasisSource& source,
                                                           MatrixLoader& loader) {
  LORC_CHECK(source.groups > 0 && source.rank > 0);
  const int64_t count = int64_t{source.groups} * source.rank * source.group_width;
  std::unique_ptr<CudaBasis> basis(new CudaBasis);
  for (const bool encodes : {true, false}) {
    auto values = loader.LoadValues(encodes ? source.encoder : source.decoder, count);
    if (!values.ok()) return values.status();
    (encodes ? basis->encoder_ : basis->decoder_) = *std::move(values);
  }
  return basis;
}

}  // namespace lorc
