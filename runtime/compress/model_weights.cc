#include "runtime/compress/model_weights.h"

#include <algorithm>
#include <atomic>

#include "absl/strings/str_cat.h"
#include "runtime/compress/row_math.h"
#include "runtime/weights/status_macros.h"
#include "runtime/weights/tensor_role.h"

namespace lorc {
namespace {

constexpr int64_t kRowsAtOnce = 64;

absl::Status NotFinite(const Checkpoint& checkpoint, TensorRole role, int32_t layer) {
  return absl::InvalidArgumentError(absl::StrCat(
      checkpoint.config().name, ": ", IsPerLayer(role) ? absl::StrCat("layer ", layer, ": ") : "",
      Name(role), " has numbers that are not finite (NaN or infinity); the checkpoint is damaged"));
}

// One tensor below the other.
absl::Status Read(const Checkpoint& checkpoint, int32_t layer,
                  std::initializer_list<TensorRole> roles, ThreadPool& pool,
                  std::vector<float>& out) {
  int64_t size = 0;
  for (const TensorRole role : roles) {
    const TensorShape shape = checkpoint.Shape(role, layer);
    size += shape.rows * shape.columns;
  }
  out.resize(size);
  float* part = out.data();
  for (const TensorRole role : roles) {
    const TensorShape shape = checkpoint.Shape(role, layer);
    std::atomic<bool> finite = true;
    pool.ParallelFor((shape.rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](int64_t piece, int) {
      const int64_t begin = piece * kRowsAtOnce;
      const int64_t end = std::min(shape.rows, begin + kRowsAtOnce);
      float* rows = part + begin * shape.columns;
      checkpoint.ReadRows(role, layer, begin, end, rows);
      if (!AllFinite(rows, (end - begin) * shape.columns)) finite = false;
    });
    if (!finite) return NotFinite(checkpoint, role, layer);
    part += shape.rows * shape.columns;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadLayer(const Checkpoint& checkpoint, int32_t layer, ThreadPool& pool,
                       LayerWeights* weights) {
  const auto read = [&](std::initializer_list<TensorRole> roles, std::vector<float>& out) {
    return Read(checkpoint, layer, roles, pool, out);
  };
  LORC_RETURN_IF_ERROR(read({TensorRole::kAttentionNorm}, weights->attention_norm));
  LORC_RETURN_IF_ERROR(
      read({TensorRole::kQuery, TensorRole::kKey, TensorRole::kValue}, weights->qkv));
  LORC_RETURN_IF_ERROR(read({TensorRole::kAttentionOutput}, weights->attention_output));
  LORC_RETURN_IF_ERROR(read({TensorRole::kFfnNorm}, weights->ffn_norm));
  LORC_RETURN_IF_ERROR(read({TensorRole::kGate, TensorRole::kUp}, weights->gate_up));
  return read({TensorRole::kDown}, weights->down);
}

absl::Status ReadHead(const Checkpoint& checkpoint, ThreadPool& pool, HeadWeights* weights) {
  LORC_RETURN_IF_ERROR(Read(checkpoint, 0, {TensorRole::kOutputNorm}, pool, weights->norm));
  const TensorRole output =
      checkpoint.config().tied_embeddings ? TensorRole::kTokenEmbedding : TensorRole::kOutput;
  return Read(checkpoint, 0, {output}, pool, weights->output);
}

absl::Status ReadEmbeddings(const Checkpoint& checkpoint, const std::vector<int32_t>& tokens,
                            float* out) {
  const int64_t hidden = checkpoint.config().hidden_size;
  for (const int32_t token : tokens) {
    checkpoint.ReadRows(TensorRole::kTokenEmbedding, 0, token, token + 1, out);
    if (!AllFinite(out, hidden)) return NotFinite(checkpoint, TensorRole::kTokenEmbedding, 0);
    out += hidden;
  }
  return absl::OkStatus();
}

}  // namespace lorc
