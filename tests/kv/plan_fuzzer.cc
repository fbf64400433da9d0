// Any bytes as a plan file: an error or a plan, and a plan that validates against a model or is
// refused.

#include <cstdint>

#include "runtime/kv/plan_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = lorc::Safetensors::Parse(std::as_bytes(std::span(data, size)), "fuzz");
  if (!file.ok()) return 0;
  const auto plan = lorc::ParsePlan(*file);
  if (!plan.ok()) return 0;
  lorc::ModelConfig config;
  config.num_layers = static_cast<int32_t>(plan->layers.size());
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  if (plan->Validate(config).ok()) lorc::PlanHeaderJson(*plan);
  return 0;
}
