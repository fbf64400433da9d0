#include "kernels/cuda/staging.h"

#include "kernels/base/check.h"
#include "kernels/cuda/device_memory.h"

namespace lorc {

absl::Status Staging::Reserve(int64_t size_bytes, MemoryAccount* account) {
  used_ = 0;
  host_ = Buffer();
  device_ = Buffer();
  auto host = AllocatePinned(size_bytes);
  if (!host.ok()) return host.status();
  auto device = AllocateDevice(size_bytes, MemoryUse::kWorkspace, account);
  if (!device.ok()) return device.status();
  host_ = *std::move(host);
  device_ = *std::move(device);
  return absl::OkStatus();
}

Staging::Piece Staging::Take(int64_t size_bytes) {
  LORC_CHECK_GE(size_bytes, 0);
  if (size_bytes > host_.size() - used_) return {};
  const Piece piece = {host_.data() + used_, device_.data() + used_, size_bytes};
  used_ = (used_ + size_bytes + 255) / 256 * 256;
  return piece;
}

cudaError_t Staging::Send(const Piece& piece, cudaStream_t stream) {
  return cudaMemcpyAsync(piece.device, piece.host, piece.size_bytes, cudaMemcpyHostToDevice,
                         stream);
}

}  // namespace lorc
