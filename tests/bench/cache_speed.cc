// Time of one decode step's attention per layer, for a SmolLM2-like layer (9 query and 3 KV heads
// of 64, keys and values as joint latents of rank 144) and several types of its segments.
//
//   cache_speed [--context 4096] [--threads 1] [--layers 30] [--repeats 15] [--cpu-clock]
//
// Bound, per layer: context * bytes per token are read, and 2 * 9 * 144 multiply-adds are done per
// token (scores and outputs), 32 of them per instruction with AVX-512 VNNI. Layers follow each
// other with pools of their own, as in a model, so that caches hold no more than they would there.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <memory>
#include <random>
#include <string>
#include <vector>
#include <CLI/CLI.hpp>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/cpu/cpu_backend.h"

namespace lorc {
namespace {

constexpr int32_t kHeads = 9;
constexpr int32_t kKvHeads = 3;
constexpr int32_t kHeadDim = 64;
constexpr int32_t kBlock = 16;
constexpr int32_t kStep = 256;  // tokens that are written at once

struct Options {
  int32_t context = 4096;
  int threads = 1;
  int32_t layers = 30;
  int32_t repeats = 15;
  bool cpu_clock = false;  // of the process instead of the wall
};

struct Cache {
  std::string name;
  std::vector<CacheSegment> segments;
};

std::vector<CacheSegment> Segments(const std::vector<SegmentType>& types) {
  constexpr int32_t kWidths[] = {32, 32, 32, 32, 16};
  std::vector<CacheSegment> segments;
  for (size_t i = 0; i < std::size(kWidths); ++i) {
    segments.push_back({types[i * types.size() / std::size(kWidths)], kWidths[i]});
  }
  return segments;
}

std::vector<Cache> Caches() {
  std::vector<Cache> caches;
  for (const SegmentType type : kSegmentTypes) caches.push_back({Name(type), Segments({type})});
  caches.push_back(
      {"int8, int4, int2", Segments({SegmentType::kInt8, SegmentType::kInt4, SegmentType::kInt2})});
  return caches;
}

std::vector<float> RandomNormal(int64_t count, float scale) {
  std::mt19937_64 generator(1);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

class Bench {
 public:
  Bench(const Options& options, const Cache& cache)
      : options_(options), num_blocks_((options.context + kBlock) / kBlock) {
    auto backend = MakeCpuBackend(options.threads);
    LORC_CHECK(backend.ok());
    backend_ = *std::move(backend);
    BackendLimits limits;
    limits.max_rows = kStep;
    limits.max_columns = 1024;
    limits.max_context = num_blocks_ * kBlock;
    limits.num_heads = kHeads;
    limits.num_kv_heads = kKvHeads;
    limits.head_dim = kHeadDim;
    limits.max_latent_width = kKvHeads * kHeadDim;
    limits.block_tokens = kBlock;
    LORC_CHECK(backend_->Reserve(limits).ok());
    MakeLayers(cache);
    Fill();
  }

  double Now() const {
    timespec now;
    clock_gettime(options_.cpu_clock ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }

  // Seconds of one layer's attention for the last token: the median.
  double Attend() {
    std::vector<float> out(kHeads * kHeadDim);
    const auto query = RandomNormal(kHeads * kHeadDim, 1);
    const SequenceSpan sequence{0, 1, options_.context - 1, 1, blocks_.data(), nullptr};
    std::vector<double> times;
    for (int32_t i = 0; i <= options_.repeats; ++i) {
      const double start = Now();
      for (const CacheLayer& layer : layers_) {
        backend_->Attend({&layer, {&sequence, 1}, query.data(), kHeads * kHeadDim, out.data()});
      }
      if (i > 0) times.push_back((Now() - start) / options_.layers);
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

 private:
  void MakeLayers(const Cache& cache) {
    constexpr int32_t kWidth = kKvHeads * kHeadDim;
    CacheTensor tensor;
    tensor.groups = 1;
    tensor.heads_per_group = kKvHeads;
    tensor.segments = cache.segments;
    for (const CacheSegment& segment : cache.segments) tensor.rank += segment.width;
    const auto basis = RandomNormal(tensor.rank * kWidth, 0.07f);  // rows of norm 1, about
    const BasisSource source{1, kWidth, kHeadDim, tensor.rank, basis.data(), basis.data()};
    for (const bool is_key : {true, false}) {
      auto made = backend_->MakeBasis(source, is_key, DType::kF32);
      LORC_CHECK(made.ok());
      bases_.push_back(*std::move(made));
    }
    for (int64_t n = 0; n < num_blocks_ * kBlock; ++n) {
      for (int32_t j = 0; j < kHeadDim / 2; ++j) {
        const double angle = static_cast<double>(n) * std::pow(1e5, -2.0 * j / kHeadDim);
        cosines_.push_back(static_cast<float>(std::cos(angle)));
        sines_.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    CacheLayer layer;
    layer.num_heads = kHeads;
    layer.num_kv_heads = kKvHeads;
    layer.head_dim = kHeadDim;
    layer.block_tokens = kBlock;
    layer.anchor = 256;
    layer.key = layer.value = tensor;
    layer.key.basis = bases_[0].get();
    layer.value.basis = bases_[1].get();
    layer.rope_cos = cosines_.data();
    layer.rope_sin = sines_.data();
    for (int32_t i = 0; i < options_.layers; ++i) {
      pools_.emplace_back(num_blocks_ * layer.LatentBlockBytes() + kPoolSlackBytes);
      layer.latent_pool = pools_.back().data();
      layers_.push_back(layer);
    }
    for (int32_t i = 0; i < num_blocks_; ++i) blocks_.push_back(i);
  }

  void Fill() {
    const auto rows = RandomNormal(int64_t{kStep} * kKvHeads * kHeadDim, 1);
    for (int32_t first = 0; first < options_.context; first += kStep) {
      const SequenceSpan sequence{0,
                                  std::min(kStep, options_.context - first),
                                  first,
                                  options_.context,
                                  blocks_.data(),
                                  nullptr};
      for (const CacheLayer& layer : layers_) {
        backend_->WriteCache({&layer,
                              {&sequence, 1},
                              rows.data(),
                              rows.data(),
                              kKvHeads * kHeadDim,
                              kKvHeads * kHeadDim});
      }
    }
  }

  const Options options_;
  const int64_t num_blocks_;
  std::unique_ptr<Backend> backend_;
  std::vector<std::unique_ptr<Basis>> bases_;
  std::vector<float> cosines_, sines_;
  std::vector<std::vector<std::byte>> pools_;
  std::vector<CacheLayer> layers_;
  std::vector<int32_t> blocks_;
};

void Run(const Options& options) {
  std::printf("%-18s %12s %14s %12s %10s %16s\n", "segments", "bytes/token", "bytes/layer",
              "us/layer", "GB/s", "1e9 mul-adds/s");
  for (const Cache& cache : Caches()) {
    int64_t bytes = 0;
    int64_t rank = 0;
    for (const CacheSegment& segment : cache.segments) {
      bytes += 2 * segment.BytesPerToken();
      rank += segment.width;
    }
    Bench bench(options, cache);
    const double seconds = bench.Attend();
    const double read = static_cast<double>(options.context * bytes);
    const double products = 2.0 * kHeads * static_cast<double>(rank * options.context);
    std::printf("%-18s %12ld %14.0f %12.1f %10.2f %16.1f\n", cache.name.c_str(),
                static_cast<long>(bytes), read, 1e6 * seconds, 1e-9 * read / seconds,
                1e-9 * products / seconds);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace lorc

int main(int argc, char** argv) {
  CLI::App app("Attention of one decode step per layer, by types of the cache's segments");
  lorc::Options options;
  app.add_option("--context", options.context)->check(CLI::Range(1, 1 << 20));
  app.add_option("--threads", options.threads)->check(CLI::Range(1, 1024));
  app.add_option("--layers", options.layers)->check(CLI::Range(1, 1024));
  app.add_option("--repeats", options.repeats)->check(CLI::Range(1, 1 << 20));
  app.add_flag("--cpu-clock", options.cpu_clock);
  CLI11_PARSE(app, argc, argv);
  lorc::Run(options);
  return 0;
}
