#include "kernels/cuda/step_staging.h"

#include <utility>

namespace lorc {

absl::Status StepStaging::Reserve(int64_t size_bytes) {
  auto event = MakeCudaEvent();
  if (!event.ok()) return event.status();
  sent_ = *std::move(event);
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

StepStaging::Parcel StepStaging::Begin(int64_t size_bytes) {
  Staging::Piece piece = staging_.Take(size_bytes);
  if (piece.host == nullptr && size_bytes > 0) {
    Restart();
    piece = staging_.Take(size_bytes);
    LORC_CHECK(piece.host != nullptr);
  }
  return Parcel(piece);
}

void StepStaging::Send(const Parcel& parcel) {
  if (parcel.used_ == 0) return;
  context_.Check(Staging::Send(parcel.piece_, context_.stream()), "cudaMemcpyAsync");
  context_.Check(cudaEventRecord(sent_.get(), context_.stream()), "cudaEventRecord");
}

void StepStaging::Restart() {
  // The copies must have left the pinned memory. What they wrote is overwritten in the order of the
  // stream, after the kernels that read it.
  context_.Check(cudaEventSynchronize(sent_.get()), "cudaEventSynchronize");
  staging_.Restart();
  ++generation_;
}

}  // namespace lorc
