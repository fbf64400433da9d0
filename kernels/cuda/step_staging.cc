#include "kernels/cuda/step_staging.h"

#include <utility>

#include "kernels/base/check.h"

namespace lorc {

absl::Status StepStaging::Reserve(int64_t size_bytes) {
  auto event = MakeCudaEvent();
  if (!event.ok()) return event.status();
  sent_ = *std::move(event);
  used_ = 0;
  ++generation_;
  return staging_.Reserve(size_bytes, &context_.memory());
}

int64_t StepStaging::Generation() {
  if (step_ != context_.step_number()) {
    step_ = context_.step_number();
    Restart();
  }
  return generation_;
}

void StepStaging::MakeRoom(int64_t size_bytes) {
  if (used_ + size_bytes > staging_.size()) Restart();
  LORC_CHECK_LE(size_bytes, staging_.size());
  used_ += size_bytes;
}

void StepStaging::Restart() {
  // The copies must have left the pinned memory. What they wrote is overwritten in the order of the
  // stream, after the kernels that read it.
  context_.Check(cudaEventSynchronize(sent_.get()), "cudaEventSynchronize");
  staging_.Restart();
  used_ = 0;
  ++generation_;
}

void StepStaging::Send(const Staging::Piece& piece) {
  context_.Check(Staging::Send(piece, context_.stream()), "cudaMemcpyAsync");
  context_.Check(cudaEventRecord(sent_.get(), context_.stream()), "cudaEventRecord");
}

}  // namespace lorc
