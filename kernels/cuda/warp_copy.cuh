// Rings of stages in shared memory: spans of global memory copied in the background by one warp, an
// mbarrier per stage that completes when the stage is there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/decode_params.h"
#include "kernels/cuda/mma.cuh"

namespace lorc::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define LORC_BULK_COPY 1
#endif

// By one lane, before any use; the others then need a barrier.
__device__ __forceinline__ void InitBarrier(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(arrivals)
               : "memory");
}

// Arrivals of a barrier that copies complete.
#ifdef LORC_BULK_COPY
inline constexpr int kCopyArrivals = 1;
#else
inline constexpr int kCopyArrivals = 32;
#endif

__device__ __forceinline__ void Arrive(uint64_t* barrier) {
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}\n" ::"r"(
                   SharedAddress(barrier))
               : "memory");
}

// Makes initialised barriers visible to the copy engine.
__device__ __forceinline__ void FenceBarriers() {
#ifdef LORC_BULK_COPY
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

__device__ __forceinline__ void WaitForStage(uint64_t* barrier, int parity) {
#ifdef LORC_BULK_COPY
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
#else
  uint32_t done = 0;
  while (done == 0) {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}\n"
        : "=r"(done)
        : "r"(SharedAddress(barrier)), "r"(parity)
        : "memory");
  }
#endif
}

// A stage's copies: all lanes call ExpectRuns once with the bytes to come, CopyRun for each run
// with the lane's own span (bytes 0: none), FinishRuns once.
__device__ __forceinline__ void ExpectRuns(uint64_t* barrier, int total, int lane) {
#ifdef LORC_BULK_COPY
  if (lane == 0) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)),
                 "r"(total)
                 : "memory");
  }
  __syncwarp();
#endif
}

__device__ __forceinline__ void CopyRun(const std::byte* from, std::byte* to, int bytes,
                                        uint64_t* barrier, int lane) {
#ifdef LORC_BULK_COPY
  if (bytes > 0) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
        "[%3];" ::"r"(SharedAddress(to)),
        "l"(from), "r"(bytes), "r"(SharedAddress(barrier))
        : "memory");
  }
#else
  for (int span = 0; span < 32; ++span) {
    const int size = __shfl_sync(0xffffffffu, bytes, span);
    if (size == 0) continue;
    const auto source = reinterpret_cast<const std::byte*>(
        __shfl_sync(0xffffffffu, reinterpret_cast<unsigned long long>(from), span));
    const uint32_t target = __shfl_sync(0xffffffffu, SharedAddress(to), span);
    for (int i = 16 * lane; i < size; i += 512) {
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target + i), "l"(source + i)
                   : "memory");
    }
  }
#endif
}

__device__ __forceinline__ void FinishRuns(uint64_t* barrier) {
#ifndef LORC_BULK_COPY
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(SharedAddress(barrier))
               : "memory");
#endif
}

// One run.
__device__ __forceinline__ void CopySpans(const std::byte* from, std::byte* to, int bytes,
                                          int total, uint64_t* barrier, int lane) {
  ExpectRuns(barrier, total, lane);
  CopyRun(from, to, bytes, barrier, lane);
  FinishRuns(barrier);
}

// A warpgroup that copies needs few registers; those that compute take what it gives.
template <int kRegisters>
__device__ __forceinline__ void GiveRegisters() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}
template <int kRegisters>
__device__ __forceinline__ void TakeRegisters() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}

// The stage that comes next in a ring, and the parity of its barrier's phase.
struct RingPlace {
  int stage = 0;
  int parity = 0;
  __device__ __forceinline__ void Advance(int stages) {
    if (++stage == stages) stage = 0, parity ^= 1;
  }
};

}  // namespace lorc::cuda
