// The executor over a backend whose memory the program can't touch, as a GPU's: pages are open
// while an op runs and closed otherwise. Its tokens and reports are the CPU's, bit for bit.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <bit>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "runtime/model/local_sequences.h"
#include "tests/compress/tiny_fixture.h"
#include "tests/support/wrapped_backend.h"

namespace lorc {
namespace {

// All memory that is closed; one test at a time.
std::map<std::byte*, int64_t>& Regions() {
  static auto* const regions = new std::map<std::byte*, int64_t>;
  return *regions;
}

class OpenAll {
 public:
  OpenAll() { Protect(PROT_READ | PROT_WRITE); }
  ~OpenAll() { Protect(PROT_NONE); }
  OpenAll(const OpenAll&) = delete;
  OpenAll& operator=(const OpenAll&) = delete;

 private:
  static void Protect(int protection) {
    for (const auto& [data, size] : Regions()) LORC_CHECK_EQ(mprotect(data, size, protection), 0);
  }
};

void Unmap(std::byte* data, int64_t size_bytes) {
  Regions().erase(data);
  munmap(data, size_bytes);
}

class ClosedBackend final : public test::WrappedBackend {
 public:
  using WrappedBackend::WrappedBackend;

  bool has_host_memory() const override { return false; }
  absl::StatusOr<Buffer> Allocate(int64_t size_bytes, MemoryUse use) override {
    if (size_bytes == 0) return Buffer();
    void* data = mmap(nullptr, size_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return absl::ResourceExhaustedError("mmap");
    Regions().emplace(static_cast<std::byte*>(data), size_bytes);
    return Buffer(static_cast<std::byte*>(data), size_bytes, use, &memory(), Unmap);
  }
  void CopyIn(void* to, const void* from_host, int64_t bytes) override {
    const OpenAll open;
    WrappedBackend::CopyIn(to, from_host, bytes);
  }
  void CopyOut(void* to_host, const void* from, int64_t bytes) override {
    const OpenAll open;
    ++num_copies_out_;
    WrappedBackend::CopyOut(to_host, from, bytes);
  }
  absl::Status status() override { return status_; }

  void BeginStep(const StepArgs& args) override {
    step_sequences_ = std::ssize(args.sequences);
    WrappedBackend::BeginStep(args);
  }
  void Embed(const EmbedArgs& args) override {
    const OpenAll open;
    WrappedBackend::Embed(args);
  }
  void RmsNorm(const RmsNormArgs& args) override {
    const OpenAll open;
    WrappedBackend::RmsNorm(args);
  }
  void Linear(const LinearArgs& args) override {
    const OpenAll open;
    WrappedBackend::Linear(args);
  }
  void WriteCache(const WriteCacheArgs& args) override {
    const OpenAll open;
    ExpectTheSteps(args.sequences);
    WrappedBackend::WriteCache(args);
  }
  void Attend(const AttendArgs& args) override {
    const OpenAll open;
    ExpectTheSteps(args.sequences);
    WrappedBackend::Attend(args);
  }
  void RowStats(const RowStatsArgs& args) override {
    const OpenAll open;
    WrappedBackend::RowStats(args);
  }

  void Fail(absl::Status status) { status_ = std::move(status); }
  int num_copies_out() const { return num_copies_out_; }

 private:
  void ExpectTheSteps(std::span<const SequenceSpan> sequences) const {
    if (!sequences.empty()) {
      EXPECT_EQ(std::ssize(sequences), step_sequences_);
    }
  }

  absl::Status status_;
  int64_t step_sequences_ = -1;
  int num_copies_out_ = 0;
};

std::vector<SamplingParams> Samplings() {
  std::vector<SamplingParams> samplings(6);
  samplings[1].num_logprobs = 3;
  samplings[2].temperature = 1.0f;
  samplings[2].top_p = 0.9f;
  samplings[2].seed = 7;
  samplings[3].presence_penalty = 1.5f;
  samplings[3].repetition_penalty = 1.3f;
  samplings[4].temperature = 0.7f;
  samplings[4].frequency_penalty = 0.5f;
  samplings[4].num_logprobs = 2;
  samplings[4].seed = 11;
  samplings[5].min_tokens = 6;
  samplings[5].suppressed_tokens = {3, 9, 100};
  return samplings;
}

// What the executor says of `samplings.size()` sequences over some steps, as text.
std::vector<std::string> Generate(ModelExecutor& executor,
                                  const std::vector<SamplingParams>& samplings) {
  LocalSequences sequences(executor.kv_geometry());
  std::vector<std::vector<TokenId>> tokens;
  for (size_t i = 0; i < samplings.size(); ++i) {
    sequences.Add();
    tokens.push_back(test::TinyTokens(static_cast<int32_t>(5 + 7 * i), i + 1));
  }
  std::vector<std::string> lines;
  std::vector<int32_t> computed(samplings.size());
  for (int step = 0; step < 10; ++step) {
    std::vector<SequenceWork> batch;
    for (size_t i = 0; i < samplings.size(); ++i) {
      const auto known = static_cast<int32_t>(tokens[i].size());
      auto work = sequences.Prepare(static_cast<int>(i), tokens[i], static_cast<int32_t>(5 + 7 * i),
                                    computed[i], known - computed[i], &samplings[i]);
      EXPECT_TRUE(work.ok()) << work.status();
      batch.push_back(*std::move(work));
      computed[i] = known;
    }
    std::vector<StepResult> results(batch.size());
    const absl::Status status = executor.Execute(batch, results);
    EXPECT_TRUE(status.ok()) << status;
    for (size_t i = 0; i < results.size(); ++i) {
      sequences.Finish(static_cast<int>(i), computed[i]);
      std::string line =
          absl::StrCat(results[i].status.ToString(), " ", results[i].token, " ",
                       absl::Hex(std::bit_cast<uint32_t>(results[i].chosen.logprob)));
      for (const TokenLogprob& top : results[i].top) {
        absl::StrAppend(&line, " ", top.token, ":",
                        absl::Hex(std::bit_cast<uint32_t>(top.logprob)));
      }
      lines.push_back(line);
      tokens[i].push_back(results[i].token);
    }
  }
  return lines;
}

struct ClosedModel {
  ClosedModel() {
    auto closed = std::make_unique<ClosedBackend>(std::move(fixture.backend));
    backend = closed.get();
    fixture.backend = std::move(closed);
    executor = MakeExecutor(fixture);
  }

  static std::unique_ptr<ModelExecutor> MakeExecutor(const test::TinyFixture& fixture) {
    OfflineOptions offline;
    offline.weight_type = DType::kF32;
    offline.max_sequence_tokens = 128;
    offline.num_sequences = 6;
    offline.max_step_tokens = 200;
    auto executor =
        MakeOfflineModel(*fixture.backend, *fixture.checkpoint,
                         KvPlan::Full(fixture.config(), SegmentType::kF32), offline, nullptr);
    EXPECT_TRUE(executor.ok()) << executor.status();
    return *std::move(executor);
  }

  test::TinyFixture fixture;
  ClosedBackend* backend = nullptr;
  std::unique_ptr<ModelExecutor> executor;
};

TEST(DeviceMemoryTest, TokensAndReportsAreTheSame) {
  const test::TinyFixture open;
  const auto expected = Generate(*ClosedModel::MakeExecutor(open), Samplings());
  const ClosedModel closed;
  EXPECT_EQ(Generate(*closed.executor, Samplings()), expected);
  EXPECT_GT(closed.backend->num_copies_out(), 0);
}

TEST(DeviceMemoryTest, GreedyTokensCopyNoLogits) {
  const ClosedModel closed;
  const int before = closed.backend->num_copies_out();
  Generate(*closed.executor, std::vector<SamplingParams>(3));
  EXPECT_EQ(closed.backend->num_copies_out(), before);
}

TEST(DeviceMemoryTest, ScoresAreTheSame) {
  const test::TinyFixture open;
  const ClosedModel closed;
  const auto tokens = test::TinyTokens(100, 5);
  const auto score = [&](ModelExecutor& executor) {
    LocalSequences sequences(executor.kv_geometry());
    sequences.Add();
    const auto work = sequences.Prepare(0, tokens, 100, 0, 100);
    EXPECT_TRUE(work.ok()) << work.status();
    std::vector<float> out(100);
    EXPECT_TRUE(executor.Score(*work, out).ok());
    return out;
  };
  EXPECT_EQ(score(*closed.executor), score(*ClosedModel::MakeExecutor(open)));
}

TEST(DeviceMemoryTest, ADeviceThatFailsEndsTheStep) {
  const ClosedModel closed;
  const auto tokens = test::TinyTokens(20, 5);
  LocalSequences sequences(closed.executor->kv_geometry());
  sequences.Add();
  const SamplingParams greedy;
  const auto work = sequences.Prepare(0, tokens, 20, 0, 20, &greedy);
  ASSERT_TRUE(work.ok()) << work.status();
  closed.backend->Fail(absl::InternalError("the device is lost"));
  StepResult result;
  std::vector<float> scores(20);
  EXPECT_EQ(closed.executor->Execute({&*work, 1}, {&result, 1}).message(), "the device is lost");
  EXPECT_EQ(closed.executor->Score(*work, scores).message(), "the device is lost");
}

}  // namespace
}  // namespace lorc
