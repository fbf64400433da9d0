#include "tests/kernels/backend_fixture.h"

#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/make_backend.h"

namespace lorc {

BackendLimits TestLimits() {
  BackendLimits limits;
  limits.max_rows = 512;
  limits.max_sequences = 16;
  limits.max_logit_rows = 64;
  limits.max_columns = 2048;
  limits.max_gated_width = 2048;
  limits.max_context = 4096;
  limits.num_heads = 32;
  limits.num_kv_heads = 8;
  limits.head_dim = 128;
  limits.max_latent_width = 1024;
  limits.block_tokens = 16;
  return limits;
}

absl::StatusOr<Backend*> SharedBackend(const std::string& name) {
  static auto* const made = new std::map<std::string, absl::StatusOr<std::unique_ptr<Backend>>>;
  auto found = made->find(name);
  if (found == made->end()) {
    auto backend = MakeBackend(name, 2);
    if (backend.ok()) {
      if (absl::Status status = (*backend)->Reserve(TestLimits()); !status.ok()) backend = status;
    }
    found = made->emplace(name, std::move(backend)).first;
  }
  if (!found->second.ok()) return found->second.status();
  return found->second->get();
}

void ForEachTarget(const Backend& backend, const std::function<void(const std::string&)>& body) {
  if (std::string(backend.name()) == "cpu") {
    ForEachInstructionSet(body);
  } else {
    body(backend.name());
  }
}

DeviceValues::DeviceValues(Backend& backend, DType type, std::span<const float> values)
    : backend_(&backend), type_(type), count_(std::ssize(values)) {
  LORC_CHECK(type == DType::kF32 || type == DType::kBf16);
  auto buffer = backend.Allocate(count_ * ByteSize(type), MemoryUse::kActivations);
  LORC_CHECK(buffer.ok());
  buffer_ = *std::move(buffer);
  if (type == DType::kF32) {
    backend.CopyIn(buffer_.data(), values.data(), buffer_.size());
    return;
  }
  const std::vector<bf16_t> rounded = ToBf16({values.begin(), values.end()});
  backend.CopyIn(buffer_.data(), rounded.data(), buffer_.size());
}

DeviceValues DeviceValues::Poisoned(Backend& backend, DType type, int64_t count) {
  return {backend, type, std::vector<float>(count, NAN)};
}

std::vector<float> DeviceValues::Read() const {
  std::vector<float> values(count_);
  if (type_ == DType::kF32) {
    backend_->CopyOut(values.data(), buffer_.data(), buffer_.size());
    return values;
  }
  std::vector<bf16_t> rounded(count_);
  backend_->CopyOut(rounded.data(), buffer_.data(), buffer_.size());
  for (int64_t i = 0; i < count_; ++i) values[i] = Bf16ToF32(rounded[i]);
  return values;
}

void BackendTest::SetUp() {
  const auto found = SharedBackend(GetParam().backend);
  if (!found.ok()) {
    ASSERT_FALSE(on_cpu()) << found.status();
    GTEST_SKIP() << found.status().message();
  }
  backend_ = *found;
  ASSERT_TRUE(backend_->status().ok()) << backend_->status();
}

}  // namespace lorc
