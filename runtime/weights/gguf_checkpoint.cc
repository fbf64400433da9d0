#include "runtime/weights/gguf_checkpoint.h"

#include <array>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/weights/gguf.h"
#include "runtime/weights/gguf_config.h"
#include "runtime/weights/gguf_vocabulary.h"
#include "runtime/weights/mapped_checkpoint.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"
#include "runtime/weights/tensor_role.h"

namespace lorc {
namespace {

std::string TensorName(TensorRole role, int32_t layer) {
  static constexpr std::array<const char*, kAllTensorRoles.size()> kNames = {
      "token_embd", "output_norm", "output",   "attn_norm", "attn_q", "attn_k",
      "attn_v",     "attn_output", "ffn_norm", "ffn_gate",  "ffn_up", "ffn_down"};
  const char* name = kNames[static_cast<size_t>(role)];
  return IsPerLayer(role) ? absl::StrCat("blk.", layer, ".", name, ".weight")
                          : absl::StrCat(name, ".weight");
}

std::string Extents(const GgufTensor& tensor) {
  std::string text;
  for (int32_t i = tensor.rank; i-- > 0;)
    absl::StrAppend(&text, text.empty() ? "" : " x ", tensor.extents[static_cast<size_t>(i)]);
  return text;
}

absl::StatusOr<StoredTensor> FindTensor(const Gguf& gguf, const ModelConfig& config,
                                        TensorRole role, const std::string& name) {
  const std::string source = absl::StrCat(Printable(gguf.name()), ": tensor ", name);
  const GgufTensor* tensor = gguf.FindTensor(name);
  if (tensor == nullptr)
    return absl::InvalidArgumentError(
        absl::StrCat(source, " is missing; the file does not hold the whole model"));
  if (!tensor->type)
    return absl::UnimplementedError(absl::StrCat(
        source, " has type ", GgmlTypeName(tensor->type_id),
        "; F32, F16, BF16, Q8_0, Q4_0 and Q4_1 are supported. Quantise the model to one of these"));
  const TensorShape expected = ExpectedShape(config, role);
  const auto& extents = tensor->extents;
  if (extents[0] != expected.columns || extents[1] != expected.rows || extents[2] != 1 ||
      extents[3] != 1)
    return absl::InvalidArgumentError(absl::StrCat(source, " has the shape ", Extents(*tensor),
                                                   "; the hyperparameters ask for ", expected.rows,
                                                   " x ", expected.columns));
  StoredTensor stored{*tensor->type, tensor->data.data(), expected, 0};
  // Converters reorder the rows of q and k so that RoPE's pairs are neighbours.
  if (role == TensorRole::kQuery || role == TensorRole::kKey)
    stored.interleaved_head_dim = config.head_dim;
  return stored;
}

class GgufCheckpoint final : public MappedCheckpoint {
 public:
  GgufCheckpoint(Gguf gguf, ModelConfig config, std::vector<StoredTensor> tensors)
      : MappedCheckpoint(std::move(config), std::move(tensors)), gguf_(std::move(gguf)) {}

  absl::StatusOr<Vocabulary> ReadVocabulary() const override {
    return ReadGgufVocabulary(gguf_, config().vocabulary_size);
  }

  void ReleasePages() const override { gguf_.ReleasePages(); }

 private:
  Gguf gguf_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGgufCheckpoint(const std::string& path) {
  LORC_ASSIGN_OR_RETURN(Gguf gguf, Gguf::Open(path));
  LORC_ASSIGN_OR_RETURN(ModelConfig config, ReadGgufConfig(gguf));
  std::vector<StoredTensor> tensors(static_cast<size_t>(NumTensors(config)));
  std::set<std::string, std::less<>> used = {"rope_freqs.weight"};
  for (const TensorRole role : kAllTensorRoles) {
    const int32_t copies = IsPerLayer(role) ? config.num_layers : 1;
    for (int32_t layer = 0; layer < copies; ++layer) {
      const bool shared = role == TensorRole::kOutput && config.tied_embeddings;
      std::string name = TensorName(shared ? TensorRole::kTokenEmbedding : role, layer);
      LORC_ASSIGN_OR_RETURN(tensors[static_cast<size_t>(TensorIndex(role, layer))],
                            FindTensor(gguf, config, role, name));
      used.insert(std::move(name));
    }
  }
  // A tensor without a role (a bias, an expert) means that the model computes more than we would.
  for (const GgufTensor& tensor : gguf.tensors())
    if (!used.contains(tensor.name))
      return absl::UnimplementedError(
          absl::StrCat(Printable(path), ": tensor ", Printable(tensor.name),
                       " has no place in a plain LLaMA model of ", config.num_layers,
                       " layers; biases, experts and adapters are not supported"));
  return std::make_unique<GgufCheckpoint>(std::move(gguf), std::move(config), std::move(tensors));
}

}  // namespace lorc
