#include "kernels/cuda/cuda_context.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/elementwise.h"

namespace lorc {
namespace {

constexpr int64_t kLeastOpStaging = int64_t{1} << 20;

constexpr int64_t Blocks(int64_t tokens, int64_t block_tokens) {
  return (tokens + block_tokens - 1) / block_tokens;
}

// Of BeginStep's one piece.
int64_t StepBytes(int64_t sequences, int64_t rows, int64_t table_entries) {
  return sequences * static_cast<int64_t>(sizeof(SequenceSpan)) +
         (2 * rows + 2 * table_entries) * static_cast<int64_t>(sizeof(int32_t));
}

std::string Version(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

absl::Status CheckDriver() {
  int driver = 0;
  int runtime = 0;
  LORC_CUDA_RETURN_IF_ERROR(cudaDriverGetVersion(&driver));
  LORC_CUDA_RETURN_IF_ERROR(cudaRuntimeGetVersion(&runtime));
  if (driver == 0) {
    return absl::FailedPreconditionError(
        "the CUDA backend needs an NVIDIA GPU with its driver; there is no driver here");
  }
  // Within a major version older drivers run newer programs.
  if (driver / 1000 < runtime / 1000) {
    return absl::FailedPreconditionError(
        absl::StrCat("the NVIDIA driver is too old: it supports CUDA ", Version(driver),
                     ", this program needs CUDA ", runtime / 1000, ".0 or later"));
  }
  return absl::OkStatus();
}

absl::Status CheckDevice(int device) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    return absl::FailedPreconditionError("the CUDA backend needs an NVIDIA GPU; there is none");
  }
  LORC_CUDA_RETURN_IF_ERROR(error);
  if (device < 0 || device >= count) {
    return absl::FailedPreconditionError(
        absl::StrCat("there is no CUDA device ", device, ": there are ", count));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaContext>> CudaContext::Make(int device) {
  if (absl::Status status = CheckDriver(); !status.ok()) return status;
  if (absl::Status status = CheckDevice(device); !status.ok()) return status;
  std::unique_ptr<CudaContext> context(new CudaContext(device));
  LORC_CUDA_RETURN_IF_ERROR(cudaSetDevice(device));
  LORC_CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&context->properties_, device));
  const cudaDeviceProp& found = context->properties_;
  const std::string has =
      absl::StrCat(found.name, " has compute capability ", found.major, ".", found.minor);
  if (found.major < 8) {
    return absl::FailedPreconditionError(
        absl::StrCat(has, "; the CUDA backend needs an NVIDIA GPU of 8.0 or later"));
  }
  const cudaError_t code = CheckDeviceCode();
  if (code == cudaErrorNoKernelImageForDevice || code == cudaErrorInvalidDeviceFunction) {
    return absl::FailedPreconditionError(absl::StrCat(
        has, ", which this program was not built for; build it with -DCMAKE_CUDA_ARCHITECTURES=",
        found.major, found.minor));
  }
  LORC_CUDA_RETURN_IF_ERROR(code);
  auto stream = MakeCudaStream();
  if (!stream.ok()) return stream.status();
  context->stream_ = *std::move(stream);
  auto event = MakeCudaEvent();
  if (!event.ok()) return event.status();
  context->step_sent_ = *std::move(event);
  if (absl::Status status = CublasStatus(cublasLtCreate(&context->cublas_), "cublasLtCreate");
      !status.ok()) {
    return status;
  }
  if (absl::Status status = context->op_staging_.Reserve(kLeastOpStaging, &context->account_);
      !status.ok()) {
    return status;
  }
  return context;
}

CudaContext::~CudaContext() {
  if (stream() != nullptr) {
    (void)cudaSetDevice(device_);
    (void)cudaStreamSynchronize(stream());
  }
  if (cublas_ != nullptr) (void)cublasLtDestroy(cublas_);
}

absl::Status CudaContext::Reserve(const BackendLimits& limits, const CudaScratch& scratch) {
  if (absl::Status status = Synchronize(); !status.ok()) return status;
  workspace_ = Arena();
  auto workspace = AllocateDevice(scratch.workspace_bytes, MemoryUse::kWorkspace, &account_);
  if (!workspace.ok()) return workspace.status();
  workspace_ = Arena(*std::move(workspace));
  const int64_t entries = limits.max_sequences * Blocks(limits.max_context, limits.block_tokens);
  if (absl::Status status = step_staging_.Reserve(
          StepBytes(limits.max_sequences, limits.max_rows, entries), &account_);
      !status.ok()) {
    return status;
  }
  // Two ops' pieces: one can be on its way while the other is written.
  return op_staging_.Reserve(std::max(kLeastOpStaging, 2 * scratch.op_staging_bytes), &account_);
}

void CudaContext::BeginStep(const StepArgs& args) {
  // The copy before must have left the pinned memory.
  Check(cudaEventSynchronize(step_sent_.get()), "cudaEventSynchronize");
  int64_t num_rows = 0;
  int64_t entries = 0;
  for (const SequenceSpan& span : args.sequences) {
    LORC_CHECK_EQ(span.row, num_rows);
    num_rows += span.count;
    entries += Blocks(span.first + span.count, args.block_tokens);
  }
  const int64_t num_sequences = std::ssize(args.sequences);
  step_staging_.Restart();
  const Staging::Piece piece = step_staging_.Take(StepBytes(num_sequences, num_rows, entries));
  LORC_CHECK(piece.host != nullptr || piece.size_bytes == 0);
  const auto on_device = [&piece](auto* host) {
    return reinterpret_cast<decltype(host)>(piece.device +
                                            (reinterpret_cast<std::byte*>(host) - piece.host));
  };
  auto* spans = reinterpret_cast<SequenceSpan*>(piece.host);
  auto* row_sequence = reinterpret_cast<int32_t*>(spans + num_sequences);
  int32_t* row_position = row_sequence + num_rows;
  int32_t* const tables = row_position + num_rows;
  int32_t* table = tables;
  step_tables_.assign(num_sequences, {});
  for (int64_t i = 0; i < num_sequences; ++i) {
    SequenceSpan span = args.sequences[i];
    std::fill_n(row_sequence + span.row, span.count, static_cast<int32_t>(i));
    for (int64_t t = 0; t < span.count; ++t) {
      row_position[span.row + t] = static_cast<int32_t>(span.first + t);
    }
    const int64_t blocks = Blocks(span.first + span.count, args.block_tokens);
    const auto add_table = [&](const int32_t*& from, int32_t& begin) {
      if (from == nullptr) return;
      begin = static_cast<int32_t>(table - tables);
      std::copy_n(from, blocks, table);
      from = on_device(table);
      table += blocks;
    };
    add_table(span.latent_blocks, step_tables_[i].latent);
    add_table(span.exact_blocks, step_tables_[i].exact);
    spans[i] = span;
  }
  step_ = {static_cast<int32_t>(num_sequences),
           static_cast<int32_t>(num_rows),
           on_device(spans),
           on_device(row_sequence),
           on_device(row_position),
           on_device(tables)};
  ++step_number_;
  if (piece.size_bytes == 0) return;
  Check(Staging::Send(piece, stream()), "cudaMemcpyAsync");
  Check(cudaEventRecord(step_sent_.get(), stream()), "cudaEventRecord");
}

Staging::Piece CudaContext::TakeForOp(int64_t size_bytes) {
  Staging::Piece piece = op_staging_.Take(size_bytes);
  if (piece.host == nullptr) {
    Check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
    op_staging_.Restart();
    piece = op_staging_.Take(size_bytes);
    LORC_CHECK(piece.host != nullptr);
  }
  return piece;
}

void CudaContext::Fail(absl::Status status) {
  if (status_.ok()) status_ = std::move(status);
}

absl::Status CudaContext::Synchronize() {
  MakeCurrent();
  Check(cudaStreamSynchronize(stream()), "a step on the device");
  op_staging_.Restart();
  return status_;
}

}  // namespace lorc
