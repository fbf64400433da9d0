// The cache ops end to end: sequences are fed in chunks, and what comes out is compared with
// attention in double precision over what the cache should hold.

#include "kernels/cpu/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>

#include "kernels/base/check.h"
#include "kernels/cpu/cache_blocks.h"
#include "kernels/cpu/cpu_basis.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/reference/reference_ops.h"
#include "tests/kernels/kernel_test_util.h"

namespace lorc {
namespace {

// Latents of one tensor. groups 0: the identity.
struct TensorSpec {
  int32_t groups = 0;
  std::vector<CacheSegment> segments;
};

struct Case {
  std::string name;
  int32_t heads, kv_heads, head_dim;
  int32_t anchor;
  int32_t prefix_blocks, window_blocks;
  TensorSpec key, value;
  DType exact_type = DType::kF32;
  DType basis_type = DType::kF32;
  int32_t block_tokens = 16;
  int64_t prompt = 150;    // positions of the prompt
  int64_t generated = 40;  // positions after it

  friend std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }
};

std::vector<CacheSegment> Split(SegmentType type, std::vector<int32_t> widths) {
  std::vector<CacheSegment> segments;
  for (const int32_t width : widths) segments.push_back({type, width});
  return segments;
}

std::vector<Case> Cases() {
  const auto f32 = [](std::vector<int32_t> w) { return Split(SegmentType::kF32, std::move(w)); };
  const auto bf16 = [](std::vector<int32_t> w) { return Split(SegmentType::kBf16, std::move(w)); };
  const auto int8 = [](std::vector<int32_t> w) { return Split(SegmentType::kInt8, std::move(w)); };
  std::vector<Case> cases = {
      {"full_f32", 4, 2, 16, 0, 0, 0, {0, f32({16})}, {0, f32({16})}},
      {"full_bf16", 6, 2, 64, 0, 0, 0, {0, bf16({64})}, {0, bf16({64})}},
      {"full_int8", 4, 2, 32, 0, 0, 0, {0, int8({32})}, {0, int8({16, 16})}},
      {"mha_odd_head", 3, 3, 24, 0, 0, 0, {0, bf16({24})}, {0, bf16({24})}},
      {"one_head", 1, 1, 8, 0, 0, 0, {0, f32({8})}, {0, bf16({8})}},
      {"direct_joint",
       9,
       3,
       64,
       32,
       1,
       4,
       {1, int8({32, 32, 32, 32, 16})},
       {1, int8({32, 32, 32, 32, 16})}},
      {"direct_joint_f32", 9, 3, 64, 64, 1, 2, {1, f32({144})}, {1, f32({96})}},
      {"direct_per_head", 8, 4, 16, 16, 0, 1, {4, bf16({8})}, {4, bf16({8})}},
      {"direct_mixed_groups", 8, 4, 16, 48, 2, 3, {2, int8({16, 8})}, {1, bf16({32, 8})}},
      {"direct_mixed_types",
       6,
       2,
       32,
       128,
       1,
       1,
       {1, {{SegmentType::kF32, 8}, {SegmentType::kBf16, 16}, {SegmentType::kInt8, 24}}},
       {1,
        {{SegmentType::kBf16, 8},
         {SegmentType::kInt8, 8},
         {SegmentType::kF32, 8},
         {SegmentType::kInt8, 16}}}},
      {"direct_no_window", 4, 2, 16, 16, 0, 0, {1, f32({24})}, {1, f32({16})}},
      {"direct_prefix_only", 4, 2, 16, 32, 2, 0, {1, f32({24})}, {2, f32({8})}},
      {"direct_no_anchor", 4, 2, 16, 0, 0, 2, {1, f32({32})}, {1, f32({32})}},
      {"direct_many_heads", 26, 2, 8, 32, 0, 1, {1, int8({16})}, {1, int8({16})}},
      {"rebuilt_joint", 9, 3, 64, 1, 1, 4, {1, int8({32, 32, 32})}, {1, bf16({96})}},
      {"rebuilt_per_head", 4, 4, 16, 1, 0, 0, {4, f32({8})}, {4, f32({8})}},
      {"rebuilt_groups", 8, 4, 16, 1, 1, 2, {2, bf16({24})}, {4, f32({16})}},
      {"bf16_everywhere",
       9,
       3,
       64,
       64,
       1,
       4,
       {1, int8({32, 32, 32, 32, 16})},
       {1, bf16({144})},
       DType::kBf16,
       DType::kBf16},
      {"wide_blocks",
       4,
       2,
       16,
       64,
       1,
       2,
       {1, int8({16, 8})},
       {1, bf16({24})},
       DType::kBf16,
       DType::kF32,
       32},
      {"widest_blocks",
       4,
       2,
       16,
       64,
       0,
       1,
       {1, int8({16, 8})},
       {1, bf16({24})},
       DType::kF32,
       DType::kF32,
       64},
      {"no_prompt_form",
       4,
       2,
       16,
       32,
       1,
       2,
       {1, int8({16})},
       {1, int8({16})},
       DType::kF32,
       DType::kF32,
       16,
       1,
       150},
  };
  Case longer{"long_context", 4, 2, 16, 256, 1, 4, {1, int8({16, 8})}, {1, int8({24})}};
  longer.prompt = 1060;
  longer.generated = 20;
  cases.push_back(longer);
  for (const SegmentType type : kSegmentTypes) {
    const std::string name = Name(type);
    // Blocks that age, tokens that are written alone, and keys that are rebuilt.
    cases.push_back({"equal_types_" + name,
                     9,
                     3,
                     64,
                     32,
                     1,
                     4,
                     {1, Split(type, {32, 32, 32, 32, 16})},
                     {1, Split(type, {32, 64})}});
    cases.push_back(
        {"alone_" + name, 4, 2, 16, 32, 0, 0, {2, Split(type, {8})}, {1, Split(type, {16, 8})}});
    cases.push_back(
        {"rebuilt_" + name, 4, 2, 32, 1, 1, 2, {1, Split(type, {24, 16})}, {2, Split(type, {24})}});
    cases.push_back({"full_" + name + "_window",
                     6,
                     2,
                     64,
                     0,
                     1,
                     4,
                     {0, Split(type, {32, 32})},
                     {0, Split(type, {64})}});
  }
  const std::vector<CacheSegment> mixed = {{SegmentType::kInt8, 32}, {SegmentType::kInt4, 32},
                                           {SegmentType::kInt3, 24}, {SegmentType::kInt2, 32},
                                           {SegmentType::kFp8, 8},   {SegmentType::kBf16, 8}};
  Case bits{"mixed_bits", 9, 3, 64, 64, 1, 2, {1, mixed}, {1, mixed}};
  cases.push_back(bits);
  bits.name = "mixed_bits_wide_blocks";
  bits.block_tokens = 32;
  bits.exact_type = bits.basis_type = DType::kBf16;
  cases.push_back(bits);
  bits.name = "mixed_bits_widest_blocks_alone";
  bits.block_tokens = 64;
  bits.prefix_blocks = bits.window_blocks = 0;
  cases.push_back(bits);
  cases.push_back({"mixed_bits_many_heads",
                   26,
                   2,
                   8,
                   32,
                   0,
                   1,
                   {1, {{SegmentType::kInt4, 8}, {SegmentType::kInt3, 8}}},
                   {1, {{SegmentType::kInt2, 8}, {SegmentType::kInt4, 8}}}});
  return cases;
}

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
  Fixture(const Case& c, int num_threads) : case_(c), pool_(num_threads) {
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
    for (int64_t n = 0; n < length(); ++n) {
      for (const double frequency : frequency_) {
        cos_.push_back(static_cast<float>(std::cos(static_cast<double>(n) * frequency)));
        sin_.push_back(static_cast<float>(std::sin(static_cast<double>(n) * frequency)));
      }
    }
    layer_.rope_cos = cos_.data();
    layer_.rope_sin = sin_.data();
    num_blocks_ = (length() + c.block_tokens - 1) / c.block_tokens;
    // Everything that is not written is NaN.
    latent_pool_.assign(kSequences * num_blocks_ * layer_.LatentBlockBytes() + kPoolSlackBytes,
                        std::byte{0xff});
    exact_pool_.assign(kSequences * num_blocks_ * layer_.ExactBlockBytes() + kPoolSlackBytes,
                       std::byte{0xff});
    layer_.latent_pool = latent_pool_.data();
    layer_.exact_pool = exact_pool_.data();
    CacheLimits limits;
    limits.num_heads = c.heads;
    limits.num_kv_heads = c.kv_heads;
    limits.head_dim = c.head_dim;
    limits.max_latent_width =
        std::max(layer_.key.groups * layer_.key.rank, layer_.value.groups * layer_.value.rank);
    limits.max_tokens = kSequences * length();
    limits.max_context = length();
    limits.block_tokens = c.block_tokens;
    limits.num_threads = num_threads;
    arena_ = Arena(
        *Buffer::Allocate(std::max(WriteCacheScratchBytes(limits), AttendScratchBytes(limits)),
                          MemoryUse::kWorkspace, nullptr));
    std::memset(arena_.Take<std::byte>(0), 0xff, arena_.left());
    LORC_CHECK(linear_.Reserve(num_threads, std::max<int64_t>(length(), 1024), 0, nullptr).ok());
    for (int s = 0; s < kSequences; ++s) {
      Sequence& sequence = sequences_.emplace_back();
      sequence.key = RandomNormal(length() * kv_width(), 100 + s);
      sequence.value = RandomNormal(length() * kv_width(), 200 + s);
      sequence.query = RandomNormal(length() * query_width(), 300 + s, 2.0f);
      sequence.out.assign(length() * query_width(), NAN);
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
  }

  static constexpr int kSequences = 2;

  int64_t length() const { return case_.prompt + case_.generated; }
  int64_t kv_width() const { return case_.kv_heads * case_.head_dim; }
  int64_t query_width() const { return case_.heads * case_.head_dim; }

  // Feeds both sequences to their ends in one batch per step: the prompt in chunks of `chunk`, then
  // token by token. The second sequence starts `lag` steps later. Blocks that are given back are
  // poisoned.
  void FeedAll(int64_t chunk, int64_t lag = 0) {
    int64_t first[kSequences] = {};
    for (int64_t step = 0; first[0] < length() || first[1] < length(); ++step) {
      std::vector<SequenceSpan> spans;
      std::vector<int> which;
      int64_t rows = 0;
      for (int s = 0; s < kSequences; ++s) {
        if (first[s] == length() || (s == 1 && step < lag)) continue;
        SequenceSpan span;
        span.row = rows;
        span.first = first[s];
        span.count = first[s] < case_.prompt ? std::min(chunk, case_.prompt - first[s]) : 1;
        span.num_prompt_tokens = case_.prompt;
        span.latent_blocks = sequences_[s].latent_blocks.data();
        span.exact_blocks = sequences_[s].exact_blocks.data();
        rows += span.count;
        spans.push_back(span);
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
    for (int s = 0; s < kSequences; ++s) {
      CheckLatents(s, KeyOrValue::kKey, layer_.key);
      CheckLatents(s, KeyOrValue::kValue, layer_.value);
    }
  }

  // Compares outputs with attention over what the cache holds.
  void CheckOutputs() {
    for (int s = 0; s < kSequences; ++s) {
      const auto latent_keys = FullFromLatents(s, KeyOrValue::kKey, layer_.key);
      const auto latent_values = FullFromLatents(s, KeyOrValue::kValue, layer_.value);
      std::vector<double> expected, bound;
      for (int64_t m = 0; m < length(); ++m) {
        Expect(s, m, latent_keys, latent_values, expected, bound);
      }
      ExpectWithin(sequences_[s].out, expected, bound, "sequence " + std::to_string(s));
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
    const BasisSource source{tensor.groups, static_cast<int32_t>(n), case_.head_dim,
                             tensor.rank,   encoder.data(),          decoder.data()};
    auto basis = CpuBasis::Make(source, key, case_.basis_type, nullptr, pool_);
    LORC_CHECK(basis.ok());
    (key ? key_basis_ : value_basis_) = *std::move(basis);
    tensor.basis = (key ? key_basis_ : value_basis_).get();
  }

  void Step(const std::vector<SequenceSpan>& spans, const std::vector<int>& which, int64_t rows) {
    // Query, key and value of a row together, as a fused product leaves them.
    const int64_t width = query_width() + 2 * kv_width();
    std::vector<float> qkv(rows * width);
    for (size_t i = 0; i < spans.size(); ++i) {
      const Sequence& sequence = sequences_[which[i]];
      for (int64_t t = 0; t < spans[i].count; ++t) {
        const int64_t n = spans[i].first + t;
        float* row = qkv.data() + (spans[i].row + t) * width;
        std::copy_n(sequence.query.data() + n * query_width(), query_width(), row);
        std::copy_n(sequence.key.data() + n * kv_width(), kv_width(), row + query_width());
        std::copy_n(sequence.value.data() + n * kv_width(), kv_width(),
                    row + query_width() + kv_width());
      }
    }
    WriteCacheArgs write;
    write.layer = &layer_;
    write.sequences = spans;
    write.key = qkv.data() + query_width();
    write.value = write.key + kv_width();
    write.key_stride = write.value_stride = width;
    CpuWriteCache(write, pool_, linear_, arena_);
    std::vector<float> out(rows * query_width(), NAN);
    AttendArgs attend;
    attend.layer = &layer_;
    attend.sequences = spans;
    attend.query = qkv.data();
    attend.query_stride = width;
    attend.out = out.data();
    CpuAttend(attend, pool_, linear_, arena_);
    for (size_t i = 0; i < spans.size(); ++i) {
      std::copy_n(out.data() + spans[i].row * query_width(), spans[i].count * query_width(),
                  sequences_[which[i]].out.data() + spans[i].first * query_width());
    }
  }

  void FreeAged(int s, int64_t first, int64_t end) {
    if (layer_.window_blocks == 0) return;
    for (int64_t j = std::max<int64_t>(layer_.prefix_blocks, layer_.LatentEnd(first));
         j < layer_.LatentEnd(end); ++j) {
      std::memset(exact_pool_.data() + sequences_[s].exact_blocks[j] * layer_.ExactBlockBytes(),
                  0xff, layer_.ExactBlockBytes());
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

  bool HeldAsLatent(int64_t n) const {
    const int64_t block = n / layer_.block_tokens;
    return block >= layer_.prefix_blocks && block < layer_.LatentEnd(length());
  }

  const std::byte* LatentPart(int s, int64_t block, KeyOrValue which) const {
    return latent_pool_.data() + sequences_[s].latent_blocks[block] * layer_.LatentBlockBytes() +
           (which == KeyOrValue::kKey ? 0 : layer_.block_tokens * layer_.key.BytesPerToken());
  }

  std::vector<float> ReadLatent(int s, KeyOrValue which, const CacheTensor& tensor, int64_t n,
                                int64_t group) const {
    const int64_t slot = n % layer_.block_tokens;
    std::vector<float> rows((slot + 1) * tensor.rank);
    ReadTokens(tensor, which, layer_.block_tokens, static_cast<int32_t>(group), slot + 1,
               LatentPart(s, n / layer_.block_tokens, which), rows.data(), tensor.rank);
    return {rows.end() - tensor.rank, rows.end()};
  }

  struct Steps {
    double scale, minimum;
  };

  // Of one token's segment, that begins at `part`.
  Steps ReadSteps(const CacheSegment& segment, const std::byte* part, int64_t slot) const {
    const int64_t b = layer_.block_tokens;
    f16_t scale, minimum;
    part += segment.width * b * BitsPerNumber(segment.type) / 8;
    std::memcpy(&scale, part + 2 * slot, 2);
    std::memcpy(&minimum, part + 2 * (b + slot), 2);
    return {F16ToF32(scale), F16ToF32(minimum)};
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
    const auto& encoder = key ? key_encoder_ : value_encoder_;
    const int64_t width = tensor.heads_per_group * case_.head_dim;
    std::vector<float> actual, errors;
    std::vector<double> expected, bound, no_error, error_bound;
    for (int64_t n = 0; n < length(); ++n) {
      if (!HeldAsLatent(n)) continue;
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
        std::vector<double> latent;
        for (int64_t r = 0; r < tensor.rank; ++r) {
          double sum = 0;
          for (int64_t i = 0; i < width; ++i) {
            sum += full[i] * encoder[(group * tensor.rank + r) * width + i];
          }
          latent.push_back(sum);
        }
        const auto read = ReadLatent(s, which, tensor, n, group);
        actual.insert(actual.end(), read.begin(), read.end());
        // Inputs that are rounded to bf16 on the way into the product move it by 2^-8 of the
        // norms; keys that are rounded to bf16 after a rotation in another precision may land on
        // the neighbour.
        const double product = (case_.basis_type == DType::kBf16 ? 0x1p-8 : 0x1p-18) * norm * 1.5 +
                               (case_.exact_type == DType::kBf16 ? 0x1p-9 * norm : 0);
        const std::byte* part = LatentPart(s, n / layer_.block_tokens, which) +
                                group * GroupBlockBytes(tensor, layer_.block_tokens);
        int64_t first = 0;
        for (const CacheSegment& segment : tensor.segments) {
          const std::span<const double> written(latent.data() + first, segment.width);
          if (HasScale(segment.type)) {
            const Steps steps = ReadSteps(segment, part, n % layer_.block_tokens);
            const double top = steps.minimum + steps.scale * MaxCode(segment.type);
            double squares = 0;
            for (int64_t i = 0; i < segment.width; ++i) {
              // The nearest of the segment's values.
              expected.push_back(std::clamp(written[i], steps.minimum, top));
              bound.push_back(0.5 * steps.scale * 1.0001 + product);
              squares += std::pow(read[first + i] - written[i], 2);
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
          part += SegmentBlockBytes(segment, layer_.block_tokens);
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
    std::vector<std::vector<double>> full(length());
    for (int64_t n = 0; n < length(); ++n) {
      if (!HeldAsLatent(n)) continue;
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
        const double relative = case_.basis_type == DType::kBf16   ? 0x1p-7
                                : case_.exact_type == DType::kBf16 ? 0x1p-9
                                                                   : 0x1p-14;
        for (int64_t i = 0; i < d; ++i) {
          bound.push_back(largest_value * (2 * scale * relative + relative + 0x1p-15) + 1e-6);
        }
      }
    }
  }

  Case case_;
  ThreadPool pool_;
  LinearScratch linear_;
  Arena arena_;
  CacheLayer layer_;
  int64_t num_blocks_ = 0;
  std::vector<double> frequency_;
  std::vector<float> cos_, sin_;
  std::vector<float> key_encoder_, key_decoder_, value_encoder_, value_decoder_;
  std::unique_ptr<CpuBasis> key_basis_, value_basis_;
  std::vector<std::byte> latent_pool_, exact_pool_;
  std::vector<Sequence> sequences_;
};

class KvCacheTest : public testing::TestWithParam<Case> {};

TEST_P(KvCacheTest, MatchesTheReference) {
  ForEachInstructionSet([&](const std::string& target) {
    SCOPED_TRACE(target);
    Fixture fixture(GetParam(), 2);
    fixture.FeedAll(37);
    fixture.CheckLatents();
    fixture.CheckOutputs();
  });
}

TEST_P(KvCacheTest, ResultsDoNotDependOnChunksBatchOrThreads) {
  ForEachInstructionSet([&](const std::string& target) {
    Fixture whole(GetParam(), 1);
    whole.FeedAll(1 << 20);
    for (const auto& [chunk, lag, threads] : std::vector<std::tuple<int64_t, int64_t, int>>{
             {1, 0, 1}, {7, 3, 2}, {16, 1, 3}, {64, 0, 2}}) {
      Fixture other(GetParam(), threads);
      other.FeedAll(chunk, lag);
      for (int s = 0; s < Fixture::kSequences; ++s) {
        ASSERT_EQ(0, std::memcmp(other.out(s).data(), whole.out(s).data(),
                                 whole.out(s).size() * sizeof(float)))
            << target << " chunk " << chunk << " lag " << lag << " threads " << threads
            << " sequence " << s;
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Layouts, KvCacheTest, testing::ValuesIn(Cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace lorc
