// The cache ops of every backend end to end: sequences are fed in chunks, and what comes out is
// compared with attention in double precision over what the cache should hold.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <string_view>

#include "kernels/backend.h"
#include "kernels/base/check.h"
#include "kernels/make_backend.h"
#include "kernels/reference/reference_ops.h"
#include "tests/kernels/backend_fixture.h"
#include "tests/kernels/block_reader.h"
#include "tests/kernels/kernel_test_util.h"
#include "tests/kernels/kv_cache_cases.h"

namespace lorc {
namespace {

// `rank` orthonormal rows of width n.
std::vector<float> OrthonormalRows(int64_t rank, int64_t n, uint64_t seed) {
  const auto random = RandomNormal(rank * n, seed);
  std::vector<double> rows(random.begin(), random.end());
  for (int64_t i = 0; i < rank; ++i) {
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t j = 0; j < i; ++j) {
        double dot = 0;
        for (int64_t k = 0; k < n; ++k) dot += rows[i * n + k] * rows[j * n + k];
        for (int64_t k = 0; k < n; ++k) rows[i * n + k] -= dot * rows[j * n + k];
      }
    }
    double norm = 0;
    for (int64_t k = 0; k < n; ++k) norm += rows[i * n + k] * rows[i * n + k];
    for (int64_t k = 0; k < n; ++k) rows[i * n + k] /= std::sqrt(norm);
  }
  return {rows.begin(), rows.end()};
}

// A layer with pools, bases and tables, and the true keys, values and queries of some sequences.
class Fixture {
 public:
  // The backend must outlive the fixture and has no other user meanwhile.
  Fixture(const Case& c, Backend& backend)
      : case_(c), backend_(backend), reader_(ReaderOf(backend)) {
    layer_.num_heads = c.heads;
    layer_.num_kv_heads = c.kv_heads;
    layer_.head_dim = c.head_dim;
    layer_.block_tokens = c.block_tokens;
    layer_.prefix_blocks = c.prefix_blocks;
    layer_.window_blocks = c.window_blocks;
    layer_.anchor = c.anchor;
    layer_.exact_type = c.exact_type;
    MakeTensor(c.key, KeyOrValue::kKey, layer_.key);
    MakeTensor(c.value, KeyOrValue::kValue, layer_.value);
    for (int64_t j = 0; j < c.head_dim / 2; ++j) {
      frequency_.push_back(std::pow(1e4, -2.0 * static_cast<double>(j) / c.head_dim));
    }
    std::vector<float> cos, sin;
    for (int64_t n = 0; n < length(); ++n) {
      for (const double frequency : frequency_) {
        cos.push_back(static_cast<float>(std::cos(static_cast<double>(n) * frequency)));
        sin.push_back(static_cast<float>(std::sin(static_cast<double>(n) * frequency)));
      }
    }
    rope_ = Upload(MemoryUse::kWeights, {cos, sin});
    layer_.rope_cos = rope_.as<float>();
    layer_.rope_sin = layer_.rope_cos + cos.size();
    num_blocks_ = (length() + c.block_tokens - 1) / c.block_tokens;
    latent_pool_ = Allocate(kSequences * num_blocks_ * layer_.LatentBlockBytes() + kPoolSlackBytes,
                            MemoryUse::kCache);
    exact_pool_ = Allocate(kSequences * num_blocks_ * layer_.ExactBlockBytes() + kPoolSlackBytes,
                           MemoryUse::kCache);
    layer_.latent_pool = latent_pool_.data();
    layer_.exact_pool = exact_pool_.data();
    LORC_CHECK(backend_.CheckLayer(layer_).ok());
    const int64_t max_rows = kSequences * length();
    rows_ = Allocate(max_rows * row_width() * kFloat, MemoryUse::kActivations);
    out_ = Allocate(max_rows * query_width() * kFloat, MemoryUse::kActivations);
    BackendLimits limits;
    limits.num_heads = c.heads;
    limits.num_kv_heads = c.kv_heads;
    limits.head_dim = c.head_dim;
    limits.max_latent_width =
        std::max(layer_.key.groups * layer_.key.rank, layer_.value.groups * layer_.value.rank);
    limits.max_rows = max_rows;
    limits.max_sequences = kSequences;
    limits.max_context = length();
    limits.block_tokens = c.block_tokens;
    limits.layers = {&layer_, 1};
    LORC_CHECK(backend_.Reserve(limits).ok());
    for (int s = 0; s < kSequences; ++s) {
      Sequence& sequence = sequences_.emplace_back();
      sequence.key = RandomNormal(length() * kv_width(), 100 + s);
      sequence.value = RandomNormal(length() * kv_width(), 200 + s);
      sequence.query = RandomNormal(length() * query_width(), 300 + s, 2.0f);
      sequence.out.assign(length(s) * query_width(), NAN);
      // Block ids in another order than their indices.
      for (int64_t j = 0; j < num_blocks_; ++j) {
        sequence.latent_blocks.push_back(
            static_cast<int32_t>(((j * 7) % num_blocks_) * kSequences + s));
        sequence.exact_blocks.push_back(
            static_cast<int32_t>((num_blocks_ - 1 - j) * kSequences + s));
      }
      if (num_blocks_ % 7 == 0)
        std::iota(sequence.latent_blocks.begin(), sequence.latent_blocks.end(),
                  s * static_cast<int32_t>(num_blocks_));
    }
    PoisonScratch();
  }

  static constexpr int kSequences = 2;
  static constexpr int64_t kFloat = sizeof(float);

  // Of the longest sequence, the first.
  int64_t length() const { return length(0); }
  int64_t length(int s) const { return prompt(s) + case_.generated; }
  int64_t prompt(int s) const {
    return s == 1 && case_.other_prompt > 0 ? case_.other_prompt : case_.prompt;
  }
  int64_t kv_width() const { return case_.kv_heads * case_.head_dim; }
  int64_t query_width() const { return case_.heads * case_.head_dim; }
  // Numbers of a row of the step: query, then key and value as WriteCache gets them.
  int64_t key_width() const { return InputWidth(layer_.key); }
  int64_t value_width() const { return InputWidth(layer_.value); }
  int64_t row_width() const { return query_width() + key_width() + value_width(); }

  // Feeds both sequences to their ends in one batch per step: the prompt in chunks of `chunk`, then
  // `generated` tokens at a time. The second sequence starts `lag` steps later. Blocks that are
  // given back are poisoned.
  void FeedAll(int64_t chunk, int64_t lag = 0, int64_t generated = 1) {
    int64_t first[kSequences] = {};
    for (int64_t step = 0; first[0] < length(0) || first[1] < length(1); ++step) {
      std::vector<SequenceSpan> spans;
      std::vector<int> which;
      int64_t rows = 0;
      for (int s = 0; s < kSequences; ++s) {
        if (first[s] == length(s) || (s == 1 && step < lag)) continue;
        const int64_t count = first[s] < prompt(s) ? std::min(chunk, prompt(s) - first[s])
                                                   : std::min(generated, length(s) - first[s]);
        spans.push_back(SpanOf(s, rows, first[s], count));
        rows += count;
        which.push_back(s);
      }
      Step(spans, which, rows);
      for (size_t i = 0; i < spans.size(); ++i) {
        const int64_t end = spans[i].first + spans[i].count;
        FreeAged(which[i], spans[i].first, end);
        first[which[i]] = end;
      }
    }
  }

  const std::vector<float>& out(int s) const { return sequences_[s].out; }

  // Compares latents in the pool with the encoder's products.
  void CheckLatents() {
    CopyPool();
    for (int s = 0; s < kSequences; ++s) {
      CheckLatents(s, KeyOrValue::kKey, layer_.key);
      CheckLatents(s, KeyOrValue::kValue, layer_.value);
    }
  }

  // Compares outputs with attention over what the cache holds.
  void CheckOutputs() {
    CopyPool();
    for (int s = 0; s < kSequences; ++s) {
      const auto latent_keys = FullFromLatents(s, KeyOrValue::kKey, layer_.key);
      const auto latent_values = FullFromLatents(s, KeyOrValue::kValue, layer_.value);
      std::vector<double> expected, bound;
      for (int64_t m = 0; m < length(s); ++m) {
        Expect(s, m, latent_keys, latent_values, expected, bound);
      }
      ExpectWithin(sequences_[s].out, expected, bound, "sequence " + std::to_string(s));
      // The bounds take all roundings for the worst: of one sign, and values for twice their
      // largest apart. Roundings are independent, d in a score, most values lie near their mean,
      // and a softmax averages: the errors' root mean square is far smaller.
      double squares = 0, bound_squares = 0;
      for (size_t i = 0; i < expected.size(); ++i) {
        squares += std::pow(sequences_[s].out[i] - expected[i], 2);
        bound_squares += bound[i] * bound[i];
      }
      EXPECT_LE(std::sqrt(squares), std::sqrt(bound_squares / case_.head_dim) / 16)
          << "sequence " << s;
    }
  }

  // Compares outputs with those of a fixture that was fed otherwise. Bit for bit, but for generated
  // positions on a GPU: decode attention deals a step's tokens out to streams, and a stream rounds
  // weights relative to the maximum that it has seen, so they differ by rounding.
  void ExpectSameOutputs(const Fixture& other, const std::string& what) {
    for (int s = 0; s < kSequences; ++s) {
      const std::vector<float>& own = out(s);
      const int64_t same =
          (on_cpu() || layer_.RebuildsKeys() ? length(s) : prompt(s)) * query_width();
      ASSERT_EQ(0, std::memcmp(other.out(s).data(), own.data(), same * kFloat))
          << what << " sequence " << s;
      if (same == std::ssize(own)) continue;
      CopyPool();
      const auto bound = RoundingBound(s);
      std::vector<double> expected, bounds;
      for (int64_t i = same; i < std::ssize(own); ++i) {
        expected.push_back(own[i]);
        bounds.push_back(bound[i % query_width()]);
      }
      ExpectWithin({other.out(s).begin() + same, other.out(s).end()}, expected, bounds,
                   what + " sequence " + std::to_string(s));
    }
  }

 private:
  struct Sequence {
    std::vector<float> key, value, query, out;
    std::vector<int32_t> latent_blocks, exact_blocks;
  };

  void MakeTensor(const TensorSpec& spec, KeyOrValue which, CacheTensor& tensor) {
    tensor.groups = spec.groups == 0 ? case_.kv_heads : spec.groups;
    tensor.heads_per_group = case_.kv_heads / tensor.groups;
    tensor.segments = spec.segments;
    for (const CacheSegment& segment : spec.segments) tensor.rank += segment.width;
    const int64_t n = tensor.heads_per_group * case_.head_dim;
    const bool key = which == KeyOrValue::kKey;
    std::vector<float>& encoder = key ? key_encoder_ : value_encoder_;
    std::vector<float>& decoder = key ? key_decoder_ : value_decoder_;
    for (int32_t group = 0; group < tensor.groups; ++group) {
      if (spec.groups == 0) {
        LORC_CHECK_EQ(tensor.rank, n);
        for (int64_t i = 0; i < n * n; ++i) {
          encoder.push_back(i / n == i % n ? 1.0f : 0.0f);
          decoder.push_back(i / n == i % n ? 1.0f : 0.0f);
        }
        continue;
      }
      // An oblique pair, so that encoder and decoder can't be confused: E = S Q, D = Q^T S^-1, S
      // diagonal.
      const auto rows = OrthonormalRows(tensor.rank, n, 17 + group + (key ? 0 : 50));
      for (int64_t r = 0; r < tensor.rank; ++r) {
        for (int64_t i = 0; i < n; ++i) encoder.push_back(rows[r * n + i] * (1 + 0.1f * (r % 5)));
      }
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t r = 0; r < tensor.rank; ++r) {
          decoder.push_back(rows[r * n + i] / (1 + 0.1f * (r % 5)));
        }
      }
    }
    encoder = RoundTo(case_.basis_type, encoder);
    if (spec.groups == 0) return;
    const BasisSource source{tensor.groups,  static_cast<int32_t>(n), case_.head_dim,   tensor.rank,
                             encoder.data(), decoder.data(),          case_.anchor != 1};
    auto basis = backend_.MakeBasis(source, key, case_.basis_type);
    LORC_CHECK(basis.ok());
    (key ? key_basis_ : value_basis_) = *std::move(basis);
    tensor.basis = (key ? key_basis_ : value_basis_).get();
    tensor.latent_input = case_.latents_in;
  }

  Buffer Allocate(int64_t size_bytes, MemoryUse use) {
    auto buffer = backend_.Allocate(size_bytes, use);
    LORC_CHECK(buffer.ok());
    return *std::move(buffer);
  }

  // The parts one after the other.
  Buffer Upload(MemoryUse use, const std::vector<std::vector<float>>& parts) {
    int64_t count = 0;
    for (const auto& part : parts) count += std::ssize(part);
    Buffer buffer = Allocate(count * kFloat, use);
    std::byte* to = buffer.data();
    for (const auto& part : parts) {
      backend_.CopyIn(to, part.data(), std::ssize(part) * kFloat);
      to += std::ssize(part) * kFloat;
    }
    return buffer;
  }

  // All bits set, which is NaN in every type that has it.
  void Poison(std::byte* to, int64_t bytes) {
    const std::vector<std::byte> poison(bytes, std::byte{0xff});
    backend_.CopyIn(to, poison.data(), bytes);
  }

  int64_t InputWidth(const CacheTensor& tensor) const {
    return tensor.latent_input ? int64_t{tensor.groups} * tensor.rank : kv_width();
  }

  SequenceSpan SpanOf(int s, int64_t row, int64_t first, int64_t count) const {
    SequenceSpan span;
    span.row = row;
    span.first = first;
    span.count = count;
    span.num_prompt_tokens = prompt(s);
    span.latent_blocks = sequences_[s].latent_blocks.data();
    span.exact_blocks = sequences_[s].exact_blocks.data();
    return span;
  }

  // A step of nothing but NaN, prompts and generated positions, leaves it in the scratch memory;
  // the pools are poisoned afterwards: everything that is not written is NaN.
  void PoisonScratch() {
    std::vector<SequenceSpan> spans;
    for (int s = 0; s < kSequences; ++s) spans.push_back(SpanOf(s, s * length(), 0, length()));
    const std::vector<float> rows(kSequences * length() * row_width(), NAN);
    RunOps(spans, rows, kSequences * length());
    Poison(latent_pool_.data(), latent_pool_.size());
    Poison(exact_pool_.data(), exact_pool_.size());
  }

  // The outputs of a step.
  std::vector<float> RunOps(const std::vector<SequenceSpan>& spans, const std::vector<float>& rows,
                            int64_t num_rows) {
    backend_.CopyIn(rows_.data(), rows.data(), std::ssize(rows) * kFloat);
    std::vector<float> out(num_rows * query_width(), NAN);
    backend_.CopyIn(out_.data(), out.data(), std::ssize(out) * kFloat);
    backend_.BeginStep({spans, case_.block_tokens});
    WriteCacheArgs write;
    write.layer = &layer_;
    write.sequences = spans;
    write.key = rows_.as<float>() + query_width();
    write.value = write.key + key_width();
    write.key_stride = write.value_stride = row_width();
    backend_.WriteCache(write);
    AttendArgs attend;
    attend.layer = &layer_;
    attend.sequences = spans;
    attend.query = rows_.as<float>();
    attend.query_stride = row_width();
    attend.out = out_.data();
    backend_.Attend(attend);
    backend_.CopyOut(out.data(), out_.data(), std::ssize(out) * kFloat);
    LORC_CHECK(backend_.status().ok());
    return out;
  }

  void Step(const std::vector<SequenceSpan>& spans, const std::vector<int>& which,
            int64_t num_rows) {
    // Query, key and value of a row together, as a fused product leaves them.
    std::vector<float> rows(num_rows * row_width());
    for (size_t i = 0; i < spans.size(); ++i) {
      const Sequence& sequence = sequences_[which[i]];
      for (int64_t t = 0; t < spans[i].count; ++t) {
        const int64_t n = spans[i].first + t;
        float* row = rows.data() + (spans[i].row + t) * row_width();
        row = std::copy_n(sequence.query.data() + n * query_width(), query_width(), row);
        for (const KeyOrValue tensor : {KeyOrValue::kKey, KeyOrValue::kValue}) {
          const auto input = Input(which[i], tensor, n);
          row = std::copy(input.begin(), input.end(), row);
        }
      }
    }
    const std::vector<float> out = RunOps(spans, rows, num_rows);
    for (size_t i = 0; i < spans.size(); ++i) {
      std::copy_n(out.data() + spans[i].row * query_width(), spans[i].count * query_width(),
                  sequences_[which[i]].out.data() + spans[i].first * query_width());
    }
  }

  // A token's key or value as WriteCache gets it.
  std::vector<float> Input(int s, KeyOrValue which, int64_t n) const {
    const auto& source = which == KeyOrValue::kKey ? sequences_[s].key : sequences_[s].value;
    const float* full = source.data() + n * kv_width();
    if (!case_.latents_in) return {full, full + kv_width()};
    const CacheTensor& tensor = which == KeyOrValue::kKey ? layer_.key : layer_.value;
    const int64_t width = tensor.heads_per_group * case_.head_dim;
    std::vector<float> latents;
    for (int64_t group = 0; group < tensor.groups; ++group) {
      const auto latent =
          Encode(tensor, which, group, {full + group * width, full + (group + 1) * width});
      latents.insert(latents.end(), latent.begin(), latent.end());
    }
    return latents;
  }

  // The group's encoder times a full key or value of its heads.
  std::vector<double> Encode(const CacheTensor& tensor, KeyOrValue which, int64_t group,
                             const std::vector<double>& full) const {
    const auto& encoder = which == KeyOrValue::kKey ? key_encoder_ : value_encoder_;
    const int64_t width = std::ssize(full);
    std::vector<double> latent;
    for (int64_t r = 0; r < tensor.rank; ++r) {
      double sum = 0;
      for (int64_t i = 0; i < width; ++i) {
        sum += full[i] * encoder[(group * tensor.rank + r) * width + i];
      }
      latent.push_back(sum);
    }
    return latent;
  }

  void FreeAged(int s, int64_t first, int64_t end) {
    if (layer_.window_blocks == 0) return;
    for (int64_t j = std::max<int64_t>(layer_.prefix_blocks, layer_.LatentEnd(first));
         j < layer_.LatentEnd(end); ++j) {
      Poison(exact_pool_.data() + sequences_[s].exact_blocks[j] * layer_.ExactBlockBytes(),
             layer_.ExactBlockBytes());
    }
  }

  // One KV head's key in the layer's frame or value, rounded as the exact blocks hold it.
  std::vector<double> Exact(int s, KeyOrValue which, int64_t n, int64_t kv_head) const {
    const int64_t d = case_.head_dim;
    const auto& source = which == KeyOrValue::kKey ? sequences_[s].key : sequences_[s].value;
    const float* from = source.data() + n * kv_width() + kv_head * d;
    std::vector<double> head(from, from + d);
    if (which == KeyOrValue::kKey) {
      reference::Rotate(head.data(), d, static_cast<double>(n - layer_.ChunkStart(n)), frequency_);
    }
    return head;
  }

  std::vector<double> ExactRounded(int s, KeyOrValue which, int64_t n, int64_t kv_head) const {
    auto head = Exact(s, which, n, kv_head);
    if (case_.exact_type == DType::kBf16) {
      for (double& value : head) value = Bf16ToF32(F32ToBf16(static_cast<float>(value)));
    }
    return head;
  }

  bool HeldAsLatent(int s, int64_t n) const {
    const int64_t block = n / layer_.block_tokens;
    return block >= layer_.prefix_blocks && block < layer_.LatentEnd(length(s));
  }

  void CopyPool() {
    latents_.resize(latent_pool_.size());
    backend_.CopyOut(latents_.data(), latent_pool_.data(), latent_pool_.size());
  }

  const std::byte* LatentPart(int s, int64_t n, KeyOrValue which) const {
    const int64_t block = n / layer_.block_tokens;
    return latents_.data() + sequences_[s].latent_blocks[block] * layer_.LatentBlockBytes() +
           (which == KeyOrValue::kKey ? 0 : layer_.block_tokens * layer_.key.BytesPerToken());
  }

  std::vector<float> ReadLatent(int s, KeyOrValue which, const CacheTensor& tensor, int64_t n,
                                int64_t group) const {
    return reader_.Token(tensor, which, layer_.block_tokens, static_cast<int32_t>(group),
                         n % layer_.block_tokens, LatentPart(s, n, which));
  }

  // What the root of the mean squared error is at most with the smallest range that holds all: half
  // a step, and the roundings of scale and minimum to f16.
  static double MinMaxError(const CacheSegment& segment, std::span<const double> values) {
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    const double range = *high - *low;
    return 0.5 * range / MaxCode(segment.type) + 0x1p-11 * (std::abs(*low) + range) + 0x1p-24;
  }

  // Of a number to a type without scales.
  static double Rounding(SegmentType type, double magnitude) {
    switch (type) {
      case SegmentType::kBf16:
        return 0x1p-8 * magnitude;
      case SegmentType::kFp8:
        return 0x1p-4 * magnitude + 0x1p-10;
      default:
        return 0;
    }
  }

  void CheckLatents(int s, KeyOrValue which, const CacheTensor& tensor) {
    const bool key = which == KeyOrValue::kKey;
    std::vector<float> actual, errors;
    std::vector<double> expected, bound, no_error, error_bound;
    for (int64_t n = 0; n < length(s); ++n) {
      if (!HeldAsLatent(s, n)) continue;
      for (int64_t group = 0; group < tensor.groups; ++group) {
        std::vector<double> full;
        for (int64_t head = 0; head < tensor.heads_per_group; ++head) {
          const auto part = layer_.window_blocks > 0
                                ? ExactRounded(s, which, n, group * tensor.heads_per_group + head)
                                : Exact(s, which, n, group * tensor.heads_per_group + head);
          full.insert(full.end(), part.begin(), part.end());
        }
        double norm = 0;
        for (const double x : full) norm += x * x;
        norm = std::sqrt(norm);
        const std::vector<double> latent = Encode(tensor, which, group, full);
        const auto read = ReadLatent(s, which, tensor, n, group);
        actual.insert(actual.end(), read.begin(), read.end());
        // Inputs that are rounded to bf16 on the way into the product move it by 2^-8 of the
        // norms; keys that are rounded to bf16 after a rotation in another precision may land on
        // the neighbour.
        const double product = (case_.basis_type == DType::kBf16 ? 0x1p-8 : 0x1p-18) * norm * 1.5 +
                               (case_.exact_type == DType::kBf16 ? 0x1p-9 * norm : 0);
        int64_t first = 0;
        for (size_t i = 0; i < tensor.segments.size(); ++i) {
          const CacheSegment& segment = tensor.segments[i];
          const std::span<const double> written(latent.data() + first, segment.width);
          if (HasScale(segment.type)) {
            const ReadSteps steps =
                reader_.Steps(tensor, layer_.block_tokens, static_cast<int32_t>(group), i,
                              n % layer_.block_tokens, LatentPart(s, n, which));
            const double top = steps.minimum + steps.scale * MaxCode(segment.type);
            double squares = 0;
            for (int64_t k = 0; k < segment.width; ++k) {
              // The nearest of the segment's values.
              expected.push_back(std::clamp(written[k], steps.minimum, top));
              bound.push_back(0.5 * steps.scale * 1.0001 + product);
              squares += std::pow(read[first + k] - written[k], 2);
            }
            errors.push_back(static_cast<float>(std::sqrt(squares / segment.width)));
            no_error.push_back(0);
            error_bound.push_back(MinMaxError(segment, written) + 3 * product);
          } else {
            for (const double value : written) {
              expected.push_back(value);
              bound.push_back(Rounding(segment.type, std::abs(value)) + product);
            }
          }
          first += segment.width;
        }
      }
    }
    ExpectWithin(errors, no_error, error_bound, key ? "error of keys" : "error of values");
    ExpectWithin(actual, expected, bound, key ? "key latents" : "value latents");
  }

  // Keys in the layer's frame, or values, of all latent tokens: [n][g][d], from the pool through
  // the decoder.
  std::vector<std::vector<double>> FullFromLatents(int s, KeyOrValue which,
                                                   const CacheTensor& tensor) const {
    const auto& decoder = which == KeyOrValue::kKey ? key_decoder_ : value_decoder_;
    const int64_t width = tensor.heads_per_group * case_.head_dim;
    std::vector<std::vector<double>> full(length(s));
    for (int64_t n = 0; n < length(s); ++n) {
      if (!HeldAsLatent(s, n)) continue;
      for (int64_t group = 0; group < tensor.groups; ++group) {
        const auto latent = ReadLatent(s, which, tensor, n, group);
        for (int64_t i = 0; i < width; ++i) {
          double sum = 0;
          for (int64_t r = 0; r < tensor.rank; ++r) {
            sum += latent[r] * static_cast<double>(decoder[(group * width + i) * tensor.rank + r]);
          }
          full[n].push_back(sum);
        }
      }
    }
    return full;
  }

  void Expect(int s, int64_t m, const std::vector<std::vector<double>>& latent_keys,
              const std::vector<std::vector<double>>& latent_values, std::vector<double>& expected,
              std::vector<double>& bound) const {
    const int64_t d = case_.head_dim;
    const int64_t query_block = m / layer_.block_tokens;
    for (int64_t kv_head = 0; kv_head < case_.kv_heads; ++kv_head) {
      std::vector<double> keys, values;
      double largest_value = 0;
      for (int64_t n = 0; n <= m; ++n) {
        std::vector<double> key, value;
        if (layer_.IsExact(n / layer_.block_tokens, query_block)) {
          key = ExactRounded(s, KeyOrValue::kKey, n, kv_head);
          value = ExactRounded(s, KeyOrValue::kValue, n, kv_head);
        } else {
          const auto at = [&](const std::vector<double>& full) {
            return std::vector<double>(full.begin() + kv_head * d,
                                       full.begin() + (kv_head + 1) * d);
          };
          key = at(latent_keys[n]);
          value = at(latent_values[n]);
        }
        reference::Rotate(key.data(), d, static_cast<double>(layer_.ChunkStart(n)), frequency_);
        keys.insert(keys.end(), key.begin(), key.end());
        values.insert(values.end(), value.begin(), value.end());
        for (const double x : value) largest_value = std::max(largest_value, std::abs(x));
      }
      for (int64_t head = kv_head * (case_.heads / case_.kv_heads);
           head < (kv_head + 1) * (case_.heads / case_.kv_heads); ++head) {
        const float* from = sequences_[s].query.data() + m * query_width() + head * d;
        std::vector<double> query(from, from + d);
        reference::Rotate(query.data(), d, static_cast<double>(m), frequency_);
        const auto out = reference::Attend(query, keys, values, m + 1, d);
        expected.insert(expected.end(), out.begin(), out.end());
        double query_norm = 0, key_norm = 0;
        for (const double x : query) query_norm += x * x;
        for (size_t i = 0; i < keys.size(); i += d) {
          double norm = 0;
          for (int64_t k = 0; k < d; ++k) norm += keys[i + k] * keys[i + k];
          key_norm = std::max(key_norm, norm);
        }
        // A score off by e moves the output by at most 2 e of the largest value. Scores are off by
        // rounding of q and k (f32: a few 2^-24 of their norms; codes of q: 2^-15; bf16 bases or
        // keys: 2^-8 of the parts that they round).
        const double scale = std::sqrt(query_norm * key_norm / static_cast<double>(d));
        // Tensor cores take queries, keys, weights and values as bf16: with a basis those four
        // (2^-7), without one two each of scores and outputs.
        const bool has_basis = layer_.key.basis != nullptr || layer_.value.basis != nullptr;
        const double relative = on_cpu() ? (case_.basis_type == DType::kBf16   ? 0x1p-7
                                            : case_.exact_type == DType::kBf16 ? 0x1p-9
                                                                               : 0x1p-14)
                                         : (has_basis ? 0x1p-7 : 0x1p-8);
        for (int64_t i = 0; i < d; ++i) {
          bound.push_back(largest_value * (2 * scale * relative + relative + 0x1p-15) + 1e-6);
        }
      }
    }
  }

  // By how much two computations of an output may differ [h*d]. Each rounds weights to bf16 (half a
  // unit: 2^-9), which moves the output by that part of its largest value at most; where values
  // have a basis, the sums of latents are rounded to bf16 too, and move it by the decoder's row.
  std::vector<double> RoundingBound(int s) const {
    const int64_t d = case_.head_dim;
    const CacheTensor& tensor = layer_.value;
    const auto latent_values = FullFromLatents(s, KeyOrValue::kValue, tensor);
    std::vector<double> largest(kv_width());  // of values
    std::vector<double> largest_latent(int64_t{tensor.groups} * tensor.rank);
    for (int64_t n = 0; n < length(s); ++n) {
      for (int64_t i = 0; i < kv_width(); ++i) {
        largest[i] =
            std::max(largest[i], std::abs(double{sequences_[s].value[n * kv_width() + i]}));
        if (HeldAsLatent(s, n)) largest[i] = std::max(largest[i], std::abs(latent_values[n][i]));
      }
      if (!HeldAsLatent(s, n)) continue;
      for (int64_t group = 0; group < tensor.groups; ++group) {
        const auto latent = ReadLatent(s, KeyOrValue::kValue, tensor, n, group);
        for (int64_t r = 0; r < tensor.rank; ++r) {
          double& most = largest_latent[group * tensor.rank + r];
          most = std::max(most, std::abs(double{latent[r]}));
        }
      }
    }
    std::vector<double> bound;
    for (int64_t head = 0; head < case_.heads; ++head) {
      const int64_t kv_head = head / (case_.heads / case_.kv_heads);
      const int64_t group = kv_head / tensor.heads_per_group;
      for (int64_t i = kv_head * d; i < (kv_head + 1) * d; ++i) {
        double moved = largest[i];
        for (int64_t r = 0; r < tensor.rank && tensor.basis != nullptr; ++r) {
          moved += std::abs(value_decoder_[i * tensor.rank + r]) *
                   largest_latent[group * tensor.rank + r];
        }
        // Twice half a unit, and the roundings of f32 sums.
        bound.push_back(moved * (0x1p-8 + 0x1p-15));
      }
    }
    return bound;
  }

  bool on_cpu() const { return std::string_view(backend_.name()) == "cpu"; }

  Case case_;
  Backend& backend_;
  const BlockReader& reader_;
  CacheLayer layer_;
  int64_t num_blocks_ = 0;
  std::vector<double> frequency_;
  std::vector<float> key_encoder_, key_decoder_, value_encoder_, value_decoder_;
  std::unique_ptr<Basis> key_basis_, value_basis_;
  Buffer rope_, latent_pool_, exact_pool_, rows_, out_;
  std::vector<std::byte> latents_;  // the latent pool in the program's memory
  std::vector<Sequence> sequences_;
};

class KvCacheTest : public testing::TestWithParam<std::pair<std::string, Case>> {
 protected:
  // Skips, visibly, where this machine can't run the backend.
  void SetUp() override {
    backend_ = Make(1);
    if (backend_ != nullptr) return;
    ASSERT_FALSE(on_cpu()) << unavailable_;
    GTEST_SKIP() << unavailable_;
  }

  const Case& layout() const { return GetParam().second; }
  bool on_cpu() const { return GetParam().first == "cpu"; }
  Backend& backend() { return *backend_; }

  std::unique_ptr<Backend> Make(int num_threads) {
    auto backend = MakeBackend(GetParam().first, num_threads);
    if (backend.ok()) return *std::move(backend);
    unavailable_ = backend.status();
    return nullptr;
  }

 private:
  std::unique_ptr<Backend> backend_;
  absl::Status unavailable_;
};

TEST_P(KvCacheTest, MatchesTheReference) {
  const auto two_threads = on_cpu() ? Make(2) : nullptr;
  ForEachTarget(backend(), [&](const std::string& target) {
    SCOPED_TRACE(target);
    Fixture fixture(layout(), on_cpu() ? *two_threads : backend());
    fixture.FeedAll(37);
    fixture.CheckLatents();
    fixture.CheckOutputs();
  });
}

TEST_P(KvCacheTest, ResultsDoNotDependOnChunksBatchOrThreads) {
  struct Feed {
    int64_t chunk, lag, generated;
    int threads;
  };
  ForEachTarget(backend(), [&](const std::string& target) {
    Fixture whole(layout(), backend());
    whole.FeedAll(1 << 20);
    for (const Feed& feed :
         {Feed{1, 0, 1, 1}, Feed{7, 3, 1, 2}, Feed{16, 1, 7, 3}, Feed{64, 0, 1 << 20, 2}}) {
      const auto other_backend = on_cpu() ? Make(feed.threads) : nullptr;
      Fixture other(layout(), on_cpu() ? *other_backend : backend());
      other.FeedAll(feed.chunk, feed.lag, feed.generated);
      other.ExpectSameOutputs(whole, target + " chunk " + std::to_string(feed.chunk) + " lag " +
                                         std::to_string(feed.lag) + " threads " +
                                         std::to_string(feed.threads));
    }
  });
}

std::vector<std::pair<std::string, Case>> With(const std::string& backend,
                                               const std::vector<Case>& cases) {
  std::vector<std::pair<std::string, Case>> params;
  for (const Case& c : cases) params.emplace_back(backend, c);
  return params;
}

std::string CaseName(const testing::TestParamInfo<std::pair<std::string, Case>>& test) {
  return test.param.second.name;
}

INSTANTIATE_TEST_SUITE_P(Layouts, KvCacheTest, testing::ValuesIn(With("cpu", CpuCases())),
                         CaseName);
#ifdef LORC_HAS_CUDA
INSTANTIATE_TEST_SUITE_P(CudaLayouts, KvCacheTest, testing::ValuesIn(With("cuda", CudaCases())),
                         CaseName);
#endif

}  // namespace
}  // namespace lorc
