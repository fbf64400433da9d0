#include "kernels/make_backend.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_backend.h"
#ifdef LORC_HAS_CUDA
#include "kernels/cuda/cuda_backend.h"
#endif

namespace lorc {

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(std::string_view name, int num_threads) {
  if (name == "cpu") return MakeCpuBackend(num_threads);
  if (name == "cuda") {
#ifdef LORC_HAS_CUDA
    return MakeCudaBackend(0, num_threads);
#else
    return absl::UnimplementedError(
        "this program was built without the CUDA backend; build it with -DLORC_ENABLE_CUDA=ON "
        "(cmake --preset cuda-release), which needs nvcc");
#endif
  }
  return absl::InvalidArgumentError(
      absl::StrCat("backend: expected cpu or cuda, got ", std::string(name)));
}

}  // namespace lorc
