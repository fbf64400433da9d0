#include <array>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "runtime/weights/tensor_role.h"
#include "tests/support/files.h"
#include "tests/support/quantize.h"
#include "tests/support/tiny_model.h"

namespace lorc::test {
namespace {

std::string TensorName(TensorRole role, int32_t layer) {
  static constexpr std::array<const char*, kAllTensorRoles.size()> kNames = {
      "token_embd", "output_norm", "output",   "attn_norm", "attn_q", "attn_k",
      "attn_v",     "attn_output", "ffn_norm", "ffn_gate",  "ffn_up", "ffn_down"};
  const char* name = kNames[static_cast<size_t>(role)];
  return IsPerLayer(role) ? absl::StrCat("blk.", layer, ".", name, ".weight")
                          : absl::StrCat(name, ".weight");
}

// Row by row as llama.cpp's converter does it: reshape(heads, 2, d/2, columns).swapaxes(1, 2).
std::vector<float> Interleave(const std::vector<float>& rows, int64_t head_dim, int64_t columns) {
  std::vector<float> result;
  const int64_t num_rows = static_cast<int64_t>(rows.size()) / columns;
  for (int64_t head = 0; head < num_rows / head_dim; ++head)
    for (int64_t pair = 0; pair < head_dim / 2; ++pair)
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t row = head * head_dim + half * (head_dim / 2) + pair;
        const auto begin = rows.begin() + row * columns;
        result.insert(result.end(), begin, begin + columns);
      }
  return result;
}

void AddConfig(const ModelConfig& config, GgufBuilder* gguf) {
  gguf->SetString("general.architecture", "llama");
  gguf->SetString("general.name", config.name);
  gguf->SetUint32("llama.block_count", static_cast<uint32_t>(config.num_layers));
  gguf->SetUint32("llama.context_length", static_cast<uint32_t>(config.context_length));
  gguf->SetUint32("llama.embedding_length", static_cast<uint32_t>(config.hidden_size));
  gguf->SetUint32("llama.feed_forward_length", static_cast<uint32_t>(config.ffn_size));
  gguf->SetUint32("llama.attention.head_count", static_cast<uint32_t>(config.num_heads));
  gguf->SetUint32("llama.attention.head_count_kv", static_cast<uint32_t>(config.num_kv_heads));
  gguf->SetUint32("llama.attention.key_length", static_cast<uint32_t>(config.head_dim));
  gguf->SetUint32("llama.attention.value_length", static_cast<uint32_t>(config.head_dim));
  gguf->SetUint32("llama.rope.dimension_count", static_cast<uint32_t>(config.head_dim));
  gguf->SetFloat32("llama.attention.layer_norm_rms_epsilon", config.rms_norm_epsilon);
  gguf->SetFloat32("llama.rope.freq_base", static_cast<float>(config.rope_base));
}

// Llama 3.1's rule in single precision, as converters work it out.
std::vector<float> Llama3Divisors(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  std::vector<float> divisors;
  for (int32_t j = 0; j < config.head_dim / 2; ++j) {
    const float exponent = 2.0f * static_cast<float>(j) / static_cast<float>(config.head_dim);
    const float frequency = 1.0f / std::pow(static_cast<float>(config.rope_base), exponent);
    const float wavelength = 2.0f * std::numbers::pi_v<float> / frequency;
    const auto original = static_cast<float>(scaling.original_context_length);
    const auto low = static_cast<float>(scaling.low_freq_factor);
    const auto high = static_cast<float>(scaling.high_freq_factor);
    const auto factor = static_cast<float>(scaling.factor);
    if (wavelength < original / high) {
      divisors.push_back(1.0f);
    } else if (wavelength > original / low) {
      divisors.push_back(factor);
    } else {
      const float smooth = (original / wavelength - low) / (high - low);
      divisors.push_back(1.0f / ((1.0f - smooth) / factor + smooth));
    }
  }
  return divisors;
}

void AddRopeScaling(const ModelConfig& config, GgufBuilder* gguf) {
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.type == RopeScaling::Type::kLinear) {
    gguf->SetString("llama.rope.scaling.type", "linear");
    gguf->SetFloat32("llama.rope.scaling.factor", static_cast<float>(scaling.factor));
  }
  std::vector<float> divisors = scaling.divisors;
  if (scaling.type == RopeScaling::Type::kLlama3) divisors = Llama3Divisors(config);
  if (!divisors.empty())
    gguf->AddTensor({"rope_freqs.weight",
                     GgmlTypeId(StoredType::kF32),
                     {static_cast<int64_t>(divisors.size())},
                     Quantize(StoredType::kF32, divisors)});
}

void AddVocabulary(const Vocabulary& vocabulary, GgufBuilder* gguf) {
  std::vector<std::string> texts;
  std::vector<int32_t> types;
  for (const Vocabulary::Token& token : vocabulary.tokens) {
    texts.push_back(token.text);
    types.push_back(token.kind == Vocabulary::Kind::kNormal        ? 1
                    : token.kind == Vocabulary::Kind::kControl     ? 3
                    : token.kind == Vocabulary::Kind::kUserDefined ? 4
                                                                   : 5);
  }
  std::vector<std::string> merges;
  for (const auto& [left, right] : vocabulary.merges)
    merges.push_back(absl::StrCat(left, " ", right));
  gguf->SetString("tokenizer.ggml.model", "gpt2");
  gguf->SetString("tokenizer.ggml.pre", vocabulary.pre_tokenizer);
  gguf->SetStrings("tokenizer.ggml.tokens", texts);
  gguf->SetInt32s("tokenizer.ggml.token_type", types);
  gguf->SetStrings("tokenizer.ggml.merges", merges);
  gguf->SetUint32("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(vocabulary.bos));
  gguf->SetUint32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(vocabulary.eos[0]));
  gguf->SetBool("tokenizer.ggml.add_bos_token", vocabulary.add_bos);
  gguf->SetString("tokenizer.chat_template", vocabulary.chat_template);
}

}  // namespace

GgufBuilder MakeTinyGguf(const TinyModel& model, const TinyGgufOptions& options) {
  const ModelConfig& config = model.config();
  GgufBuilder gguf;
  gguf.version = options.version;
  AddConfig(config, &gguf);
  AddVocabulary(model.vocabulary(), &gguf);
  AddRopeScaling(config, &gguf);
  for (const TensorRole role : kAllTensorRoles) {
    if (role == TensorRole::kOutput && config.tied_embeddings) continue;
    const TensorShape shape = ExpectedShape(config, role);
    const StoredType type = IsNorm(role) ? StoredType::kF32 : options.matrix_type;
    const bool rotated = role == TensorRole::kQuery || role == TensorRole::kKey;
    for (int32_t layer = 0; layer < (IsPerLayer(role) ? config.num_layers : 1); ++layer) {
      std::vector<float> values = model.Values(role, layer);
      if (rotated) values = Interleave(values, config.head_dim, shape.columns);
      std::vector<int64_t> extents = {shape.columns};
      if (!IsNorm(role)) extents.push_back(shape.rows);
      gguf.AddTensor(
          {TensorName(role, layer), GgmlTypeId(type), std::move(extents), Quantize(type, values)});
    }
  }
  return gguf;
}

absl::Status WriteTinyGguf(const TinyModel& model, const TinyGgufOptions& options,
                           const std::string& path) {
  return WriteFile(path, MakeTinyGguf(model, options).Build());
}

}  // namespace lorc::test
