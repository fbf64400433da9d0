// Speed of the ops of a layer but the cache's, with the shapes of an 8B LLaMA model: products as
// TFLOP/s and as GB/s of the weights, the others as GB/s of what they read and write.
//
//   op_speed [--backend cpu|cuda] [--rows 1,16,64,256,2048]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>
#include <CLI/CLI.hpp>

#include "kernels/base/check.h"
#include "kernels/make_backend.h"

namespace lorc {
namespace {

constexpr int64_t kHidden = 4096;
constexpr int64_t kQkv = 6144;
constexpr int64_t kFfn = 14336;
constexpr int64_t kVocabulary = 128256;
constexpr int64_t kLogitRows = 64;
constexpr int kRepeats = 5;
constexpr double kSecondsPerRepeat = 0.05;

// A linear congruential generator; zeros would run faster than numbers that look random.
class Noise {
 public:
  explicit Noise(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  float Next() {  // in [-1, 1)
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<int32_t>(state_ >> 32)) * 0x1p-31f;
  }

 private:
  uint64_t state_;
};

MatrixSource RandomSource(int64_t rows, int64_t columns) {
  return {rows, columns, [columns](int64_t begin, int64_t end, float* out) {
            Noise noise(begin);
            for (int64_t i = 0; i < (end - begin) * columns; ++i) out[i] = noise.Next() / 64;
          }};
}

class Bench {
 public:
  Bench(std::unique_ptr<Backend> backend, int64_t max_rows)
      : backend_(std::move(backend)), max_rows_(std::max(max_rows, kLogitRows)) {
    BackendLimits limits;
    limits.max_rows = max_rows_;
    limits.max_sequences = 1;
    limits.max_logit_rows = kLogitRows;
    limits.max_columns = kFfn;
    limits.max_gated_width = kFfn;
    limits.max_context = 16;
    limits.num_heads = limits.num_kv_heads = 1;
    limits.head_dim = limits.max_latent_width = 64;
    limits.block_tokens = 16;
    LORC_CHECK(backend_->Reserve(limits).ok());
    x_ = Take(PaddedRows(max_rows_) * kFfn * 2);
    y_ = Take(std::max(max_rows_ * kFfn, kLogitRows * kVocabulary) * 4);
    std::vector<bf16_t> values(x_.size() / 2);
    Noise noise(1);
    for (bf16_t& value : values) value = F32ToBf16(noise.Next());
    backend_->CopyIn(x_.data(), values.data(), x_.size());
  }

  void Products(const std::vector<int64_t>& rows) {
    using Output = LinearArgs::Output;
    std::printf("%-10s %6s %10s %10s %10s\n", "product", "rows", "us", "TFLOP/s", "GB/s");
    Product("qkv", kQkv, kHidden, Output::kStore, rows);
    Product("output", kHidden, kHidden, Output::kAdd, rows);
    Product("gate_up", 2 * kFfn, kHidden, Output::kGatedSilu, rows);
    Product("down", kHidden, kFfn, Output::kAdd, rows);
    std::vector<int64_t> few;
    for (const int64_t count : rows) few.push_back(std::min(count, kLogitRows));
    few.erase(std::unique(few.begin(), few.end()), few.end());
    Product("logits", kVocabulary, kHidden, Output::kStore, few);
  }

  void SmallOps(const std::vector<int64_t>& rows) {
    std::printf("%-10s %6s %10s %10s %10s\n", "op", "rows", "us", "", "GB/s");
    Buffer out = Take(max_rows_ * kHidden * 2);
    for (const int64_t count : rows) {
      RmsNormArgs args;
      args.num_rows = count;
      args.width = kHidden;
      args.x = y_.as<float>();
      args.gain = y_.as<float>();
      args.epsilon = 1e-5f;
      args.out = out.data();
      args.out_type = DType::kBf16;
      Print("rms_norm", count, Seconds([&] { backend_->RmsNorm(args); }), 0,
            static_cast<double>(count * kHidden * 6));
    }
    std::vector<int32_t> argmax(kLogitRows);
    std::vector<float> max(kLogitRows), log_sum_exp(kLogitRows);
    for (const int64_t count : rows) {
      if (count > kLogitRows) continue;
      const RowStatsArgs args{count,         kVocabulary, y_.as<float>(),    kVocabulary,
                              argmax.data(), max.data(),  log_sum_exp.data()};
      Print("row_stats", count, Seconds([&] { backend_->RowStats(args); }), 0,
            static_cast<double>(count * kVocabulary * 4));
    }
  }

 private:
  Buffer Take(int64_t bytes) {
    auto buffer = backend_->Allocate(bytes, MemoryUse::kActivations);
    LORC_CHECK(buffer.ok());
    return *std::move(buffer);
  }

  // Median seconds of one call, many calls at a time.
  double Seconds(const std::function<void()>& call) {
    const auto now = [] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
          .count();
    };
    const auto measure = [&](int64_t calls) {
      const double start = now();
      for (int64_t i = 0; i < calls; ++i) call();
      LORC_CHECK(backend_->status().ok());
      return (now() - start) / static_cast<double>(calls);
    };
    measure(3);
    const auto calls = std::max<int64_t>(1, static_cast<int64_t>(kSecondsPerRepeat / measure(3)));
    std::vector<double> seconds;
    for (int i = 0; i < kRepeats; ++i) seconds.push_back(measure(calls));
    std::sort(seconds.begin(), seconds.end());
    return seconds[kRepeats / 2];
  }

  static void Print(const char* name, int64_t rows, double seconds, double flops, double bytes) {
    std::printf("%-10s %6lld %10.1f %10.1f %10.0f\n", name, static_cast<long long>(rows),
                seconds * 1e6, flops / seconds * 1e-12, bytes / seconds * 1e-9);
    std::fflush(stdout);
  }

  void Product(const char* name, int64_t outputs, int64_t columns, LinearArgs::Output output,
               const std::vector<int64_t>& rows) {
    const bool gated = output == LinearArgs::Output::kGatedSilu;
    // As many as no device's cache holds.
    const int64_t copies = std::max<int64_t>(2, (int64_t{256} << 20) / (outputs * columns * 2));
    std::vector<std::unique_ptr<Matrix>> weights;
    for (int64_t i = 0; i < copies; ++i) {
      auto made = gated
                      ? backend_->MakeGatedMatrix(RandomSource(outputs / 2, columns),
                                                  RandomSource(outputs / 2, columns), DType::kBf16)
                      : backend_->MakeMatrix(RandomSource(outputs, columns), DType::kBf16);
      LORC_CHECK(made.ok());
      weights.push_back(*std::move(made));
    }
    for (const int64_t count : rows) {
      LinearArgs args;
      args.num_rows = count;
      args.x = x_.data();
      args.x_type = DType::kBf16;
      args.output = output;
      args.y = y_.data();
      args.y_type = gated ? DType::kBf16 : DType::kF32;
      args.y_stride = gated ? outputs / 2 : outputs;
      int64_t turn = 0;
      const double seconds = Seconds([&] {
        args.weight = weights[turn++ % copies].get();
        backend_->Linear(args);
      });
      Print(name, count, seconds, 2.0 * static_cast<double>(count * outputs * columns),
            static_cast<double>(outputs * columns * 2));
    }
  }

  std::unique_ptr<Backend> backend_;
  const int64_t max_rows_;
  Buffer x_;  // [padded rows, F] bf16
  Buffer y_;  // [rows, F] or [kLogitRows, V] f32
};

}  // namespace
}  // namespace lorc

int main(int argc, char** argv) {
  CLI::App app("Speed of a layer's products and small ops");
  std::string name = "cpu";
  std::vector<int64_t> rows = {1, 16, 64, 256, 2048};
  app.add_option("--backend", name);
  app.add_option("--rows", rows, "Ascending")->delimiter(',')->check(CLI::Range(1, 8192));
  CLI11_PARSE(app, argc, argv);
  auto backend = lorc::MakeBackend(name, 0);
  if (!backend.ok()) {
    std::fprintf(stderr, "error: %s\n", std::string(backend.status().message()).c_str());
    return 1;
  }
  std::printf("%s\n", (*backend)->description().c_str());
  lorc::Bench bench(*std::move(backend), rows.back());
  bench.Products(rows);
  bench.SmallOps(rows);
  return 0;
}
