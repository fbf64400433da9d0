// Ops whose kernels are not there yet.
#include "kernels/base/check.h"
#include "kernels/cuda/attend.h"
#include "kernels/cuda/write_cache.h"

namespace lorc {

absl::Status CheckCudaLayer(const CacheLayer&) { return absl::OkStatus(); }
CudaScratch WriteCacheCudaScratch(const BackendLimits&, const cudaDeviceProp&) { return {}; }
void CudaWriteCache(const WriteCacheArgs& args, CudaContext&) {
  LORC_CHECK(args.sequences.empty());
}

CudaScratch AttendCudaScratch(const BackendLimits&, const cudaDeviceProp&) { return {}; }
void CudaAttend(const AttendArgs& args, CudaContext&) { LORC_CHECK(args.sequences.empty()); }

}  // namespace lorc
