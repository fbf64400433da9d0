// What an op derives from a step's sequences, sent to the device once per step and good for all
// layers of it.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "kernels/base/check.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/staging.h"
#include "kernels/cuda/stream.h"

namespace lorc {

class StepStaging {
 public:
  explicit StepStaging(CudaContext& context) : context_(context) {}

  absl::Status Reserve(int64_t size_bytes);

  // Changes where memory is used anew: what was sent while it was another number must not be used.
  // Asking in a new step of the context's forgets the steps before.
  int64_t Generation();

  // Bytes of a list in a parcel.
  template <typename T>
  static constexpr int64_t Bytes(int64_t count) {
    return (count * static_cast<int64_t>(sizeof(T)) + 15) / 16 * 16;
  }

  // Lists that go to the device together: one copy.
  class Parcel {
   public:
    // Where the list will lie in device memory; nullptr for an empty one.
    template <typename T>
    const T* Add(const std::vector<T>& values) {
      if (values.empty()) return nullptr;
      const int64_t at = used_;
      used_ += Bytes<T>(std::ssize(values));
      LORC_CHECK_LE(used_, piece_.size_bytes);
      std::memcpy(piece_.host + at, values.data(), values.size() * sizeof(T));
      return reinterpret_cast<const T*>(piece_.device + at);
    }

   private:
    friend class StepStaging;
    explicit Parcel(const Staging::Piece& piece) : piece_(piece) {}

    Staging::Piece piece_;
    int64_t used_ = 0;
  };

  // Room for lists of so many Bytes in all.
  Parcel Begin(int64_t size_bytes);
  // Queues the copy.
  void Send(const Parcel& parcel);

 private:
  void Restart();

  CudaContext& context_;
  Staging staging_;
  CudaEvent sent_;
  int64_t step_ = -1;
  int64_t generation_ = 0;
};

}  // namespace lorc
