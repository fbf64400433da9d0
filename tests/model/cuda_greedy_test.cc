// The real model on a GPU against the CPU: greedy tokens and their log-probabilities, prompts in
// chunks, then many sequences at once. Both get the CPU's tokens, so that one honest difference is
// not followed by others. Skipped where there is no GPU.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "runtime/model/local_sequences.h"
#include "tests/model/real_model.h"
#include "tests/model/some_plans.h"

namespace lorc {
namespace {

// Where the CPU's best two tokens are closer than this, in nats, another choice is honest: both
// compute in bf16, in other orders. On these prompts the CPU's own log-probabilities with bf16 and
// with f32 weights differ by 0.01 on average and 0.07 at most.
constexpr float kMargin = 0.2f;
// Mean difference of the log-probability of the CPU's token.
constexpr double kMeanDifference = 0.03;

constexpr int32_t kPrompts[] = {1, 5, 17, 64, 130, 300, 511, 700};
constexpr int32_t kSteps = 40;
constexpr int32_t kStepTokens = 200;

using Results = std::vector<StepResult>;

// A model on one backend and what it has computed of each sequence.
class Runner {
 public:
  Runner(const std::string& backend, const Checkpoint& checkpoint, const KvPlan& plan)
      : running_(test::Run(checkpoint, plan, Options(backend))) {
    if (running_.executor == nullptr) return;
    sequences_.emplace(running_.executor->kv_geometry());
    for (size_t i = 0; i < std::size(kPrompts); ++i) sequences_->Add();
    computed_.resize(std::size(kPrompts));
  }

  bool ok() const { return sequences_.has_value(); }

  // Computes what is known, in as many steps as it takes, and gives every sequence's next token.
  void Advance(const std::vector<std::vector<TokenId>>& known, const SamplingParams& sampling,
               Results* results) {
    results->assign(known.size(), StepResult());
    while (true) {
      std::vector<SequenceWork> batch;
      std::vector<int> members;
      int32_t left = kStepTokens;
      for (int i = 0; i < static_cast<int>(known.size()); ++i) {
        const auto pending = static_cast<int32_t>(known[i].size()) - computed_[i];
        const int32_t count = std::min(pending, left);
        if (count == 0) continue;
        left -= count;
        const auto work = sequences_->Prepare(i, known[i], kPrompts[i], computed_[i], count,
                                              count == pending ? &sampling : nullptr);
        ASSERT_TRUE(work.ok()) << work.status();
        batch.push_back(*work);
        members.push_back(i);
      }
      if (batch.empty()) return;
      Results step(batch.size());
      const absl::Status status = running_.executor->Execute(batch, step);
      ASSERT_TRUE(status.ok()) << status;
      for (size_t b = 0; b < batch.size(); ++b) {
        ASSERT_TRUE(step[b].status.ok()) << step[b].status;
        computed_[members[b]] += batch[b].count;
        sequences_->Finish(members[b], computed_[members[b]]);
        if (batch[b].sampling != nullptr) (*results)[members[b]] = std::move(step[b]);
      }
    }
  }

 private:
  static test::RunOptions Options(const std::string& backend) {
    test::RunOptions options;
    options.backend = backend;
    options.weight_type = DType::kBf16;
    options.max_tokens = 1024;
    options.num_sequences = std::size(kPrompts);
    options.max_step_tokens = kStepTokens;
    return options;
  }

  test::RunningModel running_;
  std::optional<LocalSequences> sequences_;
  std::vector<int32_t> computed_;
};

class CudaGreedyTest : public testing::TestWithParam<const char*> {};

TEST_P(CudaGreedyTest, TokensAreTheCpus) {
  if (const auto cuda = MakeBackend("cuda", 1); !cuda.ok()) {
    GTEST_SKIP() << cuda.status().message();
  }
  const auto checkpoint = Checkpoint::Open(test::RequiredEnvironment("LORC_TEST_MODEL"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto plan = test::SomePlan(**checkpoint, GetParam());
  ASSERT_TRUE(plan.ok()) << plan.status();
  Runner cpu("cpu", **checkpoint, *plan);
  Runner cuda("cuda", **checkpoint, *plan);
  ASSERT_TRUE(cpu.ok() && cuda.ok());

  std::vector<std::vector<TokenId>> known;
  for (const int32_t count : kPrompts) known.push_back(test::SomeTokens(count, count));
  SamplingParams reported, plain;
  reported.num_logprobs = 5;
  int compared = 0, close = 0, other = 0, reports = 0;
  double difference = 0, largest = 0;
  for (int step = 0; step < kSteps; ++step) {
    Results expected, actual;
    ASSERT_NO_FATAL_FAILURE(cpu.Advance(known, reported, &expected));
    // Every other step takes the token alone, which the GPU chooses itself.
    ASSERT_NO_FATAL_FAILURE(cuda.Advance(known, step % 2 == 0 ? reported : plain, &actual));
    for (size_t i = 0; i < known.size(); ++i) {
      const TokenId token = expected[i].token;
      known[i].push_back(token);
      const auto& top = expected[i].top;
      if (top[0].logprob - top[1].logprob < kMargin) {
        ++close;
        other += actual[i].token != token;
      } else {
        ++compared;
        EXPECT_EQ(actual[i].token, token) << "step " << step << ", sequence " << i << ", margin "
                                          << top[0].logprob - top[1].logprob;
      }
      for (const TokenLogprob& report : actual[i].top) {
        if (report.token != token) continue;
        const double off = std::abs(report.logprob - expected[i].chosen.logprob);
        difference += off;
        largest = std::max(largest, off);
        ++reports;
      }
    }
  }
  std::printf(
      "%s: %d tokens compared, %d too close to (%d of them differ); log-probabilities differ by "
      "%.4f on average, %.4f at most\n",
      GetParam(), compared, close, other, difference / reports, largest);
  EXPECT_GT(compared, close);
  EXPECT_GE(reports, compared / 2);
  EXPECT_LT(difference / reports, kMeanDifference);
}

INSTANTIATE_TEST_SUITE_P(Caches, CudaGreedyTest,
                         testing::Values("full", "direct", "rebuilt", "mixed"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace lorc
