// A device and the ops that a model is made of. The CPU's is complete; an accelerator implements
// the same contracts.
//
// Life: make weights, reserve scratch memory, then run ops. Ops never allocate and never fail: a
// device that does is seen in status(). They may be queued; CopyOut and status() wait for them.
// Arguments are checked by whoever builds them.
//
// Memory: what ops compute on comes from Allocate (the device's memory). What the program reads or
// writes itself stays in its own: tokens, row numbers, sequences with their block tables, results
// of RowStats, all of Weights. Ops have read it when they return.
//
// Results: those of a row do not depend on the others of the step, nor on the number of threads, on
// the CPU bit for bit. On a GPU the same steps give the same bits, but the size of a step
// (products) and its sequences (Attend of generated positions) move results by rounding.
//
// Threads: one caller at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/memory.h"
#include "kernels/matrix.h"
#include "kernels/ops/elementwise.h"
#include "kernels/ops/kv_cache.h"
#include "kernels/ops/linear.h"

namespace lorc {

// The largest step and sequence, and the shapes of the model: what scratch memory must be enough
// for.
struct BackendLimits {
  int64_t max_rows = 0;         // tokens of a step
  int64_t max_sequences = 0;    // of a step
  int64_t max_logit_rows = 0;   // rows of logits at once
  int64_t max_columns = 0;      // inputs of the widest product
  int64_t max_gated_width = 0;  // outputs of the widest gated pair
  int64_t max_context = 0;      // positions of a sequence
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_latent_width = 0;  // numbers per token over all groups, K or V, the widest layer's
  int64_t block_tokens = 0;
  // Of the cache; pools, tables and bases need not be there. Read by Reserve only.
  std::span<const CacheLayer> layers;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual const char* name() const = 0;           // "cpu", "cuda"
  virtual std::string description() const = 0;    // device, threads, instruction sets
  virtual DType default_weight_type() const = 0;  // what runs fastest here
  // INVALID_ARGUMENT where weights of that type, or a cache layer of that layout, are not to be had
  // here. A layer's pools, tables and bases need not be there yet.
  virtual absl::Status CheckWeightType(DType type) const = 0;
  virtual absl::Status CheckLayer(const CacheLayer& layer) const = 0;

  virtual MemoryAccount& memory() = 0;
  // Bytes that Allocate can still give; nothing where that is the machine's own memory.
  virtual std::optional<int64_t> free_device_bytes() const = 0;
  // Whether the program can read and write Allocate's memory itself. Where it can't, AllocateHost
  // gives memory of the program that copies are fast with (it is not counted).
  virtual bool has_host_memory() const = 0;
  virtual absl::StatusOr<Buffer> Allocate(int64_t size_bytes, MemoryUse use) = 0;
  virtual absl::StatusOr<Buffer> AllocateHost(int64_t size_bytes) = 0;
  // `from_host` has been read when CopyIn returns. CopyOut waits for all ops before it; where the
  // device has failed, `to_host` is filled with zeros.
  virtual void CopyIn(void* to, const void* from_host, int64_t bytes) = 0;
  virtual void CopyOut(void* to_host, const void* from, int64_t bytes) = 0;
  // Waits for all ops. An error stays: the device can't go on.
  virtual absl::Status status() = 0;

  virtual absl::StatusOr<std::unique_ptr<Matrix>> MakeMatrix(const MatrixSource& source,
                                                             DType type) = 0;
  // The pair for LinearArgs::Output::kGatedSilu.
  virtual absl::StatusOr<std::unique_ptr<Matrix>> MakeGatedMatrix(const MatrixSource& gate,
                                                                  const MatrixSource& up,
                                                                  DType type) = 0;
  // `type`: of the products, f32 or bf16.
  virtual absl::StatusOr<std::unique_ptr<Basis>> MakeBasis(const BasisSource& source, bool is_key,
                                                           DType type) = 0;
  // Bytes that MakeBasis takes; encoder and decoder are not read.
  virtual int64_t BasisBytes(const BasisSource& source, bool is_key, DType type) const = 0;
  virtual absl::Status Reserve(const BackendLimits& limits) = 0;
  // Steps of these numbers of rows, the largest at most `max_rows`, make every product that a step
  // of up to `max_rows` rows needs.
  virtual std::vector<int32_t> WarmUpRows(int32_t max_rows) const = 0;

  // Before the first WriteCache and Attend of a step: the sequences that they all get.
  virtual void BeginStep(const StepArgs& args) = 0;
  virtual void Embed(const EmbedArgs& args) = 0;
  virtual void RmsNorm(const RmsNormArgs& args) = 0;
  virtual void Linear(const LinearArgs& args) = 0;
  virtual void WriteCache(const WriteCacheArgs& args) = 0;
  virtual void Attend(const AttendArgs& args) = 0;
  virtual void RowStats(const RowStatsArgs& args) = 0;
  virtual void Weights(const WeightsArgs& args) = 0;
};

}  // namespace lorc
