// A tiny LLaMA with random weights and a small byte-level vocabulary, and files that hold it.
//
// Everything follows from the options, on every machine: two models of the same options are equal.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runtime/model/model_config.h"
#include "runtime/tokenizer/vocabulary.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/stored_type.h"
#include "tests/support/gguf_builder.h"

namespace lorc::test {

struct TinyModelOptions {
  uint64_t seed = 1;
  int32_t num_layers = 2;
  int32_t hidden_size = 64;  // a multiple of 32 where a quantised type is written, as are
  int32_t num_heads = 4;     // num_heads * head_dim and ffn_size
  int32_t num_kv_heads = 2;
  int32_t head_dim = 16;
  int32_t ffn_size = 96;
  int32_t vocabulary_size = 288;  // embedding rows; at least the vocabulary's 277 tokens
  int32_t context_length = 512;
  double rope_base = 10000.0;
  RopeScaling rope_scaling = {};
  bool tied_embeddings = false;
};

class TinyModel {
 public:
  explicit TinyModel(const TinyModelOptions& options = {});

  const ModelConfig& config() const { return config_; }

  // Control tokens, one user-defined token, all 256 bytes and a few merges; pre-tokenizer "smollm",
  // a ChatML template, bos <|im_start|> that is not added, eos <|im_end|>.
  const Vocabulary& vocabulary() const { return vocabulary_; }

  // [rows, columns], q and k in half-split RoPE order. Matrices are uniform with the variance
  // 1/columns, norms lie around 1. kOutput of a tied model is the embedding.
  const std::vector<float>& Values(TensorRole role, int32_t layer) const;

 private:
  ModelConfig config_;
  Vocabulary vocabulary_;
  std::vector<std::vector<float>> tensors_;
};

// GGUF. Matrices have `matrix_type`, norms are F32. Llama 3.1's RoPE scaling is written as
// converters write it, as rope_freqs.weight.
struct TinyGgufOptions {
  StoredType matrix_type = StoredType::kF32;
  uint32_t version = 3;
};
GgufBuilder MakeTinyGguf(const TinyModel& model, const TinyGgufOptions& options = {});
absl::Status WriteTinyGguf(const TinyModel& model, const TinyGgufOptions& options,
                           const std::string& path);

// A Hugging Face folder, which must exist. RopeScaling::Type::kPerPair has no spelling there.
struct TinyHfOptions {
  StoredType type = StoredType::kF32;  // kF32, kF16 or kBf16
  bool rope_parameters = true;         // the config spelling of transformers 5; else that of 4
  int num_shards = 0;                  // 0: model.safetensors; else that many shards and an index
  bool merges_as_pairs = true;         // else as "a b"
};
absl::Status WriteTinyHf(const TinyModel& model, const TinyHfOptions& options,
                         const std::string& folder);

}  // namespace lorc::test
