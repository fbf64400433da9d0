// What the two checkpoint formats share: tensors of known type and shape in mapped memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/model/model_config.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/stored_type.h"

namespace lorc {

struct StoredTensor {
  StoredType type = StoredType::kF32;
  const std::byte* data = nullptr;  // row-major, rows of whole blocks
  TensorShape shape;
  // d where each head's rows are stored in interleaved RoPE order (row 2j + s holds half s of pair
  // j), which ReadRows undoes; 0 where rows are in the interface's order.
  int64_t interleaved_head_dim = 0;
};

class MappedCheckpoint : public Checkpoint {
 public:
  const ModelConfig& config() const override { return config_; }
  TensorShape Shape(TensorRole role, int32_t layer) const override;
  void ReadRows(TensorRole role, int32_t layer, int64_t row_begin, int64_t row_end,
                float* out) const override;
  std::string StoredType(TensorRole role, int32_t layer) const override;

 protected:
  // `tensors` are in the order of TensorIndex; the subclass keeps their bytes mapped.
  MappedCheckpoint(ModelConfig config, std::vector<StoredTensor> tensors);

 private:
  const StoredTensor& Find(TensorRole role, int32_t layer) const;

  ModelConfig config_;
  std::vector<StoredTensor> tensors_;
};

}  // namespace lorc
