// What the ops of the CUDA backend share: device, stream, cuBLASLt, scratch memory, and the way of
// small data to the device.
//
// Everything runs on one stream, in the order of the calls. Ops never wait for it, but where
// StageForOp's memory is full.
//
// Threads: one caller at a time.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/base/arena.h"
#include "kernels/cuda/device_step.h"
#include "kernels/cuda/staging.h"
#include "kernels/cuda/stream.h"

namespace lorc {

// Device memory that ops want for the largest step.
struct CudaScratch {
  int64_t workspace_bytes = 0;   // of one op at a time: CudaContext::workspace()
  int64_t op_staging_bytes = 0;  // StageForOp, all pieces of one op
};

class CudaContext {
 public:
  // FAILED_PRECONDITION where there is no such device, the driver is too old for this program or
  // the program has no code for the device.
  static absl::StatusOr<std::unique_ptr<CudaContext>> Make(int device);
  ~CudaContext();

  int device() const { return device_; }
  const cudaDeviceProp& properties() const { return properties_; }
  cudaStream_t stream() const { return stream_.get(); }
  cublasLtHandle_t cublas() const { return cublas_; }
  MemoryAccount& memory() { return account_; }

  // The calling thread's CUDA calls go to this device.
  void MakeCurrent() { Check(cudaSetDevice(device_), "cudaSetDevice"); }

  absl::Status Reserve(const BackendLimits& limits, const CudaScratch& scratch);

  // Device memory of the op that runs (Arena::Scope), 64-byte aligned pieces.
  Arena& workspace() { return workspace_; }

  // Sends the step's sequences and block tables.
  void BeginStep(const StepArgs& args);
  const DeviceStep& step() const { return step_; }
  // In the order of the sequences.
  std::span<const SequenceTables> step_tables() const { return step_tables_; }
  // Counts BeginStep: what an op derives from the sequences is good while it stays the same.
  int64_t step_number() const { return step_number_; }

  // A copy of `values` in device memory, for the kernels that this op queues.
  template <typename T>
  const T* StageForOp(std::span<const T> values) {
    const Staging::Piece piece = TakeForOp(static_cast<int64_t>(values.size_bytes()));
    std::memcpy(piece.host, values.data(), values.size_bytes());
    Check(Staging::Send(piece, stream()), "cudaMemcpyAsync");
    return reinterpret_cast<const T*>(piece.device);
  }

  // Remembers the first error. After a kernel's launch: Check(cudaGetLastError(), "its name").
  void Check(cudaError_t error, const char* what) {
    if (error != cudaSuccess) [[unlikely]]
      Fail(CudaStatus(error, what));
  }
  void Fail(absl::Status status);
  bool failed() const { return !status_.ok(); }

  // Waits for the stream; the first error, which stays.
  absl::Status Synchronize();

 private:
  explicit CudaContext(int device) : device_(device) {}

  Staging::Piece TakeForOp(int64_t size_bytes);

  const int device_;
  cudaDeviceProp properties_ = {};
  MemoryAccount account_;  // outlives the buffers below
  CudaStream stream_;
  cublasLtHandle_t cublas_ = nullptr;
  Arena workspace_;
  Staging op_staging_;
  Staging step_staging_;
  CudaEvent step_sent_;
  DeviceStep step_;
  std::vector<SequenceTables> step_tables_;
  int64_t step_number_ = 0;
  absl::Status status_;
};

}  // namespace lorc
