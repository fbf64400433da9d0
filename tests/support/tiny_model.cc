#include "tests/support/tiny_model.h"

#include <cmath>
#include <string_view>
#include <utility>

#include "kernels/base/check.h"
#include "runtime/weights/tensor_role.h"

namespace lorc::test {
namespace {

using Kind = Vocabulary::Kind;

// SplitMix64; the library's distributions differ between implementations.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  // In [-1, 1), a multiple of 2^-23.
  float Uniform() {
    state_ += 0x9e3779b97f4a7c15u;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return static_cast<float>(static_cast<int32_t>(z >> 40) - (1 << 23)) * 0x1p-23f;
  }

 private:
  uint64_t state_;
};

std::string Utf8(uint32_t code_point) {  // below 0x800
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xc0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 63))};
}

// GPT-2's alphabet: a printable byte stands for itself, the others follow from U+0100 on.
std::vector<std::string> ByteAlphabet() {
  std::vector<std::string> alphabet;
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    alphabet.push_back(Utf8(printable ? byte : next++));
  }
  return alphabet;
}

Vocabulary MakeVocabulary() {
  Vocabulary vocabulary;
  vocabulary.pre_tokenizer = "smollm";
  vocabulary.bos = 1;
  vocabulary.eos = {2};
  vocabulary.chat_template =
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
      "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
      "{{ '<|im_start|>assistant\\n' }}{% endif %}";
  for (const char* text : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"})
    vocabulary.tokens.push_back({text, Kind::kControl});
  vocabulary.tokens.push_back({"<tool>", Kind::kUserDefined});
  for (std::string& text : ByteAlphabet()) vocabulary.tokens.push_back({std::move(text)});
  const std::string space = "\u0120";
  const std::pair<std::string, std::string> merges[] = {
      {space, "t"}, {space, "a"},        {"h", "e"}, {"i", "n"},   {space + "t", "he"}, {"r", "e"},
      {"o", "n"},   {space, "w"},        {"e", "r"}, {"l", "l"},   {"o", "r"},          {"a", "n"},
      {"in", "g"},  {space + "w", "or"}, {"l", "d"}, {"he", "ll"}, {"hell", "o"},
  };
  for (const auto& merge : merges) {
    vocabulary.merges.push_back(merge);
    vocabulary.tokens.push_back({merge.first + merge.second});
  }
  return vocabulary;
}

}  // namespace

TinyModel::TinyModel(const TinyModelOptions& options) : vocabulary_(MakeVocabulary()) {
  LORC_CHECK_LE(static_cast<int64_t>(vocabulary_.tokens.size()), options.vocabulary_size);
  config_.name = "tiny";
  config_.architecture = "llama";
  config_.num_layers = options.num_layers;
  config_.hidden_size = options.hidden_size;
  config_.num_heads = options.num_heads;
  config_.num_kv_heads = options.num_kv_heads;
  config_.head_dim = options.head_dim;
  config_.ffn_size = options.ffn_size;
  config_.vocabulary_size = options.vocabulary_size;
  config_.context_length = options.context_length;
  config_.rope_base = options.rope_base;
  config_.rope_scaling = options.rope_scaling;
  config_.tied_embeddings = options.tied_embeddings;

  Random random(options.seed);
  tensors_.resize(static_cast<size_t>(NumTensors(config_)));
  for (const TensorRole role : kAllTensorRoles) {
    if (role == TensorRole::kOutput && config_.tied_embeddings) continue;
    const TensorShape shape = ExpectedShape(config_, role);
    const float width = std::sqrt(3.0f / static_cast<float>(shape.columns));
    for (int32_t layer = 0; layer < (IsPerLayer(role) ? config_.num_layers : 1); ++layer) {
      std::vector<float>& values = tensors_[static_cast<size_t>(TensorIndex(role, layer))];
      values.resize(static_cast<size_t>(shape.rows * shape.columns));
      for (float& value : values)
        value = IsNorm(role) ? 1.0f + 0.25f * random.Uniform() : width * random.Uniform();
    }
  }
}

const std::vector<float>& TinyModel::Values(TensorRole role, int32_t layer) const {
  if (role == TensorRole::kOutput && config_.tied_embeddings) role = TensorRole::kTokenEmbedding;
  return tensors_[static_cast<size_t>(TensorIndex(role, layer))];
}

}  // namespace lorc::test
