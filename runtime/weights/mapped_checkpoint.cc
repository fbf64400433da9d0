#include "runtime/weights/mapped_checkpoint.h"

#include <utility>

#include "kernels/base/check.h"
#include "runtime/weights/tensor_role.h"

namespace lorc {

MappedCheckpoint::MappedCheckpoint(ModelConfig config, std::vector<StoredTensor> tensors)
    : config_(std::move(config)), tensors_(std::move(tensors)) {
  LORC_CHECK_EQ(static_cast<int64_t>(tensors_.size()), NumTensors(config_));
}

const StoredTensor& MappedCheckpoint::Find(TensorRole role, int32_t layer) const {
  if (IsPerLayer(role)) {
    LORC_CHECK_GE(layer, 0);
    LORC_CHECK_LT(layer, config_.num_layers);
  }
  return tensors_[static_cast<size_t>(TensorIndex(role, layer))];
}

TensorShape MappedCheckpoint::Shape(TensorRole role, int32_t layer) const {
  return Find(role, layer).shape;
}

void MappedCheckpoint::ReadRows(TensorRole role, int32_t layer, int64_t row_begin, int64_t row_end,
                                float* out) const {
  const StoredTensor& tensor = Find(role, layer);
  LORC_CHECK_LE(0, row_begin);
  LORC_CHECK_LE(row_begin, row_end);
  LORC_CHECK_LE(row_end, tensor.shape.rows);
  const int64_t columns = tensor.shape.columns;
  const int64_t row_bytes = *StoredBytes(tensor.type, columns);
  const int64_t d = tensor.interleaved_head_dim;
  if (d == 0) {
    Dequantize(tensor.type, tensor.data + row_begin * row_bytes, (row_end - row_begin) * columns,
               out);
    return;
  }
  for (int64_t row = row_begin; row < row_end; ++row, out += columns) {
    const int64_t in_head = row % d;
    const int64_t half = in_head / (d / 2);
    const int64_t pair = in_head % (d / 2);
    const int64_t stored_row = row - in_head + 2 * pair + half;
    Dequantize(tensor.type, tensor.data + stored_row * row_bytes, columns, out);
  }
}

std::string MappedCheckpoint::StoredType(TensorRole role, int32_t layer) const {
  return Name(Find(role, layer).type);
}

}  // namespace lorc
