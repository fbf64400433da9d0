#include "kernels/cpu/cpu_backend.h"

#include <hwy/targets.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/base/arena.h"
#include "kernels/cpu/cpu_basis.h"
#include "kernels/cpu/cpu_matrix.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/thread_pool.h"

namespace lorc {
namespace {

// The best of the instruction sets that the vector loops are compiled for.
const char* InstructionSet() {
  const int64_t supported = hwy::SupportedTargets();
  return hwy::TargetName(supported & -supported);
}

template <typename T, typename Base>
absl::StatusOr<std::unique_ptr<Base>> AsBase(absl::StatusOr<std::unique_ptr<T>> made) {
  if (!made.ok()) return made.status();
  return std::unique_ptr<Base>(*std::move(made));
}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(int num_threads) : pool_(num_threads) {}

  const char* name() const override { return "cpu"; }

  std::string description() const override {
    return absl::StrCat("cpu, ", pool_.num_threads(), " threads, ", InstructionSet(),
                        ", bf16 products ",
                        OneDnnHasBlockedProducts(DType::kBf16) ? "by oneDNN" : "by vector loops");
  }

  DType default_weight_type() const override { return DType::kBf16; }
  absl::Status CheckWeightType(DType) const override { return absl::OkStatus(); }
  absl::Status CheckLayer(const CacheLayer&) const override { return absl::OkStatus(); }

  MemoryAccount& memory() override { return account_; }
  std::optional<int64_t> free_device_bytes() const override { return std::nullopt; }
  bool has_host_memory() const override { return true; }
  absl::StatusOr<Buffer> Allocate(int64_t size_bytes, MemoryUse use) override {
    return Buffer::Allocate(size_bytes, use, &account_);
  }
  absl::StatusOr<Buffer> AllocateHost(int64_t size_bytes) override {
    return Buffer::Allocate(size_bytes, MemoryUse::kWorkspace, nullptr);
  }
  void CopyIn(void* to, const void* from_host, int64_t bytes) override {
    if (bytes > 0) std::memcpy(to, from_host, bytes);
  }
  void CopyOut(void* to_host, const void* from, int64_t bytes) override {
    if (bytes > 0) std::memcpy(to_host, from, bytes);
  }
  absl::Status status() override { return absl::OkStatus(); }

  absl::StatusOr<std::unique_ptr<Matrix>> MakeMatrix(const MatrixSource& source,
                                                     DType type) override {
    return AsBase<CpuMatrix, Matrix>(CpuMatrix::Pack(source, type, &account_, pool_));
  }

  absl::StatusOr<std::unique_ptr<Matrix>> MakeGatedMatrix(const MatrixSource& gate,
                                                          const MatrixSource& up,
                                                          DType type) override {
    return AsBase<CpuMatrix, Matrix>(CpuMatrix::PackGated(gate, up, type, &account_, pool_));
  }

  absl::StatusOr<std::unique_ptr<Basis>> MakeBasis(const BasisSource& source, bool is_key,
                                                   DType type) override {
    return AsBase<CpuBasis, Basis>(CpuBasis::Make(source, is_key, type, &account_, pool_));
  }

  int64_t BasisBytes(const BasisSource& source, bool is_key, DType type) const override {
    return CpuBasis::Bytes(source, is_key, type);
  }

  absl::Status Reserve(const BackendLimits& limits) override {
    CacheLimits cache;
    cache.num_heads = limits.num_heads;
    cache.num_kv_heads = limits.num_kv_heads;
    cache.head_dim = limits.head_dim;
    cache.max_latent_width = limits.max_latent_width;
    cache.max_tokens = limits.max_rows;
    cache.max_context = limits.max_context;
    cache.block_tokens = limits.block_tokens;
    cache.num_threads = pool_.num_threads();
    auto scratch =
        Buffer::Allocate(std::max(WriteCacheScratchBytes(cache), AttendScratchBytes(cache)),
                         MemoryUse::kWorkspace, &account_);
    if (!scratch.ok()) return scratch.status();
    arena_ = Arena(*std::move(scratch));
    return linear_.Reserve(pool_.num_threads(), limits.max_rows, limits.max_columns, &account_);
  }

  // More rows than the padding are cut into tasks of that many.
  std::vector<int32_t> WarmUpRows(int32_t max_rows) const override {
    std::vector<int32_t> rows;
    const auto most = static_cast<int32_t>(std::min<int64_t>(max_rows, kRowPadding));
    for (int32_t count = 1; count <= most; count += std::max(1, count / 2)) rows.push_back(count);
    return rows;
  }

  void BeginStep(const StepArgs&) override {}
  void Embed(const EmbedArgs& args) override { CpuEmbed(args, pool_); }
  void RmsNorm(const RmsNormArgs& args) override { CpuRmsNorm(args, pool_); }
  void Linear(const LinearArgs& args) override { CpuLinear(args, pool_, linear_); }
  void WriteCache(const WriteCacheArgs& args) override {
    CpuWriteCache(args, pool_, linear_, arena_);
  }
  void Attend(const AttendArgs& args) override { CpuAttend(args, pool_, linear_, arena_); }
  void RowStats(const RowStatsArgs& args) override { CpuRowStats(args, pool_); }
  void Weights(const WeightsArgs& args) override { CpuWeights(args, pool_); }

 private:
  MemoryAccount account_;  // outlives the buffers below
  ThreadPool pool_;
  LinearScratch linear_;
  Arena arena_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(int num_threads) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    return absl::UnimplementedError("the CPU backend needs a processor with AVX2 and FMA");
  }
#endif
  if (num_threads < 0 || num_threads > 1024) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads: expected 0 (all cores) to 1024, got ", num_threads));
  }
  return std::make_unique<CpuBackend>(num_threads == 0 ? AvailableCores() : num_threads);
}

}  // namespace lorc
