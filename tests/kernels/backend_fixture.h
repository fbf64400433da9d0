// The same case on every backend: found by name, its memory filled and read back.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "tests/kernels/kernel_test_util.h"

namespace lorc {

// What the kernel tests need at most.
BackendLimits TestLimits();

// The backend of that name with TestLimits() reserved, made at first use and kept. An error says
// why this program or this machine has none.
absl::StatusOr<Backend*> SharedBackend(const std::string& name);

// Once per instruction set on the CPU, else once.
void ForEachTarget(const Backend& backend, const std::function<void(const std::string&)>& body);

// Numbers in a backend's memory. Written as `type`, read as floats.
class DeviceValues {
 public:
  DeviceValues(Backend& backend, DType type, std::span<const float> values);
  // NaN everywhere: what an op does not write shows.
  static DeviceValues Poisoned(Backend& backend, DType type, int64_t count);

  DType type() const { return type_; }
  void* data() { return buffer_.data(); }
  float* floats() { return buffer_.as<float>(); }
  std::vector<float> Read() const;

 private:
  Backend* backend_;
  DType type_;
  int64_t count_;
  Buffer buffer_;
};

struct BackendCase {
  const char* backend;
  DType type;
};

inline std::string NameOf(const testing::TestParamInfo<BackendCase>& test) {
  return std::string(test.param.backend) + "_" + Name(test.param.type);
}

// Skips, visibly, what this program or machine can't run; the CPU must be there.
class BackendTest : public testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override;

  Backend& backend() { return *backend_; }
  DType type() const { return GetParam().type; }
  bool on_cpu() const { return std::string(GetParam().backend) == "cpu"; }

 private:
  Backend* backend_ = nullptr;
};

}  // namespace lorc
