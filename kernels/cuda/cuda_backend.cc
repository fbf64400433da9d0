#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cuda/attend.h"
#include "kernels/cuda/check_layer.h"
#include "kernels/cuda/cuda_basis.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/cuda_linear.h"
#include "kernels/cuda/cuda_matrix.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/write_cache.h"

namespace lorc {
namespace {

CudaScratch Larger(const CudaScratch& a, const CudaScratch& b) {
  return {std::max(a.workspace_bytes, b.workspace_bytes),
          std::max(a.op_staging_bytes, b.op_staging_bytes)};
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::unique_ptr<CudaContext> context, int num_threads)
      : pool_(num_threads),
        context_(std::move(context)),
        loader_(*context_, pool_),
        linear_(*context_),
        cache_writer_(*context_),
        attention_(*context_) {}

  const char* name() const override { return "cuda"; }

  std::string description() const override {
    const cudaDeviceProp& device = context_->properties();
    return absl::StrFormat(
        "cuda, %s, compute capability %d.%d, %.1f GiB, %d threads", device.name, device.major,
        device.minor, static_cast<double>(device.totalGlobalMem) / (1 << 30), pool_.num_threads());
  }

  DType default_weight_type() const override { return DType::kBf16; }

  absl::Status CheckWeightType(DType type) const override {
    if (type == DType::kBf16) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("the CUDA backend has weights of type bf16, not ", Name(type)));
  }

  absl::Status CheckLayer(const CacheLayer& layer) const override { return CheckCudaLayer(layer); }

  MemoryAccount& memory() override { return context_->memory(); }

  std::optional<int64_t> free_device_bytes() const override {
    context_->MakeCurrent();
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    context_->Check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
    return static_cast<int64_t>(free_bytes);
  }

  bool has_host_memory() const override { return false; }

  absl::StatusOr<Buffer> Allocate(int64_t size_bytes, MemoryUse use) override {
    context_->MakeCurrent();
    return AllocateDevice(size_bytes, use, &memory());
  }

  absl::StatusOr<Buffer> AllocateHost(int64_t size_bytes) override {
    context_->MakeCurrent();
    return AllocatePinned(size_bytes);
  }

  void CopyIn(void* to, const void* from_host, int64_t bytes) override {
    if (bytes == 0) return;
    context_->MakeCurrent();
    Check(cudaMemcpyAsync(to, from_host, bytes, cudaMemcpyHostToDevice, context_->stream()),
          "a copy to the device");
    Check(cudaStreamSynchronize(context_->stream()), "a copy to the device");
  }

  void CopyOut(void* to_host, const void* from, int64_t bytes) override {
    if (bytes == 0) return;
    context_->MakeCurrent();
    Check(cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, context_->stream()),
          "a copy from the device");
    if (!context_->Synchronize().ok()) std::memset(to_host, 0, bytes);
  }

  absl::Status status() override { return context_->Synchronize(); }

  absl::StatusOr<std::unique_ptr<Matrix>> MakeMatrix(const MatrixSource& source,
                                                     DType type) override {
    return Made(type, [&] { return loader_.Load(source); });
  }

  absl::StatusOr<std::unique_ptr<Matrix>> MakeGatedMatrix(const MatrixSource& gate,
                                                          const MatrixSource& up,
                                                          DType type) override {
    return Made(type, [&] { return loader_.LoadGated(gate, up); });
  }

  absl::StatusOr<std::unique_ptr<Basis>> MakeBasis(const BasisSource& source, bool is_key,
                                                   DType type) override {
    if (absl::Status status = CheckWeightType(type); !status.ok()) return status;
    context_->MakeCurrent();
    auto basis = CudaBasis::Make(source, is_key, loader_);
    if (!basis.ok()) return basis.status();
    return std::unique_ptr<Basis>(*std::move(basis));
  }

  int64_t BasisBytes(const BasisSource& source, bool is_key, DType) const override {
    return CudaBasis::Bytes(source, is_key);
  }

  absl::Status Reserve(const BackendLimits& limits) override {
    context_->MakeCurrent();
    loader_.Release();
    CudaScratch scratch = Larger(CudaCacheWriter::Scratch(limits),
                                 CudaAttention::Scratch(limits, context_->properties()));
    // Tokens of a step, rows of logits.
    const int64_t numbers = std::max(limits.max_rows, limits.max_logit_rows);
    scratch.op_staging_bytes =
        std::max(scratch.op_staging_bytes, numbers * static_cast<int64_t>(sizeof(int32_t)));
    if (absl::Status status = context_->Reserve(limits, scratch); !status.ok()) return status;
    if (absl::Status status = ReserveStats(limits.max_logit_rows); !status.ok()) return status;
    if (absl::Status status = cache_writer_.Reserve(limits); !status.ok()) return status;
    if (absl::Status status = attention_.Reserve(limits); !status.ok()) return status;
    return linear_.Reserve(limits);
  }

  std::vector<int32_t> WarmUpRows(int32_t max_rows) const override {
    return CudaLinear::RowSizes(max_rows);
  }

  void BeginStep(const StepArgs& args) override {
    context_->MakeCurrent();
    context_->BeginStep(args);
  }

  void Embed(const EmbedArgs& args) override {
    if (args.num_tokens == 0) return;
    context_->MakeCurrent();
    const auto& table = static_cast<const CudaMatrix&>(*args.table);
    const int32_t* tokens = Stage(args.tokens, args.num_tokens);
    LaunchEmbed(table.data(), table.columns(), tokens, args.num_tokens, args.out,
                context_->stream());
    Check(cudaGetLastError(), "Embed");
  }

  void RmsNorm(const RmsNormArgs& args) override {
    if (args.num_rows == 0) return;
    context_->MakeCurrent();
    const int32_t* rows = args.rows == nullptr ? nullptr : Stage(args.rows, args.num_rows);
    const auto run = [&](auto* out) {
      LaunchRmsNorm(args.x, rows, args.gain, args.num_rows, args.width, args.epsilon, out,
                    context_->stream());
    };
    if (args.out_type == DType::kF32) {
      run(static_cast<float*>(args.out));
    } else {
      LORC_CHECK(args.out_type == DType::kBf16);
      run(static_cast<bf16_t*>(args.out));
    }
    Check(cudaGetLastError(), "RmsNorm");
  }

  void Linear(const LinearArgs& args) override {
    context_->MakeCurrent();
    linear_.Run(args);
  }

  void WriteCache(const WriteCacheArgs& args) override {
    if (args.sequences.empty()) return;
    LORC_CHECK_EQ(std::ssize(args.sequences), context_->step().num_sequences);
    context_->MakeCurrent();
    cache_writer_.Run(args);
  }

  void Attend(const AttendArgs& args) override {
    if (args.sequences.empty()) return;
    LORC_CHECK_EQ(std::ssize(args.sequences), context_->step().num_sequences);
    context_->MakeCurrent();
    attention_.Run(args);
  }

  void RowStats(const RowStatsArgs& args) override {
    context_->MakeCurrent();
    LORC_CHECK_LE(args.num_rows * static_cast<int64_t>(sizeof(DeviceRowStats)), stats_.size());
    LaunchRowStats(args.logits, args.num_rows, args.width, args.stride, stats_.as<DeviceRowStats>(),
                   context_->stream());
    Check(cudaGetLastError(), "RowStats");
    auto* stats = host_stats_.as<DeviceRowStats>();
    CopyOut(stats, stats_.data(), args.num_rows * static_cast<int64_t>(sizeof(DeviceRowStats)));
    for (int64_t t = 0; t < args.num_rows; ++t) {
      args.argmax[t] = stats[t].argmax;
      args.max[t] = stats[t].max;
      args.log_sum_exp[t] = stats[t].log_sum_exp;
    }
  }

  void Weights(const WeightsArgs& args) override { CpuWeights(args, pool_); }

 private:
  void Check(cudaError_t error, const char* what) { context_->Check(error, what); }

  const int32_t* Stage(const int32_t* values, int64_t count) {
    return context_->StageForOp(std::span(values, static_cast<size_t>(count)));
  }

  template <typename Load>
  absl::StatusOr<std::unique_ptr<Matrix>> Made(DType type, const Load& load) {
    if (absl::Status status = CheckWeightType(type); !status.ok()) return status;
    context_->MakeCurrent();
    absl::StatusOr<std::unique_ptr<CudaMatrix>> matrix = load();
    if (!matrix.ok()) return matrix.status();
    return std::unique_ptr<Matrix>(*std::move(matrix));
  }

  absl::Status ReserveStats(int64_t max_rows) {
    const int64_t bytes = max_rows * static_cast<int64_t>(sizeof(DeviceRowStats));
    auto stats = AllocateDevice(bytes, MemoryUse::kWorkspace, &memory());
    if (!stats.ok()) return stats.status();
    auto host = AllocatePinned(bytes);
    if (!host.ok()) return host.status();
    stats_ = *std::move(stats);
    host_stats_ = *std::move(host);
    return absl::OkStatus();
  }

  ThreadPool pool_;
  std::unique_ptr<CudaContext> context_;
  MatrixLoader loader_;
  CudaLinear linear_;
  CudaCacheWriter cache_writer_;
  CudaAttention attention_;
  Buffer stats_;       // [rows] DeviceRowStats
  Buffer host_stats_;  // the same, pinned
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(int device, int num_threads) {
  if (num_threads < 0 || num_threads > 1024) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads: expected 0 (all cores) to 1024, got ", num_threads));
  }
  auto context = CudaContext::Make(device);
  if (!context.ok()) return context.status();
  return std::make_unique<CudaBackend>(*std::move(context),
                                       num_threads == 0 ? AvailableCores() : num_threads);
}

}  // namespace lorc
