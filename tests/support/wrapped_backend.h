// A backend that passes everything on to another: tests change single calls of it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"

namespace lorc::test {

class WrappedBackend : public Backend {
 public:
  explicit WrappedBackend(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}

  const char* name() const override { return backend_->name(); }
  std::string description() const override { return backend_->description(); }
  DType default_weight_type() const override { return backend_->default_weight_type(); }
  absl::Status CheckWeightType(DType type) const override {
    return backend_->CheckWeightType(type);
  }
  absl::Status CheckLayer(const CacheLayer& layer) const override {
    return backend_->CheckLayer(layer);
  }
  MemoryAccount& memory() override { return backend_->memory(); }
  std::optional<int64_t> free_device_bytes() const override {
    return backend_->free_device_bytes();
  }
  bool has_host_memory() const override { return backend_->has_host_memory(); }
  absl::StatusOr<Buffer> Allocate(int64_t size_bytes, MemoryUse use) override {
    return backend_->Allocate(size_bytes, use);
  }
  absl::StatusOr<Buffer> AllocateHost(int64_t size_bytes) override {
    return backend_->AllocateHost(size_bytes);
  }
  void CopyIn(void* to, const void* from_host, int64_t bytes) override {
    backend_->CopyIn(to, from_host, bytes);
  }
  void CopyOut(void* to_host, const void* from, int64_t bytes) override {
    backend_->CopyOut(to_host, from, bytes);
  }
  absl::Status status() override { return backend_->status(); }

  absl::StatusOr<std::unique_ptr<Matrix>> MakeMatrix(const MatrixSource& source,
                                                     DType type) override {
    return backend_->MakeMatrix(source, type);
  }
  absl::StatusOr<std::unique_ptr<Matrix>> MakeGatedMatrix(const MatrixSource& gate,
                                                          const MatrixSource& up,
                                                          DType type) override {
    return backend_->MakeGatedMatrix(gate, up, type);
  }
  absl::StatusOr<std::unique_ptr<Basis>> MakeBasis(const BasisSource& source, bool is_key,
                                                   DType type) override {
    return backend_->MakeBasis(source, is_key, type);
  }
  int64_t BasisBytes(const BasisSource& source, bool is_key, DType type) const override {
    return backend_->BasisBytes(source, is_key, type);
  }
  absl::Status Reserve(const BackendLimits& limits) override { return backend_->Reserve(limits); }
  std::vector<int32_t> WarmUpRows(int32_t max_rows) const override {
    return backend_->WarmUpRows(max_rows);
  }

  void BeginStep(const StepArgs& args) override { backend_->BeginStep(args); }
  void Embed(const EmbedArgs& args) override { backend_->Embed(args); }
  void RmsNorm(const RmsNormArgs& args) override { backend_->RmsNorm(args); }
  void Linear(const LinearArgs& args) override { backend_->Linear(args); }
  void WriteCache(const WriteCacheArgs& args) override { backend_->WriteCache(args); }
  void Attend(const AttendArgs& args) override { backend_->Attend(args); }
  void RowStats(const RowStatsArgs& args) override { backend_->RowStats(args); }
  void Weights(const WeightsArgs& args) override { backend_->Weights(args); }

 private:
  std::unique_ptr<Backend> backend_;
};

}  // namespace lorc::test
