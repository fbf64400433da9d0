// The one interface between the scheduler and whatever runs the model.
//
// Threads: one caller at a time (the engine thread).
#pragma once

#include <span>

#include "absl/status/status.h"
#include "runtime/kv/geometry.h"
#include "runtime/step.h"

namespace lorc {

class Executor {
 public:
  virtual ~Executor() = default;

  virtual const KvGeometry& kv_geometry() const = 0;

  // The most positions that one step may compute, summed over its sequences, and the most
  // sequences.
  virtual int32_t max_step_tokens() const = 0;
  virtual int32_t max_step_sequences() const = 0;

  // Runs one step; results.size() == batch.size(), in the same order. Never allocates cache memory.
  // An error means that the device or the process can't go on: the caller fails what is in flight
  // and reports not ready.
  virtual absl::Status Execute(std::span<const SequenceWork> batch,
                               std::span<StepResult> results) = 0;
};

}  // namespace lorc
