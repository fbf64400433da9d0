// What a model, a plan and a budget come to: the table of --dry-run and of start-up.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/memory.h"
#include "service/model_host.h"

namespace lorc {

struct TensorCapacity {
  std::string layout;
  int32_t rank = 0;  // numbers per token, all heads
  std::string type;  // of its segments, joined by "+"
  int64_t bytes_per_token = 0;
};

// "bf16", "int8+int4": each type of the segments once, in their order.
std::string SegmentTypes(const CacheTensor& tensor);

TensorCapacity DescribeTensor(const TensorPlan& plan, const CacheTensor& tensor);

// One way to keep the cache in the budget.
struct CacheCapacity {
  int64_t bytes_per_token = 0;  // of a token beyond the exact ones
  int64_t latent_blocks = 0;
  int64_t exact_blocks = 0;
  int64_t longest_request = 0;  // tokens that a request alone could have, context length aside
  // Requests for each of the lengths, at most max_running.
  std::vector<int64_t> concurrent;
};

struct CapacityReport {
  struct Layer {
    TensorCapacity key, value;
  };
  std::string model;    // one line
  std::string plan;     // one line
  std::string runs_on;  // one line
  std::vector<Layer> layers;
  std::string full_type;  // "bf16"
  int32_t block_tokens = 0;
  int64_t latent_block_bytes = 0;
  int64_t exact_block_bytes = 0;
  MemoryEstimate memory;
  int64_t budget_bytes = 0;
  std::string budget_origin;  // one line
  AvailableMemory available;
  int32_t max_sequence_tokens = 0;
  std::string sequence_origin;  // one line
  int32_t max_running = 0;
  std::vector<int64_t> lengths;  // tokens
  CacheCapacity with_plan;
  CacheCapacity with_full_cache;
};

// `tokens`: a length to count concurrent requests of; the longest one is counted too.
CapacityReport MakeCapacityReport(const ModelFiles& files, const CacheSize& size, int64_t tokens);

std::string ToText(const CapacityReport& report);
std::string ToJson(const CapacityReport& report);

}  // namespace lorc
