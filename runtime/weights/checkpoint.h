// A LLaMA checkpoint on disk, GGUF or Hugging Face folder, behind one interface.
//
// Tensors are named by role, not by the format's spelling, and keys and queries come in Hugging
// Face's half-split RoPE order (pair j of a head is elements j and j + d/2) whatever the file's
// order is. Files are memory-mapped and hostile: every offset, extent and count is checked before
// use.
//
// Threads: const methods may be called from any thread at once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/model/model_config.h"
#include "runtime/tokenizer/vocabulary.h"

namespace lorc {

enum class TensorRole {
  kTokenEmbedding,   // [V, D]
  kOutputNorm,       // [1, D]
  kOutput,           // [V, D]; the embedding where the model ties them
  kAttentionNorm,    // per layer [1, D]
  kQuery,            // per layer [h*d, D]
  kKey,              // per layer [g*d, D]
  kValue,            // per layer [g*d, D]
  kAttentionOutput,  // per layer [D, h*d]
  kFfnNorm,          // per layer [1, D]
  kGate,             // per layer [F, D]
  kUp,               // per layer [F, D]
  kDown,             // per layer [D, F]
};

struct TensorShape {
  int64_t rows = 0;     // output features
  int64_t columns = 0;  // input features, contiguous
};

class Checkpoint {
 public:
  // `path` names a .gguf file or a folder with config.json and safetensors files.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& path);

  virtual ~Checkpoint() = default;

  virtual const ModelConfig& config() const = 0;

  // Everything that the tokenizer and the chat template need. UNIMPLEMENTED names what is not
  // supported.
  virtual absl::StatusOr<Vocabulary> ReadVocabulary() const = 0;

  // `layer` is ignored for roles that are not per layer. All tensors of the config exist with their
  // expected shapes once Open has succeeded.
  virtual TensorShape Shape(TensorRole role, int32_t layer) const = 0;

  // Dequantised rows [row_begin, row_end) into `out`, [row_end - row_begin, columns] floats,
  // caller's memory.
  virtual void ReadRows(TensorRole role, int32_t layer, int64_t row_begin, int64_t row_end,
                        float* out) const = 0;

  // The type the tensor has in the file ("Q4_1", "BF16", ...), for reports.
  virtual std::string StoredType(TensorRole role, int32_t layer) const = 0;

  // Tells the kernel that the mapped pages are not needed soon: call once the weights have been
  // packed.
  virtual void ReleasePages() const = 0;

  // Identifies the model by the values of its weights and its hyperparameters, not by its files, so
  // that a GGUF and a folder with the same values agree. 32 hexadecimal digits (XXH3-128 over
  // evenly spaced rows of every tensor).
  std::string Fingerprint() const;
};

}  // namespace lorc
