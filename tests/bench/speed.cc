// Tokens per second of the runtime on a real model: prefill, decode alone and in batches, short
// and long contexts, full cache and plans. Prints medians; the times of one point are taken one
// after the other.
//
//   speed MODEL [--backend cpu|cuda] [--weights f32|bf16|int8] [--threads N] [--plan FILE]...
//     [--points prefill,decode1,decode32,long]

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string>
#include <vector>
#include <CLI/CLI.hpp>

#include "absl/strings/str_format.h"
#include "kernels/make_backend.h"
#include "runtime/compress/offline_model.h"
#include "runtime/kv/plan_file.h"
#include "runtime/model/local_sequences.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

bool cpu_clock = false;  // --cpu-clock: of the process instead of the wall

double Now() {
  timespec now;
  clock_gettime(cpu_clock ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct Point {
  const char* name;
  int32_t sequences;
  int32_t context;  // tokens in the cache before what is timed
  bool prefill;     // time a prefill of 512 tokens, else decode steps
};

constexpr Point kPoints[] = {
    {"prefill", 1, 0, true},      {"decode1", 1, 1, false},  {"decode1_512", 1, 512, false},
    {"decode32", 32, 512, false}, {"long", 32, 4096, false},
};
constexpr int32_t kPrefill = 512;
constexpr int32_t kSteps = 24;
constexpr int32_t kRepeats = 7;

class Runner {
 public:
  Runner(ModelExecutor& executor, int32_t num_sequences)
      : executor_(executor), sequences_(executor.kv_geometry()) {
    for (int32_t i = 0; i < num_sequences; ++i) sequences_.Add();
  }

  // One step of all sequences: `count` positions from `first`. Tokens are arbitrary but fixed.
  absl::Status Step(int32_t first, int32_t count, int32_t prompt, const SamplingParams* sampling) {
    std::vector<SequenceWork> work;
    for (size_t i = 0; i < tokens_.size(); ++i) {
      LORC_ASSIGN_OR_RETURN(
          const SequenceWork next,
          sequences_.Prepare(static_cast<int>(i), std::span(tokens_[i]).first(first + count),
                             prompt, first, count, sampling));
      work.push_back(next);
    }
    results_.resize(work.size());
    LORC_RETURN_IF_ERROR(executor_.Execute(work, results_));
    for (size_t i = 0; i < tokens_.size(); ++i) {
      sequences_.Finish(static_cast<int>(i), first + count);
    }
    return absl::OkStatus();
  }

  absl::Status Fill(int32_t sequence, int32_t tokens) {
    for (int32_t first = 0; first < tokens; first += kPrefill) {
      const int32_t count = std::min(kPrefill, tokens - first);
      LORC_ASSIGN_OR_RETURN(const SequenceWork work,
                            sequences_.Prepare(sequence, tokens_[sequence], tokens, first, count));
      StepResult unused;
      LORC_RETURN_IF_ERROR(executor_.Execute({&work, 1}, {&unused, 1}));
      sequences_.Finish(sequence, first + count);
    }
    return absl::OkStatus();
  }

  void MakeTokens(int32_t num_sequences, int32_t length, int32_t vocabulary) {
    tokens_.assign(num_sequences, std::vector<TokenId>(length));
    uint32_t state = 1;
    for (auto& tokens : tokens_) {
      for (TokenId& token : tokens) {
        state = state * 1664525u + 1013904223u;
        token = static_cast<TokenId>((state >> 8) % vocabulary);
      }
    }
  }

  void Clear() {
    for (size_t i = 0; i < tokens_.size(); ++i) sequences_.Clear(static_cast<int>(i));
  }

 private:
  ModelExecutor& executor_;
  LocalSequences sequences_;
  std::vector<std::vector<TokenId>> tokens_;
  std::vector<StepResult> results_;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::StatusOr<double> Measure(Backend& backend, const Checkpoint& checkpoint, const KvPlan& plan,
                               DType weights, const Point& point) {
  OfflineOptions options;
  options.weight_type = weights;
  options.num_sequences = point.sequences;
  options.max_sequence_tokens = point.prefill ? kPrefill : point.context + kSteps * (kRepeats + 1);
  options.max_step_tokens = kPrefill;
  LORC_ASSIGN_OR_RETURN(const auto executor,
                        MakeOfflineModel(backend, checkpoint, plan, options, nullptr));
  Runner runner(*executor, point.sequences);
  runner.MakeTokens(point.sequences, options.max_sequence_tokens,
                    checkpoint.config().vocabulary_size);
  const SamplingParams greedy;
  std::vector<double> rates;
  if (point.prefill) {
    for (int32_t i = 0; i <= kRepeats; ++i) {
      runner.Clear();
      const double start = Now();
      LORC_RETURN_IF_ERROR(runner.Step(0, kPrefill, kPrefill, &greedy));
      if (i > 0) rates.push_back(kPrefill / (Now() - start));
    }
    return Median(rates);
  }
  for (int32_t i = 0; i < point.sequences; ++i) {
    LORC_RETURN_IF_ERROR(runner.Fill(i, point.context));
  }
  int32_t position = point.context;
  for (int32_t i = 0; i <= kRepeats; ++i) {
    const double start = Now();
    for (int32_t step = 0; step < kSteps; ++step, ++position) {
      LORC_RETURN_IF_ERROR(runner.Step(position, 1, point.context, &greedy));
    }
    if (i > 0) rates.push_back(point.sequences * kSteps / (Now() - start));
  }
  return Median(rates);
}

absl::Status Run(const std::string& model, const std::string& backend_name,
                 const std::string& weights, int threads, const std::vector<std::string>& plans,
                 const std::vector<std::string>& points) {
  LORC_ASSIGN_OR_RETURN(const auto backend, MakeBackend(backend_name, threads));
  LORC_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(model));
  const DType type = DTypeFromName(weights).value_or(DType::kBf16);
  std::printf("%s; %s weights\n", backend->description().c_str(), Name(type));
  std::vector<KvPlan> caches = {KvPlan::Full(checkpoint->config(), SegmentTypeOf(ExactType(type)))};
  for (const std::string& path : plans) {
    LORC_ASSIGN_OR_RETURN(KvPlan plan, ReadPlan(path));
    caches.push_back(std::move(plan));
  }
  std::printf("%-14s %-34s %10s\n", "point", "cache", "tokens/s");
  for (const Point& point : kPoints) {
    if (std::find(points.begin(), points.end(), point.name) == points.end()) continue;
    for (const KvPlan& plan : caches) {
      LORC_ASSIGN_OR_RETURN(const double rate, Measure(*backend, *checkpoint, plan, type, point));
      std::printf("%-14s %-34s %10.1f\n", point.name, plan.name.c_str(), rate);
      std::fflush(stdout);
    }
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace lorc

int main(int argc, char** argv) {
  CLI::App app("Tokens per second of the runtime");
  std::string model;
  std::string backend = "cpu";
  std::string weights = "bf16";
  int threads = 0;
  std::vector<std::string> plans;
  std::vector<std::string> points = {"prefill", "decode1", "decode1_512", "decode32"};
  app.add_option("MODEL", model)->required();
  app.add_option("--backend", backend);
  app.add_option("--weights", weights);
  app.add_option("--threads", threads);
  app.add_option("--plan", plans);
  app.add_flag("--cpu-clock", lorc::cpu_clock);
  app.add_option("--points", points)->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = lorc::Run(model, backend, weights, threads, plans, points);
  if (!status.ok()) std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
