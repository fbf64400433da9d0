// A device and the ops that a model is made of. The CPU's is complete; an accelerator implements
// the same contracts.
//
// Life: make weights, reserve scratch memory, then run ops. Ops never allocate, never fail and are
// done when they return (a backend with a queue waits where its results are read). Arguments are
// checked by whoever builds them.
//
// Threads: one caller at a time.
#pragma once

#include <memory>
#include <string>

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
  int64_t max_rows = 0;     // tokens of a step
  int64_t max_columns = 0;  // inputs of the widest product
  int64_t max_context = 0;  // positions of a sequence
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_latent_width = 0;  // numbers per token over all groups, K or V, the widest layer's
  int64_t block_tokens = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual const char* name() const = 0;           // "cpu"
  virtual std::string description() const = 0;    // device, threads, instruction sets
  virtual DType default_weight_type() const = 0;  // what runs fastest here
  virtual MemoryAccount& memory() = 0;

  virtual absl::StatusOr<std::unique_ptr<Matrix>> MakeMatrix(const MatrixSource& source,
                                                             DType type) = 0;
  // The pair for LinearArgs::Output::kGatedSilu.
  virtual absl::StatusOr<std::unique_ptr<Matrix>> MakeGatedMatrix(const MatrixSource& gate,
                                                                  const MatrixSource& up,
                                                                  DType type) = 0;
  // `type`: of the products, f32 or bf16.
  virtual absl::StatusOr<std::unique_ptr<Basis>> MakeBasis(const BasisSource& source, bool is_key,
                                                           DType type) = 0;
  virtual absl::Status Reserve(const BackendLimits& limits) = 0;

  virtual void Embed(const EmbedArgs& args) = 0;
  virtual void RmsNorm(const RmsNormArgs& args) = 0;
  virtual void Linear(const LinearArgs& args) = 0;
  virtual void WriteCache(const WriteCacheArgs& args) = 0;
  virtual void Attend(const AttendArgs& args) = 0;
  virtual void RowStats(const RowStatsArgs& args) = 0;
  virtual void Weights(const WeightsArgs& args) = 0;
};

}  // namespace lorc
