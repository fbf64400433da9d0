#include "runtime/model/llama.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "runtime/weights/status_macros.h"
#include "runtime/weights/tensor_role.h"

namespace lorc {
namespace {

// Reads tensors as matrix sources, with a layer's heads in the plan's order, and remembers one
// whose values are not all finite.
class TensorReader {
 public:
  TensorReader(const Checkpoint& checkpoint, int32_t layer, std::span<const int32_t> head_order)
      : checkpoint_(checkpoint), layer_(layer), head_order_(head_order) {}

  MatrixSource Source(TensorRole role) const {
    const TensorShape shape = checkpoint_.Shape(role, layer_);
    return {shape.rows, shape.columns,
            [this, role](int64_t begin, int64_t end, float* out) { Read(role, begin, end, out); }};
  }

  std::vector<float> Values(TensorRole role) const {
    const TensorShape shape = checkpoint_.Shape(role, layer_);
    std::vector<float> values(shape.rows * shape.columns);
    Read(role, 0, shape.rows, values.data());
    return values;
  }

  absl::Status status() const {
    const int damaged = damaged_.load();
    if (damaged < 0) return absl::OkStatus();
    const auto role = static_cast<TensorRole>(damaged);
    const std::string where = IsPerLayer(role) ? absl::StrCat("layer ", layer_, ": ") : "";
    return absl::InvalidArgumentError(absl::StrCat(
        checkpoint_.config().name, ": ", where, Name(role),
        " has numbers that are not finite (NaN or infinity); the checkpoint is damaged"));
  }

 private:
  void Read(TensorRole role, int64_t begin, int64_t end, float* out) const {
    ReadOrdered(role, begin, end, out);
    const int64_t count = (end - begin) * checkpoint_.Shape(role, layer_).columns;
    // Zero times a finite number is zero; anything else shows in the sum.
    float sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += out[i] * 0.0f;
    if (sum != 0.0f) damaged_.store(static_cast<int>(role), std::memory_order_relaxed);
  }

  void ReadOrdered(TensorRole role, int64_t begin, int64_t end, float* out) const {
    const ModelConfig& config = checkpoint_.config();
    const int64_t columns = checkpoint_.Shape(role, layer_).columns;
    const bool by_query_head = role == TensorRole::kQuery || role == TensorRole::kAttentionOutput;
    const bool by_kv_head = role == TensorRole::kKey || role == TensorRole::kValue;
    if (head_order_.empty() || !(by_query_head || by_kv_head)) {
      checkpoint_.ReadRows(role, layer_, begin, end, out);
      return;
    }
    // Rows or columns of one KV head.
    const int64_t block = config.head_dim * (by_query_head ? config.heads_per_kv() : 1);
    if (role == TensorRole::kAttentionOutput) {
      std::vector<float> row(columns);
      for (; begin < end; ++begin) {
        checkpoint_.ReadRows(role, layer_, begin, begin + 1, row.data());
        for (const int32_t head : head_order_) {
          out = std::copy_n(row.begin() + head * block, block, out);
        }
      }
      return;
    }
    while (begin < end) {
      const int64_t place = begin / block;
      const int64_t count = std::min(end, (place + 1) * block) - begin;
      const int64_t from = head_order_[place] * block + begin % block;
      checkpoint_.ReadRows(role, layer_, from, from + count, out);
      out += count * columns;
      begin += count;
    }
  }

  const Checkpoint& checkpoint_;
  const int32_t layer_;
  const std::span<const int32_t> head_order_;
  mutable std::atomic<int> damaged_{-1};  // the role of a tensor that is not finite
};

// encoder W: [groups * rank, D] from W [g*d, D].
std::vector<float> Encode(const TensorPlan& plan, const std::vector<float>& weight,
                          int64_t columns) {
  const int64_t rows = std::ssize(weight) / columns;
  const int64_t group_width = rows / plan.groups;
  std::vector<float> out(plan.groups * plan.rank * columns);
  std::vector<double> sum(columns);
  for (int64_t r = 0; r < plan.groups * plan.rank; ++r) {
    const float* encoder = plan.encoder.data() + r * group_width;
    const float* from = weight.data() + r / plan.rank * group_width * columns;
    std::fill(sum.begin(), sum.end(), 0.0);
    for (int64_t i = 0; i < group_width; ++i) {
      for (int64_t k = 0; k < columns; ++k) {
        sum[k] += static_cast<double>(encoder[i]) * from[i * columns + k];
      }
    }
    std::copy(sum.begin(), sum.end(), out.begin() + r * columns);
  }
  return out;
}

MatrixSource SourceOf(const std::vector<float>& values, int64_t columns) {
  return {std::ssize(values) / columns, columns,
          [&values, columns](int64_t begin, int64_t end, float* out) {
            std::copy(values.begin() + begin * columns, values.begin() + end * columns, out);
          }};
}

// One matrix below the other.
MatrixSource Stack(std::vector<MatrixSource> parts) {
  MatrixSource stacked;
  stacked.columns = parts[0].columns;
  for (const MatrixSource& part : parts) stacked.rows += part.rows;
  stacked.read_rows = [parts = std::move(parts)](int64_t begin, int64_t end, float* out) {
    int64_t first = 0;
    for (const MatrixSource& part : parts) {
      const int64_t from = std::max(begin, first);
      const int64_t to = std::min(end, first + part.rows);
      if (from < to) {
        part.read_rows(from - first, to - first, out + (from - begin) * part.columns);
      }
      first += part.rows;
    }
  };
  return stacked;
}

}  // namespace

DType ActivationType(DType weight_type) {
  return weight_type == DType::kBf16 ? DType::kBf16 : DType::kF32;
}

DType ExactType(DType weight_type) {
  return weight_type == DType::kF32 ? DType::kF32 : DType::kBf16;
}

DType BasisType(DType weight_type) { return ExactType(weight_type); }

LlamaModel::LlamaModel(Backend& backend, const ModelConfig& config, const Options& options)
    : backend_(backend),
      config_(config),
      options_(options),
      activation_type_(ActivationType(options.weight_type)) {}

absl::StatusOr<std::unique_ptr<LlamaModel>> LlamaModel::Load(Backend& backend,
                                                             const Checkpoint& checkpoint,
                                                             const KvPlan& plan,
                                                             const Options& options,
                                                             const Progress& progress) {
  LORC_CHECK_EQ(std::ssize(plan.layers), checkpoint.config().num_layers);
  std::unique_ptr<LlamaModel> model(new LlamaModel(backend, checkpoint.config(), options));
  LORC_RETURN_IF_ERROR(model->LoadWeights(checkpoint, plan, progress));
  LORC_RETURN_IF_ERROR(model->TakeActivations());
  return model;
}

absl::Status LlamaModel::LoadWeights(const Checkpoint& checkpoint, const KvPlan& plan,
                                     const Progress& progress) {
  const TensorReader reader(checkpoint, 0, {});
  LORC_ASSIGN_OR_RETURN(embedding_, backend_.MakeMatrix(reader.Source(TensorRole::kTokenEmbedding),
                                                        options_.weight_type));
  if (!config_.tied_embeddings) {
    LORC_ASSIGN_OR_RETURN(
        output_, backend_.MakeMatrix(reader.Source(TensorRole::kOutput), options_.weight_type));
  }
  LORC_ASSIGN_OR_RETURN(output_norm_, LoadGain(reader.Values(TensorRole::kOutputNorm)));
  LORC_RETURN_IF_ERROR(reader.status());
  const int64_t vocabulary = int64_t{config_.vocabulary_size} * config_.hidden_size;
  num_parameters_ = vocabulary * (config_.tied_embeddings ? 1 : 2) + config_.hidden_size;
  for (int32_t i = 0; i < config_.num_layers; ++i) {
    LORC_RETURN_IF_ERROR(LoadLayer(checkpoint, plan, i));
    if (progress) progress(static_cast<double>(i + 1) / config_.num_layers);
  }
  checkpoint.ReleasePages();
  return absl::OkStatus();
}

absl::Status LlamaModel::LoadLayer(const Checkpoint& checkpoint, const KvPlan& plan,
                                   int32_t index) {
  const TensorReader reader(checkpoint, index, plan.layers[index].head_order);
  const DType type = options_.weight_type;
  Layer layer;
  LORC_ASSIGN_OR_RETURN(layer.attention_norm, LoadGain(reader.Values(TensorRole::kAttentionNorm)));
  LORC_ASSIGN_OR_RETURN(layer.ffn_norm, LoadGain(reader.Values(TensorRole::kFfnNorm)));
  const TensorPlan& key_plan = plan.layers[index].key;
  const TensorPlan& value_plan = plan.layers[index].value;
  MatrixSource key = reader.Source(TensorRole::kKey);
  MatrixSource value = reader.Source(TensorRole::kValue);
  std::vector<float> key_latents, value_latents;
  if (WeightsGiveLatents(plan, key_plan, true)) {
    key_latents = Encode(key_plan, reader.Values(TensorRole::kKey), config_.hidden_size);
    key = SourceOf(key_latents, config_.hidden_size);
  }
  if (WeightsGiveLatents(plan, value_plan, false)) {
    value_latents = Encode(value_plan, reader.Values(TensorRole::kValue), config_.hidden_size);
    value = SourceOf(value_latents, config_.hidden_size);
  }
  layer.key_width = key.rows;
  layer.value_width = value.rows;
  LORC_ASSIGN_OR_RETURN(
      layer.qkv, backend_.MakeMatrix(Stack({reader.Source(TensorRole::kQuery), key, value}), type));
  LORC_ASSIGN_OR_RETURN(layer.attention_output,
                        backend_.MakeMatrix(reader.Source(TensorRole::kAttentionOutput), type));
  LORC_ASSIGN_OR_RETURN(layer.gate_up,
                        backend_.MakeGatedMatrix(reader.Source(TensorRole::kGate),
                                                 reader.Source(TensorRole::kUp), type));
  LORC_ASSIGN_OR_RETURN(layer.down, backend_.MakeMatrix(reader.Source(TensorRole::kDown), type));
  LORC_RETURN_IF_ERROR(reader.status());
  const int64_t hidden = config_.hidden_size;
  num_parameters_ += hidden * (2 * config_.query_width() + 2 * config_.kv_width() +
                               3 * int64_t{config_.ffn_size} + 2);
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

absl::StatusOr<Buffer> LlamaModel::LoadGain(const std::vector<float>& gain) {
  const int64_t bytes = std::ssize(gain) * static_cast<int64_t>(sizeof(float));
  LORC_ASSIGN_OR_RETURN(Buffer buffer, backend_.Allocate(bytes, MemoryUse::kWeights));
  backend_.CopyIn(buffer.data(), gain.data(), bytes);
  return buffer;
}

absl::Status LlamaModel::TakeActivations() {
  const auto take = [this](int64_t rows, int64_t width, DType type, Buffer& buffer) {
    auto taken = backend_.Allocate(rows * width * ByteSize(type), MemoryUse::kActivations);
    if (taken.ok()) buffer = *std::move(taken);
    return taken.status();
  };
  int64_t widest = 0;
  for (const Layer& layer : layers_) widest = std::max(widest, layer.qkv->rows());
  const int64_t rows = options_.max_step_tokens;
  const int64_t padded = PaddedRows(std::max(options_.max_step_tokens, options_.max_logit_rows));
  const int64_t hidden = config_.hidden_size;
  LORC_RETURN_IF_ERROR(take(rows, hidden, DType::kF32, residual_));
  LORC_RETURN_IF_ERROR(take(padded, hidden, activation_type_, normalized_));
  LORC_RETURN_IF_ERROR(take(rows, widest, DType::kF32, qkv_));
  LORC_RETURN_IF_ERROR(take(padded, config_.query_width(), activation_type_, attended_));
  LORC_RETURN_IF_ERROR(take(padded, config_.ffn_size, activation_type_, gated_));
  return take(options_.max_logit_rows, config_.vocabulary_size, DType::kF32, logits_);
}

void LlamaModel::Normalize(const Buffer& gain, int64_t num_rows, const int32_t* rows, void* out) {
  RmsNormArgs args;
  args.num_rows = num_rows;
  args.width = config_.hidden_size;
  args.x = residual_.as<float>();
  args.rows = rows;
  args.gain = gain.as<float>();
  args.epsilon = config_.rms_norm_epsilon;
  args.out = out;
  args.out_type = activation_type_;
  backend_.RmsNorm(args);
}

void LlamaModel::Multiply(const Matrix& weight, const Buffer& x, int64_t num_rows,
                          LinearArgs::Output output, float* y, int64_t y_stride) {
  LinearArgs args;
  args.weight = &weight;
  args.num_rows = num_rows;
  args.x = x.data();
  args.x_type = activation_type_;
  args.output = output;
  args.y = y;
  args.y_stride = y_stride;
  backend_.Linear(args);
}

void LlamaModel::Forward(std::span<const int32_t> tokens, std::span<const SequenceSpan> sequences,
                         const KvCache& cache) {
  const int64_t num_rows = std::ssize(tokens);
  LORC_CHECK_LE(num_rows, options_.max_step_tokens);
  const int64_t hidden = config_.hidden_size;
  auto* residual = residual_.as<float>();
  auto* qkv = qkv_.as<float>();
  if (!sequences.empty()) {
    backend_.BeginStep({sequences, cache.geometry().block_tokens});
  }
  backend_.Embed({embedding_.get(), num_rows, tokens.data(), residual});
  for (int32_t i = 0; i < config_.num_layers; ++i) {
    const Layer& layer = layers_[i];
    const int64_t qkv_width = layer.qkv->rows();
    Normalize(layer.attention_norm, num_rows, nullptr, normalized_.data());
    Multiply(*layer.qkv, normalized_, num_rows, LinearArgs::Output::kStore, qkv, qkv_width);

    WriteCacheArgs write;
    write.layer = &cache.layers()[i];
    write.sequences = sequences;
    write.key = qkv + config_.query_width();
    write.value = write.key + layer.key_width;
    write.key_stride = write.value_stride = qkv_width;
    backend_.WriteCache(write);

    AttendArgs attend;
    attend.layer = &cache.layers()[i];
    attend.sequences = sequences;
    attend.query = qkv;
    attend.query_stride = qkv_width;
    attend.out = attended_.data();
    attend.out_type = activation_type_;
    backend_.Attend(attend);
    Multiply(*layer.attention_output, attended_, num_rows, LinearArgs::Output::kAdd, residual,
             hidden);

    Normalize(layer.ffn_norm, num_rows, nullptr, normalized_.data());
    LinearArgs gated;
    gated.weight = layer.gate_up.get();
    gated.num_rows = num_rows;
    gated.x = normalized_.data();
    gated.x_type = activation_type_;
    gated.output = LinearArgs::Output::kGatedSilu;
    gated.y = gated_.data();
    gated.y_type = activation_type_;
    gated.y_stride = config_.ffn_size;
    backend_.Linear(gated);
    Multiply(*layer.down, gated_, num_rows, LinearArgs::Output::kAdd, residual, hidden);
  }
}

std::span<float> LlamaModel::Logits(std::span<const int32_t> rows) {
  const int64_t num_rows = std::ssize(rows);
  LORC_CHECK_LE(num_rows, options_.max_logit_rows);
  Normalize(output_norm_, num_rows, rows.data(), normalized_.data());
  Multiply(output_ == nullptr ? *embedding_ : *output_, normalized_, num_rows,
           LinearArgs::Output::kStore, logits_.as<float>(), config_.vocabulary_size);
  return {logits_.as<float>(), static_cast<size_t>(num_rows * config_.vocabulary_size)};
}

}  // namespace lorc
