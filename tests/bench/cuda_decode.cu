// Decode attention on a CUDA device: checked against double precision, then timed.
//
//   cuda_decode [--only TEXT] [--check-only]
//
// Shapes are LLaMA-3-8B's (h 32, g 8, d 128), one layer. Bytes are those of the cache that a step
// must read; rates are beside the device's own copy rate. Blocks lie in random order.

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/cuda/absorb.h"
#include "kernels/cuda/attend_narrow.h"
#include "kernels/cuda/attend_wide.h"
#include "kernels/cuda/cache_layout.h"
#include "kernels/cuda/decode_basis.h"
#include "kernels/cuda/decode_out.h"
#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/fragments.cuh"

namespace lorc::cuda {
namespace {

#define CHECK_CUDA(call)                                                 \
  do {                                                                   \
    const cudaError_t error = (call);                                    \
    if (error != cudaSuccess) {                                          \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, \
                   cudaGetErrorString(error));                           \
      std::exit(1);                                                      \
    }                                                                    \
  } while (false)

template <typename T>
struct DeviceArray {
  T* data = nullptr;
  size_t count = 0;
  explicit DeviceArray(size_t n = 0) : count(n) {
    if (n > 0) CHECK_CUDA(cudaMalloc(&data, n * sizeof(T)));
  }
  explicit DeviceArray(const std::vector<T>& host) : DeviceArray(host.size()) {
    if (count > 0) CHECK_CUDA(cudaMemcpy(data, host.data(), count * sizeof(T), cudaMemcpyDefault));
  }
  DeviceArray(DeviceArray&& other) noexcept : data(other.data), count(other.count) {
    other.data = nullptr;
  }
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data, other.data);
    std::swap(count, other.count);
    return *this;
  }
  ~DeviceArray() { cudaFree(data); }
  std::vector<T> Host() const {
    std::vector<T> host(count);
    CHECK_CUDA(cudaMemcpy(host.data(), data, count * sizeof(T), cudaMemcpyDefault));
    return host;
  }
};

struct Case {
  std::string name;
  int heads = 32, kv_heads = 8, head_dim = 128;
  int groups = 8;
  bool identity = false;
  int anchor = 256;
  int prefix_blocks = 0, window_blocks = 0;
  int block_tokens = 16;
  std::vector<CacheSegment> key, value;
  std::vector<int> lengths;
};

int64_t GroupBytes(const std::vector<CacheSegment>& segments, int block_tokens) {
  int64_t bytes = 0;
  for (const auto& s : segments) bytes += SegmentBytes(s.type, s.width, block_tokens);
  return bytes;
}

int Rank(const std::vector<CacheSegment>& segments) {
  int rank = 0;
  for (const auto& s : segments) rank += s.width;
  return rank;
}

__device__ uint32_t Hash(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdull;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ull;
  x ^= x >> 33;
  return static_cast<uint32_t>(x);
}

struct FillParams {
  int num_segments;
  int64_t
      begin[80];  // of each segment's codes, ascending; begin[num_segments] is the block's bytes
  int64_t scales[80];
  SegmentType type[80];
};

// Any codes, and scales so that numbers lie within about +-1.
__global__ void FillPool(uint32_t* pool, int64_t words, int64_t block_bytes, FillParams f,
                         uint64_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < words;
       i += int64_t{gridDim.x} * blockDim.x) {
    const int64_t byte = i * 4 % block_bytes;
    int s = 0;
    while (s + 1 < f.num_segments && byte >= f.begin[s + 1]) ++s;
    const uint32_t random = Hash(seed + i);
    const float unit = static_cast<float>(random >> 8) * 0x1p-24f;
    uint32_t word = random;
    if (f.type[s] == SegmentType::kBf16) {
      word = Pack<true>(2 * unit - 1, static_cast<float>(random & 0xffff) * 0x1p-15f - 1);
    } else if (f.type[s] == SegmentType::kFp8) {
      word = random & 0xbfbfbfbfu;
      word = word & 0x80808080u | (word & 0x7f7f7f7fu) >> 1;
    } else if (byte >= f.scales[s]) {
      const float size = 0.75f + 0.5f * unit;
      word = Pack<false>(2 * size / static_cast<float>((1 << NumberBits(f.type[s])) - 1), -size);
    }
    pool[i] = word;
  }
}

float Half(uint16_t bits) { return __half2float(__half_raw{bits}); }

// A number of a block on the host.
float ReadNumber(bool key, const CacheSegment& segment, int block_tokens, const std::byte* at,
                 int token, int column) {
  const NumberPlace place = PlaceOf(key, segment.width, token, column);
  const std::byte* unit =
      at + UnitOffset(segment.type, segment.width, block_tokens, place.unit, place.run);
  const auto bits = [&](const std::byte* plane, int count) {
    const BitPlace bit = PlaceOfBits(count, place);
    const int bytes = LaneBytes(count, place.unit_width);
    uint32_t word = 0;
    std::memcpy(&word, plane + place.lane * bytes + bit.byte, std::min(4, bytes));
    return word >> bit.shift & ((1u << count) - 1);
  };
  if (segment.type == SegmentType::kBf16) {
    const int half = 2 * (place.pair % 4) + place.half;
    uint16_t word;
    std::memcpy(&word, unit + place.pair / 4 * 512 + place.lane * 16 + 2 * half, 2);
    return Bf16ToF32(word);
  }
  if (segment.type == SegmentType::kFp8) {
    return Fp8ToF32(static_cast<fp8_t>(
        unit[place.lane * (place.unit_width / 2) + 2 * place.pair + place.half]));
  }
  uint32_t code;
  if (segment.type == SegmentType::kInt3) {
    code = bits(unit, 2) | bits(unit + 4 * place.unit_width, 1) << 2;
  } else {
    code = bits(unit, NumberBits(segment.type));
  }
  uint16_t line[2];
  std::memcpy(line, at + ScalesOffset(segment.type, segment.width, block_tokens) + 4 * token, 4);
  return Half(line[1]) + Half(line[0]) * static_cast<float>(code);
}

class Bench {
 public:
  Bench(const Case& c, int num_sms, int shared_bytes) : c_(c), shared_bytes_(shared_bytes) {
    const int batch = static_cast<int>(c.lengths.size());
    const int B = c.block_tokens;
    s_ = c.kv_heads / c.groups;
    G_ = c.heads / c.kv_heads;
    rows_ = s_ * G_;
    rk_ = Rank(c.key), rv_ = Rank(c.value);
    key_group_ = GroupBytes(c.key, B), value_group_ = GroupBytes(c.value, B);
    latent_block_ = c.groups * (key_group_ + value_group_);
    exact_segments_ = {{SegmentType::kBf16, c.head_dim}};
    exact_group_ = GroupBytes(exact_segments_, B);
    exact_block_ = 2 * c.kv_heads * exact_group_;
    units_.key_count = MakeUnits(c.key, B, units_.key);
    units_.value_count = MakeUnits(c.value, B, units_.value);
    exact_units_.key_count = MakeUnits(exact_segments_, B, exact_units_.key);
    exact_units_.value_count = MakeUnits(exact_segments_, B, exact_units_.value);
    wide_ = !NarrowTakes(rows_, c.groups, units_, shared_bytes);

    std::mt19937 random(7);
    std::vector<DecodeRange> latent, exact;
    std::vector<int32_t> chunk_base, latent_table, exact_table;
    std::vector<DecodeChunk> chunks;
    for (int i = 0; i < batch; ++i) {
      const int length = c.lengths[i];
      const int blocks = (length + B - 1) / B;
      const int window = c.window_blocks == 0
                             ? blocks
                             : std::max(c.prefix_blocks, (length - 1) / B - c.window_blocks + 1);
      const int lat_begin = std::min(c.prefix_blocks * B, length);
      const int lat_end =
          c.window_blocks == 0 ? length : std::max(lat_begin, std::min(length, window * B));
      lat_.push_back({lat_begin, lat_end});
      latent.push_back(
          {i, length - 1, static_cast<int32_t>(latent_table.size()), lat_begin, lat_end});
      chunk_base.push_back(static_cast<int32_t>(chunks.size()));
      if (lat_end > lat_begin && !c.identity) {
        const int chunk_tokens = c.anchor == 0 ? 1 << 30 : c.anchor;
        chunk_base.back() -= lat_begin / chunk_tokens;
        for (int k = lat_begin / chunk_tokens; k <= (lat_end - 1) / chunk_tokens; ++k) {
          chunks.push_back({i, length - 1 - k * c.anchor});
        }
      }
      exact.push_back({i, length - 1, static_cast<int32_t>(exact_table.size()), 0, lat_begin});
      exact.push_back({i, length - 1, static_cast<int32_t>(exact_table.size()), lat_end, length});
      for (int b = 0; b < blocks; ++b) {
        latent_table.push_back(num_latent_++);
        exact_table.push_back(num_exact_);
        if (b * B < lat_begin || b * B >= lat_end) ++num_exact_;
      }
      latent_tokens_ += lat_end - lat_begin;
      exact_tokens_ += length - (lat_end - lat_begin);
    }
    {
      std::vector<int32_t> order(num_latent_);
      for (int i = 0; i < num_latent_; ++i) order[i] = i;
      std::shuffle(order.begin(), order.end(), random);
      for (int32_t& id : latent_table) id = order[id];
    }
    latent_table_ = latent_table, exact_table_ = exact_table;
    const int y =
        wide_ ? c.groups * ((rows_ + WideTileRows(rows_, units_) - 1) / WideTileRows(rows_, units_))
              : (c.groups + 7) / 8;
    latent_plan_ = PlanPass(latent, chunk_base, wide_ ? 32 : 16, std::max(1, num_sms / y));
    exact_plan_ = PlanPass(exact, {}, 16, num_sms * 2);
    for (int i = 0; i < batch; ++i) {
      row_slots_.push_back({i, latent_plan_.range_slot[i], latent_plan_.range_slot[i + 1],
                            exact_plan_.range_slot[2 * i], exact_plan_.range_slot[2 * i + 2]});
    }
    chunks_ = chunks;
    // Device memory.
    latent_pool_ = DeviceArray<std::byte>(num_latent_ * latent_block_ + 64);
    exact_pool_ = DeviceArray<std::byte>(std::max(1, num_exact_) * exact_block_ + 64);
    Fill(latent_pool_, num_latent_, latent_block_, c.key, c.value, c.groups, 1);
    Fill(exact_pool_, num_exact_, exact_block_, exact_segments_, exact_segments_, c.kv_heads, 2);
    const int half = c.head_dim / 2;
    const int longest = *std::max_element(c.lengths.begin(), c.lengths.end());
    for (int n = 0; n < longest; ++n) {
      for (int j = 0; j < half; ++j) {
        const double angle = n * std::pow(5e5, -2.0 * j / c.head_dim);
        cos_.push_back(static_cast<float>(std::cos(angle)));
        sin_.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < int64_t{batch} * c.heads * c.head_dim; ++i)
      query_.push_back(normal(random));
    for (int64_t i = 0; i < int64_t{c.kv_heads} * c.head_dim * rk_; ++i)
      key_decoder_.push_back(normal(random) / std::sqrt(static_cast<float>(rk_)) * 1.5f);
    for (int64_t i = 0; i < int64_t{c.kv_heads} * c.head_dim * rv_; ++i)
      value_decoder_.push_back(normal(random) / std::sqrt(static_cast<float>(rv_)));
    d_query_ = DeviceArray<float>(query_);
    d_cos_ = DeviceArray<float>(cos_), d_sin_ = DeviceArray<float>(sin_);
    BasisSource source{c.groups, s_ * c.head_dim, c.head_dim, rk_, nullptr, key_decoder_.data()};
    if (!c.identity) {
      const DecoderFragments key = PackKeyDecoder(source);
      d_key_decoder_ = DeviceArray<uint32_t>(key.words);
      d_norm_ = DeviceArray<float>(key.column_norm);
      source.rank = rv_, source.decoder = value_decoder_.data();
      d_value_decoder_ = DeviceArray<uint32_t>(PackValueDecoder(source).words);
    }
    d_chunks_ = DeviceArray<DecodeChunk>(chunks);
    d_latent_table_ = DeviceArray<int32_t>(latent_table);
    d_exact_table_ = DeviceArray<int32_t>(exact_table);
    d_slots_ = DeviceArray<RowSlots>(row_slots_);
    Upload(latent_plan_, d_latent_table_, latent_arrays_, latent_pass_);
    Upload(exact_plan_, d_exact_table_, exact_arrays_, exact_pass_);

    tile_rows_ = wide_ ? WideTileRows(rows_, units_) : 16;
    head_tiles_ = (rows_ + tile_rows_ - 1) / tile_rows_;
    const int64_t tiles = int64_t{c.groups} * head_tiles_;
    d_absorbed_ = DeviceArray<uint32_t>(
        chunks.size() * tiles * units_.key_count * 2 * (tile_rows_ / 16) * 128 + 4);
    d_absorbed_scale_ = DeviceArray<float>(chunks.size() * tiles * tile_rows_ + 4);
    d_latent_state_ = DeviceArray<float2>(latent_plan_.num_slots * tiles * tile_rows_ + 4);
    d_latent_out_ = DeviceArray<float>(latent_plan_.num_slots * tiles * tile_rows_ * rv_ + 4);
    d_exact_state_ = DeviceArray<float2>(exact_plan_.num_slots * c.kv_heads * 16 + 4);
    d_exact_out_ =
        DeviceArray<float>(int64_t{exact_plan_.num_slots} * c.kv_heads * 16 * c.head_dim + 4);
    d_latents_ = DeviceArray<uint16_t>(int64_t{batch} * c.heads * rv_);
    d_exact_sum_ = DeviceArray<float>(int64_t{batch} * c.heads * c.head_dim);
    d_out_ = DeviceArray<float>(int64_t{batch} * c.heads * c.head_dim);
  }

  int64_t CacheBytes() const {
    return latent_tokens_ * latent_block_ / c_.block_tokens +
           exact_tokens_ * exact_block_ / c_.block_tokens;
  }

  // parts: 1 absorb, 2 latents, 4 exact, 8 combine, 16 values.
  void Run(cudaStream_t stream, int parts = 31) {
    const float softmax_scale = 1.44269504f / std::sqrt(static_cast<float>(c_.head_dim));
    const int batch = static_cast<int>(c_.lengths.size());
    if (!c_.identity && (parts & 1)) {
      AbsorbParams a;
      a.chunks = d_chunks_.data;
      a.num_chunks = static_cast<int>(chunks_.size());
      a.query = d_query_.data;
      a.query_stride = c_.heads * c_.head_dim;
      a.rope_cos = d_cos_.data, a.rope_sin = d_sin_.data;
      a.num_kv_heads = c_.kv_heads;
      a.heads_per_kv = G_;
      a.heads_per_group = s_;
      a.head_dim = c_.head_dim;
      a.rank = rk_;
      a.softmax_scale = softmax_scale;
      a.decoder = reinterpret_cast<const uint4*>(d_key_decoder_.data);
      a.column_norm = d_norm_.data;
      a.tile_rows = tile_rows_;
      a.head_tiles = head_tiles_;
      a.key_units = units_.key_count;
      for (int u = 0; u < units_.key_count; ++u) {
        for (int k = 0; k < units_.key[u].width / 16; ++k) {
          const int column = units_.key[u].column / 16 + k;
          a.place[column] = static_cast<uint8_t>(2 * u + k);
          if (units_.key[u].type == SegmentType::kBf16) a.bf16_columns |= 1ull << column;
        }
      }
      a.out = d_absorbed_.data;
      a.out_scale = d_absorbed_scale_.data;
      CHECK_CUDA(LaunchAbsorb(a, stream));
    }
    AttendLatentParams p;
    p.pass = latent_pass_;
    p.pool = latent_pool_.data;
    p.block_bytes = latent_block_;
    p.value_offset = c_.groups * key_group_;
    p.key_group_bytes = key_group_;
    p.value_group_bytes = value_group_;
    p.groups = c_.groups;
    p.rows = rows_;
    p.block_shift = c_.block_tokens == 16 ? 4 : c_.block_tokens == 32 ? 5 : 6;
    p.anchor = c_.anchor;
    p.query = reinterpret_cast<const uint2*>(d_absorbed_.data);
    p.query_scale = d_absorbed_scale_.data;
    p.partials = {d_latent_state_.data, d_latent_out_.data, rv_};
    p.rope_cos = d_cos_.data, p.rope_sin = d_sin_.data;
    p.head_dim = c_.head_dim;
    p.softmax_scale = softmax_scale;
    p.raw_stride = c_.heads * c_.head_dim;
    if (c_.identity) p.raw_query = d_query_.data;
    if ((parts & 2) && latent_plan_.num_streams() > 0) {
      CHECK_CUDA(
          wide_ ? LaunchAttendWide(p, units_, latent_plan_.num_streams(), shared_bytes_, stream)
                : LaunchAttendNarrow(p, units_, latent_plan_.num_streams(), shared_bytes_, stream));
    }
    if ((parts & 4) && exact_plan_.num_streams() > 0) {
      p.pass = exact_pass_;
      p.pool = exact_pool_.data;
      p.block_bytes = exact_block_;
      p.value_offset = c_.kv_heads * exact_group_;
      p.key_group_bytes = p.value_group_bytes = exact_group_;
      p.groups = c_.kv_heads;
      p.rows = G_;
      p.raw_query = d_query_.data;
      p.partials = {d_exact_state_.data, d_exact_out_.data, c_.head_dim};
      CHECK_CUDA(
          LaunchAttendNarrow(p, exact_units_, exact_plan_.num_streams(), shared_bytes_, stream));
    }
    if (parts & 8) {
      CombineParams m;
      m.rows = d_slots_.data;
      m.num_rows = batch;
      m.num_heads = c_.heads;
      m.heads_per_kv = G_;
      m.head_dim = c_.head_dim;
      m.latent = {d_latent_state_.data, d_latent_out_.data, rv_};
      m.latent_heads = rows_;
      m.latent_tile_rows = tile_rows_;
      m.latent_tiles = c_.groups * head_tiles_;
      m.exact = {d_exact_state_.data, d_exact_out_.data, c_.head_dim};
      m.latents = c_.identity ? nullptr : d_latents_.data;
      m.exact_out = d_exact_sum_.data;
      m.out = d_out_.data;
      CHECK_CUDA(LaunchCombine(m, stream));
    }
    if (!c_.identity && (parts & 16)) {
      DecodeValuesParams v;
      v.rows = d_slots_.data;
      v.num_rows = batch;
      v.num_heads = c_.heads;
      v.heads_per_kv = G_;
      v.head_dim = c_.head_dim;
      v.rank = rv_;
      v.latents = d_latents_.data;
      v.exact_out = d_exact_sum_.data;
      v.decoder = reinterpret_cast<const uint4*>(d_value_decoder_.data);
      v.out = d_out_.data;
      CHECK_CUDA(LaunchDecodeValues(v, stream));
    }
  }

  // Relative error of some rows and heads against double precision.
  double Check() {
    CHECK_CUDA(cudaMemset(d_out_.data, 0xff, d_out_.count * 4));
    CHECK_CUDA(cudaMemset(d_latents_.data, 0xff, d_latents_.count * 2));
    CHECK_CUDA(cudaMemset(d_latent_out_.data, 0xff, d_latent_out_.count * 4));
    Run(nullptr);
    CHECK_CUDA(cudaDeviceSynchronize());
    const auto out = d_out_.Host();
    for (const float x : out) {
      if (!std::isfinite(x)) return NAN;
    }
    double worst = 0;
    const int batch = static_cast<int>(c_.lengths.size());
    for (const int row : {0, batch / 2, batch - 1}) {
      for (const int head : {0, c_.heads / 2 + 1, c_.heads - 1}) {
        worst = std::max(worst, CheckHead(row, head, out));
      }
    }
    return worst;
  }

  // Median milliseconds of a layer, from graph replays.
  double Time(int parts = 31) {
    cudaStream_t stream;
    CHECK_CUDA(cudaStreamCreate(&stream));
    Run(stream, parts);
    CHECK_CUDA(cudaStreamSynchronize(stream));
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    constexpr int kLayers = 4;
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < kLayers; ++i) Run(stream, parts);
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    std::vector<float> times;
    cudaEvent_t a, b;
    cudaEventCreate(&a), cudaEventCreate(&b);
    for (int i = 0; i < 25; ++i) {
      cudaEventRecord(a, stream);
      cudaGraphLaunch(exec, stream);
      cudaEventRecord(b, stream);
      CHECK_CUDA(cudaEventSynchronize(b));
      float ms;
      cudaEventElapsedTime(&ms, a, b);
      if (i >= 5) times.push_back(ms / kLayers);
    }
    cudaGraphExecDestroy(exec), cudaGraphDestroy(graph), cudaStreamDestroy(stream);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

 private:
  void Fill(DeviceArray<std::byte>& pool, int blocks, int64_t block_bytes,
            const std::vector<CacheSegment>& key, const std::vector<CacheSegment>& value,
            int groups, uint64_t seed) const {
    FillParams f{};
    int64_t at = 0;
    for (const auto* part : {&key, &value}) {
      for (int g = 0; g < groups; ++g) {
        for (const CacheSegment& s : *part) {
          f.begin[f.num_segments] = at;
          f.scales[f.num_segments] = at + ScalesOffset(s.type, s.width, c_.block_tokens);
          f.type[f.num_segments++] = s.type;
          at += SegmentBytes(s.type, s.width, c_.block_tokens);
        }
      }
    }
    f.begin[f.num_segments] = at;
    FillPool<<<1024, 256>>>(reinterpret_cast<uint32_t*>(pool.data), blocks * block_bytes / 4,
                            block_bytes, f, seed << 40);
    CHECK_CUDA(cudaDeviceSynchronize());
  }

  struct Arrays {
    DeviceArray<DecodeItem> items;
    DeviceArray<int32_t> begin, item, slot;
  };
  static void Upload(const PassPlan& plan, const DeviceArray<int32_t>& table, Arrays& arrays,
                     DecodePass& pass) {
    arrays.items = DeviceArray<DecodeItem>(plan.items);
    arrays.begin = DeviceArray<int32_t>(plan.stream_begin);
    arrays.item = DeviceArray<int32_t>(plan.stream_item);
    arrays.slot = DeviceArray<int32_t>(plan.stream_slot);
    pass = {arrays.items.data, table.data, arrays.begin.data, arrays.item.data, arrays.slot.data};
  }

  std::vector<double> Rotate(const std::vector<double>& x, int distance) const {
    const int half = c_.head_dim / 2;
    std::vector<double> y(x.size());
    for (int j = 0; j < half; ++j) {
      const double c = cos_[distance * half + j], s = sin_[distance * half + j];
      y[j] = x[j] * c - x[j + half] * s;
      y[j + half] = x[j + half] * c + x[j] * s;
    }
    return y;
  }

  double CheckHead(int row, int head, const std::vector<float>& out) {
    const int d = c_.head_dim, B = c_.block_tokens;
    const int kv = head / G_, group = kv / s_;
    const int length = c_.lengths[row];
    std::vector<double> q(d);
    for (int i = 0; i < d; ++i) q[i] = query_[(int64_t{row} * c_.heads + head) * d + i];
    const auto& lat_range = lat_[row];
    int64_t table = 0;
    for (int i = 0; i < row; ++i) table += (c_.lengths[i] + B - 1) / B;
    std::vector<double> scores(length);
    std::vector<std::vector<float>> values(length);
    std::vector<std::byte> block;
    std::vector<double> rotated, absorbed;
    int last_chunk = -1;
    for (int n = 0; n < length; ++n) {
      const bool latent = n >= lat_range.first && n < lat_range.second;
      const int64_t bytes = latent ? latent_block_ : exact_block_;
      if (n % B == 0) {
        block.resize(bytes);
        const auto* pool = latent ? latent_pool_.data : exact_pool_.data;
        const int id = (latent ? latent_table_ : exact_table_)[table + n / B];
        CHECK_CUDA(cudaMemcpy(block.data(), pool + id * bytes, bytes, cudaMemcpyDefault));
      }
      const int chunk = c_.anchor == 0 ? 0 : n / c_.anchor;
      if (chunk != last_chunk) {
        last_chunk = chunk;
        rotated = Rotate(q, length - 1 - chunk * c_.anchor);
        absorbed.assign(rk_, 0);
        for (int r = 0; r < rk_ && !c_.identity; ++r) {
          for (int i = 0; i < d; ++i)
            absorbed[r] +=
                rotated[i] * Bf16ToF32(F32ToBf16(key_decoder_[(int64_t{kv} * d + i) * rk_ + r]));
        }
      }
      const auto numbers = [&](bool key) {
        std::vector<float> x;
        const auto& segments = latent ? (key ? c_.key : c_.value) : exact_segments_;
        const int64_t one = latent ? (key ? key_group_ : value_group_) : exact_group_;
        const int64_t all_keys = latent ? c_.groups * key_group_ : c_.kv_heads * exact_group_;
        int64_t at = (key ? 0 : all_keys) + (latent ? group : kv) * one;
        for (const auto& s : segments) {
          for (int i = 0; i < s.width; ++i)
            x.push_back(ReadNumber(key, s, B, block.data() + at, n % B, i));
          at += SegmentBytes(s.type, s.width, B);
        }
        return x;
      };
      const auto key = numbers(true);
      double score = 0;
      const auto& against = latent && !c_.identity ? absorbed : rotated;
      for (size_t i = 0; i < key.size(); ++i) score += against[i] * key[i];
      scores[n] = score / std::sqrt(static_cast<double>(d));
      values[n] = numbers(false);
    }
    const double top = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    std::vector<double> expected(d, 0), sum(rv_, 0);
    for (int n = 0; n < length; ++n) {
      const double w = std::exp(scores[n] - top);
      total += w;
      const bool latent = n >= lat_range.first && n < lat_range.second && !c_.identity;
      auto& to = latent ? sum : expected;
      for (size_t i = 0; i < values[n].size(); ++i) to[i] += w * values[n][i];
    }
    double error = 0, norm = 0;
    for (int i = 0; i < d; ++i) {
      if (!c_.identity) {
        for (int r = 0; r < rv_; ++r)
          expected[i] +=
              sum[r] * Bf16ToF32(F32ToBf16(value_decoder_[(int64_t{kv} * d + i) * rv_ + r]));
      }
      expected[i] /= total;
      const double off = out[(int64_t{row} * c_.heads + head) * d + i] - expected[i];
      error += off * off;
      norm += expected[i] * expected[i];
    }
    return std::sqrt(error / norm);
  }

  Case c_;
  int shared_bytes_;
  int s_, G_, rows_, rk_, rv_, tile_rows_, head_tiles_;
  int64_t key_group_, value_group_, latent_block_, exact_group_, exact_block_;
  int64_t latent_tokens_ = 0, exact_tokens_ = 0;
  int num_latent_ = 0, num_exact_ = 0;
  bool wide_;
  std::vector<CacheSegment> exact_segments_;
  LatentUnits units_, exact_units_;
  std::vector<std::pair<int, int>> lat_;
  PassPlan latent_plan_, exact_plan_;
  std::vector<RowSlots> row_slots_;
  std::vector<DecodeChunk> chunks_;
  std::vector<int32_t> latent_table_, exact_table_;
  std::vector<float> cos_, sin_, query_, key_decoder_, value_decoder_;
  DeviceArray<std::byte> latent_pool_, exact_pool_;
  DeviceArray<float> d_query_, d_cos_, d_sin_, d_norm_, d_absorbed_scale_, d_latent_out_,
      d_exact_out_, d_exact_sum_, d_out_;
  DeviceArray<uint32_t> d_key_decoder_, d_value_decoder_, d_absorbed_;
  DeviceArray<DecodeChunk> d_chunks_;
  DeviceArray<int32_t> d_latent_table_, d_exact_table_;
  DeviceArray<RowSlots> d_slots_;
  DeviceArray<float2> d_latent_state_, d_exact_state_;
  DeviceArray<uint16_t> d_latents_;
  Arrays latent_arrays_, exact_arrays_;
  DecodePass latent_pass_, exact_pass_;
};

double CopyRate() {
  const int64_t bytes = int64_t{2} << 30;
  DeviceArray<std::byte> a(bytes), b(bytes);
  cudaEvent_t begin, end;
  cudaEventCreate(&begin), cudaEventCreate(&end);
  float best = 1e9;
  for (int i = 0; i < 10; ++i) {
    cudaEventRecord(begin);
    CHECK_CUDA(cudaMemcpyAsync(a.data, b.data, bytes, cudaMemcpyDeviceToDevice));
    cudaEventRecord(end);
    cudaEventSynchronize(end);
    float ms;
    cudaEventElapsedTime(&ms, begin, end);
    best = std::min(best, ms);
  }
  return 2 * bytes / (best * 1e-3);
}

std::vector<CacheSegment> One(SegmentType type, int width) { return {{type, width}}; }

std::vector<CacheSegment> Many(std::vector<std::pair<SegmentType, int>> counts) {
  std::vector<CacheSegment> segments;
  for (const auto& [type, count] : counts) {
    for (int i = 0; i < count; ++i) segments.push_back({type, 32});
  }
  return segments;
}

int Main(int argc, char** argv) {
  std::string only;
  bool check_only = false, small = false;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--only" && i + 1 < argc) only = argv[++i];
    if (std::string(argv[i]) == "--check-only") check_only = true;
    if (std::string(argv[i]) == "--small") check_only = small = true;
  }
  cudaDeviceProp device;
  CHECK_CUDA(cudaGetDeviceProperties(&device, 0));
  const double copy_rate = small ? 1e12 : CopyRate();
  std::printf("%s, %d multiprocessors, copy %.2f TB/s\n", device.name, device.multiProcessorCount,
              copy_rate * 1e-12);
  using T = SegmentType;
  std::vector<std::pair<std::string, std::vector<int>>> batches = {
      {"128x2048", std::vector<int>(128, 2048)}, {"8x32768", std::vector<int>(8, 32768)}};
  std::mt19937 random(3);
  std::vector<int> ragged(128);
  for (int& n : ragged) n = static_cast<int>(random() % 8192) + 1;
  batches.push_back({"ragged", ragged});
  if (small) batches = {{"small", {37, 1, 700, 16, 17, 333, 1025, 80, 97}}};
  std::vector<Case> shapes;
  Case full;
  full.name = "full bf16";
  full.identity = true;
  full.anchor = 0;
  full.key = full.value = One(T::kBf16, 128);
  shapes.push_back(full);
  Case joint;
  joint.name = "joint 512+512 bf16";
  joint.groups = 1;
  joint.key = joint.value = One(T::kBf16, 512);
  shapes.push_back(joint);
  joint.name = "joint 512+512 int8";
  joint.key = joint.value = One(T::kInt8, 512);
  shapes.push_back(joint);
  joint.name = "joint mixed 16 %, exact 16+64";
  joint.key = Many({{T::kInt8, 2}, {T::kInt4, 4}, {T::kInt2, 8}});
  joint.value = Many({{T::kInt8, 4}, {T::kInt4, 8}, {T::kInt2, 4}});
  joint.prefix_blocks = 1;
  joint.window_blocks = 4;
  shapes.push_back(joint);
  Case heads;
  heads.name = "per head 64+64 bf16";
  heads.key = heads.value = One(T::kBf16, 64);
  shapes.push_back(heads);
  heads.name = "per head 64+64 int8";
  heads.key = heads.value = One(T::kInt8, 64);
  shapes.push_back(heads);
  if (small) {
    joint.name = "joint int3 fp8 bf16 int2 16s, exact";
    joint.key = {{T::kInt3, 32}, {T::kFp8, 32},  {T::kBf16, 32}, {T::kInt2, 16},
                 {T::kInt4, 16}, {T::kInt8, 48}, {T::kInt3, 16}};
    joint.value = {{T::kInt3, 16}, {T::kBf16, 16}, {T::kInt4, 48},
                   {T::kFp8, 16},  {T::kInt2, 48}, {T::kInt8, 16}};
    joint.anchor = 64;
    shapes.push_back(joint);
    for (const int block : {32, 64}) {
      joint.block_tokens = block;
      joint.window_blocks = 64 / block;
      joint.name = "same, blocks of " + std::to_string(block);
      if (block == 64) joint.anchor = 128;
      shapes.push_back(joint);
    }
    Case smol;
    smol.name = "SmolLM2 joint 96+128 mixed";
    smol.heads = 9, smol.kv_heads = 3, smol.head_dim = 64, smol.groups = 1;
    smol.key = Many({{T::kInt8, 1}, {T::kInt3, 1}, {T::kInt2, 1}});
    smol.value = Many({{T::kInt8, 1}, {T::kInt4, 1}, {T::kInt3, 1}, {T::kInt2, 1}});
    smol.prefix_blocks = 1, smol.window_blocks = 4;
    shapes.push_back(smol);
    Case wide;
    wide.name = "MHA 20 heads, joint 1024+1024";
    wide.heads = wide.kv_heads = 20, wide.head_dim = 64, wide.groups = 1;
    wide.key = wide.value = One(T::kInt8, 1024);
    shapes.push_back(wide);
    Case narrow = heads;
    narrow.name = "per head mixed";
    narrow.key = {{T::kInt3, 16}, {T::kInt4, 32}, {T::kBf16, 16}, {T::kFp8, 16}};
    narrow.value = {{T::kInt2, 32}, {T::kInt8, 16}, {T::kBf16, 32}};
    narrow.anchor = 32, narrow.window_blocks = 2;
    shapes.push_back(narrow);
    Case int8 = full;
    int8.name = "full int8";
    int8.key = int8.value = One(T::kInt8, 128);
    shapes.push_back(int8);
  }
  std::printf("%-32s %-9s %9s %8s %8s %7s %8s  %s\n", "cache", "batch", "MB", "ms", "GB/s",
              "of copy", "error", "absorb / latents / exact / combine / values, ms");
  bool good = true;
  for (const auto& [batch_name, lengths] : batches) {
    for (Case shape : shapes) {
      if ((shape.name + " " + batch_name).find(only) == std::string::npos) continue;
      shape.lengths = lengths;
      Bench bench(shape, device.multiProcessorCount,
                  static_cast<int>(device.sharedMemPerBlockOptin));
      const double error = bench.Check();
      good = good && error < 1e-2;
      const double ms = check_only ? 0 : bench.Time();
      const double rate = bench.CacheBytes() / (ms * 1e-3);
      std::printf("%-32s %-9s %9.1f %8.4f %8.0f %6.1f %% %8.1e ", shape.name.c_str(),
                  batch_name.c_str(), bench.CacheBytes() * 1e-6, ms, rate * 1e-9,
                  100 * rate / copy_rate, error);
      if (!check_only) {
        for (const int part : {1, 2, 4, 8, 16}) std::printf(" %.4f", bench.Time(part));
      }
      std::printf("\n");
      std::fflush(stdout);
    }
  }
  std::printf(good ? "all within 1e-2\n" : "FAILED\n");
  return good ? 0 : 1;
}

}  // namespace
}  // namespace lorc::cuda

int main(int argc, char** argv) { return lorc::cuda::Main(argc, argv); }
