// What the offline commands have in common: a model, how it runs, and opening it.
#pragma once

#include <memory>
#include <string>
#include <CLI/CLI.hpp>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/weights/checkpoint.h"

namespace lorc {

struct ModelOptions {
  std::string model;
  std::string backend = "cpu";  // cpu or cuda
  std::string weights;          // f32, bf16 or int8; empty: the backend's default
  int threads = 0;

  void AddTo(CLI::App& command);
};

struct OpenedModel {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;
  DType weight_type = DType::kBf16;
};

absl::StatusOr<OpenedModel> OpenModel(const ModelOptions& options);

}  // namespace lorc
