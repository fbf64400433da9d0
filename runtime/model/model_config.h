// Hyperparameters of a LLaMA-family model, as read from a checkpoint. Validated by the reader.
// Shape letters: D hidden, L layers, h query heads, g KV heads, d head width, V vocabulary.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lorc {

// Scaling of RoPE's inverse frequencies. kLinear divides them by `factor`. kLlama3: Llama 3.1's
// rule, by wavelength (transformers modeling_rope_utils, "llama3"). kPerPair divides the frequency
// of pair j by divisors[j]: the form in which a GGUF file holds Llama 3.1's rule.
struct RopeScaling {
  enum class Type { kNone, kLinear, kLlama3, kPerPair };
  Type type = Type::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  int32_t original_context_length = 8192;
  std::vector<float> divisors = {};  // [d/2], > 0, for kPerPair; else empty
};

struct ModelConfig {
  std::string name;          // for people: general.name, _name_or_path or the file's stem
  std::string architecture;  // "llama"
  int32_t num_layers = 0;    // L, 1..1024
  int32_t hidden_size = 0;   // D
  int32_t num_heads = 0;     // h
  int32_t num_kv_heads = 0;  // g, divides h
  int32_t head_dim = 0;      // d, a multiple of 8
  int32_t ffn_size = 0;
  int32_t vocabulary_size = 0;
  int32_t context_length = 0;
  float rms_norm_epsilon = 1e-5f;
  double rope_base = 10000.0;
  RopeScaling rope_scaling;
  bool tied_embeddings = false;  // the output product uses the token embedding

  int32_t kv_width() const { return num_kv_heads * head_dim; }       // g * d
  int32_t query_width() const { return num_heads * head_dim; }       // h * d
  int32_t heads_per_kv() const { return num_heads / num_kv_heads; }  // G
};

}  // namespace lorc
