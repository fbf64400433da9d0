// The real model of the tests (scripts/fetch_model.sh), uncompressed or under a plan.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/make_backend.h"
#include "runtime/kv/kv_layout.h"
#include "runtime/model/model_executor.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/weights/checkpoint.h"

namespace lorc::test {

// Value of an environment variable that the test runner sets; fails the test where it is missing.
std::string RequiredEnvironment(const char* name);

// A model with memory for `num_sequences` sequences of `max_tokens` tokens.
struct RunningModel {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<ModelExecutor> executor;
};

struct RunOptions {
  std::string backend = "cpu";  // one that this program and this machine have
  DType weight_type = DType::kF32;
  int32_t max_tokens = 1024;
  int32_t num_sequences = 1;
  int32_t max_step_tokens = 512;
  int num_threads = 0;
};

RunningModel Run(const Checkpoint& checkpoint, const KvPlan& plan, const RunOptions& options);

}  // namespace lorc::test
