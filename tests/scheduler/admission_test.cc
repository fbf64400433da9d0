#include "scheduler/admission.h"

#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/scheduler/harness.h"

namespace lorc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int64_t kSecond = 1'000'000'000;

class AdmissionTest : public testing::Test {
 protected:
  AdmissionTest() : geometry_(SmallGeometry(10)), ledger_(geometry_, 0) {
    options_.look_ahead = 2;
    options_.overtake_age_ns = 10 * kSecond;
  }

  // A request of this many latent blocks that arrived at time 0.
  void Add(int64_t id, int64_t blocks, int32_t priority = 0) {
    Request request = MakeRequest(id, 1, static_cast<int32_t>(blocks * 4 - 1));
    request.priority = priority;
    const BlockCounts need = BlocksNeeded(geometry_, blocks * 4);
    sequences_.push_back(std::make_unique<Sequence>(
        std::move(request), static_cast<int64_t>(sequences_.size()), geometry_, need));
    queue_.Push(sequences_.back().get());
  }

  std::vector<int64_t> Admit(int64_t now_ns, int64_t free_slots = 100) {
    std::vector<Sequence*> admitted;
    waiting_ = AdmitWaiting(options_, now_ns, free_slots, queue_, ledger_, admitted);
    EXPECT_EQ(waiting_.kv_budget + waiting_.batch_slots + waiting_.queue, queue_.size());
    std::vector<int64_t> ids;
    ids.reserve(admitted.size());
    for (const Sequence* sequence : admitted) ids.push_back(sequence->request.sequence_id);
    return ids;
  }

  absl::Status Check(const Request& request) {
    return CheckRequest(request, options_, geometry_, ledger_);
  }

  KvGeometry geometry_;
  SchedulerOptions options_;
  Ledger ledger_;
  WaitingQueue queue_;
  WaitingCounts waiting_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
};

TEST_F(AdmissionTest, OrderIsPriorityThenArrival) {
  Add(1, 1);
  Add(2, 1, -5);
  Add(3, 1, 7);
  Add(4, 1);
  Add(5, 1, 7);
  EXPECT_THAT(Admit(0), ElementsAre(3, 5, 1, 4, 2));
}

TEST_F(AdmissionTest, LooksPastAHeadThatDoesNotFit) {
  Add(1, 4);
  Add(2, 8);
  Add(3, 4);
  Add(4, 4);
  Add(5, 2);
  EXPECT_THAT(Admit(0), ElementsAre(1, 3));  // 2 does not fit; of the two tried past it 3 does
  EXPECT_EQ(waiting_.kv_budget, 2);
  EXPECT_EQ(waiting_.queue, 1);
  EXPECT_THAT(Admit(kSecond), ElementsAre(5));  // from the head again: 4 does not fit, 5 does
}

TEST_F(AdmissionTest, NobodyOvertakesAnOldRequest) {
  Add(1, 4);
  EXPECT_THAT(Admit(0), ElementsAre(1));
  Add(2, 8);
  Add(3, 1);
  EXPECT_THAT(Admit(10 * kSecond), IsEmpty());
  EXPECT_EQ(waiting_.kv_budget, 1);
  EXPECT_EQ(waiting_.queue, 1);
  ledger_.Close(sequences_[0]->claim);
  EXPECT_THAT(Admit(11 * kSecond), ElementsAre(2, 3));
}

TEST_F(AdmissionTest, AnOldRequestBarsThoseBehindItAlsoWhenItIsNotTheHead) {
  Add(1, 4);
  EXPECT_THAT(Admit(0), ElementsAre(1));
  Add(2, 8);     // old by then
  Add(3, 9, 5);  // young, in front of it
  Add(4, 1);     // behind
  sequences_[2]->request.arrival_ns = 9 * kSecond;
  EXPECT_THAT(Admit(10 * kSecond), IsEmpty());
}

TEST_F(AdmissionTest, NoLookAheadMeansStrictOrder) {
  options_.look_ahead = 0;
  Add(1, 4);
  Add(2, 8);
  Add(3, 1);
  EXPECT_THAT(Admit(0), ElementsAre(1));
}

TEST_F(AdmissionTest, WaitsForSlots) {
  Add(1, 1);
  Add(2, 1);
  Add(3, 1);
  EXPECT_THAT(Admit(0, 2), ElementsAre(1, 2));
  EXPECT_EQ(waiting_.batch_slots, 1);
  EXPECT_THAT(Admit(0, 0), IsEmpty());
  EXPECT_EQ(waiting_.batch_slots, 1);
}

TEST_F(AdmissionTest, QueueIsBoundedByCountAndByPromptTokens) {
  options_.max_waiting = 2;
  options_.max_waiting_prompt_tokens = 3;
  EXPECT_TRUE(queue_.HasRoom(options_, 1000));  // empty: one of any size
  Add(1, 1);
  EXPECT_TRUE(queue_.HasRoom(options_, 2));
  EXPECT_FALSE(queue_.HasRoom(options_, 3));
  Add(2, 1);
  EXPECT_FALSE(queue_.HasRoom(options_, 1));
  queue_.Remove(sequences_[0].get());
  EXPECT_EQ(queue_.prompt_tokens(), 1);
  EXPECT_TRUE(queue_.HasRoom(options_, 1));
}

TEST_F(AdmissionTest, NeverFitsSaysTheArithmetic) {
  EXPECT_TRUE(Check(MakeRequest(1, 20, 20)).ok());
  const absl::Status status = Check(MakeRequest(1, 21, 20));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "the request can never fit: prompt of 21 tokens + max_tokens 20 needs 110 bytes for 41 "
            "tokens in blocks of 4 (11 latent blocks x 10 bytes), the budget is 100 bytes (10 "
            "latent blocks)");
}

TEST_F(AdmissionTest, NeverFitsNamesTheExactBlocks) {
  const KvGeometry geometry = SmallGeometry(10, 6, 3, 2);
  const Ledger ledger(geometry, 2);
  const absl::Status status = CheckRequest(MakeRequest(1, 30, 10), options_, geometry, ledger);
  EXPECT_THAT(std::string(status.message().data(), status.message().size()),
              HasSubstr("needs 560 bytes for 40 tokens in blocks of 4 (6 latent blocks x 10 bytes "
                        "+ 5 exact blocks x 100 bytes), the budget is 700 bytes (10 latent blocks, "
                        "6 exact blocks of which 2 are kept for prefill steps)"));
}

TEST_F(AdmissionTest, RefusesWhatMakesNoSense) {
  const auto message = [&](const Request& request) {
    const absl::Status status = Check(request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message().data(), status.message().size());
  };
  EXPECT_THAT(message(MakeRequest(1, 0, 1)), HasSubstr("empty"));
  EXPECT_THAT(message(MakeRequest(1, 1, 0)), HasSubstr("max_tokens is 0, expected at least 1"));
  EXPECT_THAT(message(MakeRequest(1, 1, -5)), HasSubstr("max_tokens is -5"));
  Request request = MakeRequest(1, 1, 3);
  request.min_tokens = 4;
  EXPECT_THAT(message(request), HasSubstr("min_tokens is 4, expected 0..max_tokens = 0..3"));
  request.min_tokens = 0;
  request.priority = 101;
  EXPECT_THAT(message(request), HasSubstr("priority is 101, expected -100..100"));
  options_.max_sequence_tokens = 30;
  EXPECT_THAT(message(MakeRequest(1, 21, 10)),
              HasSubstr("prompt of 21 tokens + max_tokens 10 = 31 tokens, at most 30"));
  EXPECT_THAT(message(MakeRequest(1, 21, std::numeric_limits<int32_t>::max())),
              HasSubstr("at most 30"));
}

TEST(WaitEstimatorTest, FollowsTheQueue) {
  WaitEstimator estimator;
  EXPECT_EQ(estimator.EstimateNs(3), 3 * kSecond);  // nothing known: a second each
  for (int64_t i = 0; i < 100; ++i) estimator.NoteAdmissions(i * kSecond / 2, 1, 5);
  EXPECT_NEAR(static_cast<double>(estimator.EstimateNs(10)), 5e9, 1e7);
  EXPECT_EQ(estimator.EstimateNs(0), kSecond / 10);
  EXPECT_EQ(estimator.EstimateNs(kNeverNs), 60 * kSecond);
  // An hour without a queue says nothing about how fast a queue moves.
  estimator.NoteAdmissions(100 * kSecond, 1, 0);
  const int64_t before = estimator.EstimateNs(10);
  estimator.NoteAdmissions(3700 * kSecond, 1, 0);
  EXPECT_EQ(estimator.EstimateNs(10), before);
}

TEST(OptionsTest, NamesWhatIsOutOfRange) {
  SchedulerOptions options;
  const StepLimits limits;
  const KvGeometry geometry = SmallGeometry(10);
  EXPECT_TRUE(CheckOptions(options, limits, geometry).ok());
  options.max_waiting = 0;
  EXPECT_EQ(CheckOptions(options, limits, geometry).message(),
            "max_waiting is 0, expected at least 1");
  options = {};
  options.exact_headroom_blocks = 1;
  EXPECT_EQ(CheckOptions(options, limits, geometry).message(),
            "exact_headroom_blocks is 1, expected -1..0");
}

TEST(OptionsTest, LongestRequestMustFitAtStartUp) {
  SchedulerOptions options;
  options.max_sequence_tokens = 40;
  EXPECT_TRUE(CheckLongestRequestFits(options, {}, SmallGeometry(10)).ok());
  options.max_sequence_tokens = 41;
  const absl::Status status = CheckLongestRequestFits(options, {}, SmallGeometry(10));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message().data(), status.message().size()),
              HasSubstr("one request of max_sequence_tokens = 41: it needs 110 bytes"));
}

TEST(OptionsTest, HeadroomIsForAWholeStepOrWhatThePoolLeaves) {
  SchedulerOptions options;
  const StepLimits limits = {.max_tokens = 17, .max_sequences = 4};
  EXPECT_EQ(ExactHeadroomBlocks(options, limits, SmallGeometry(10)), 0);
  EXPECT_EQ(ExactHeadroomBlocks(options, limits, SmallGeometry(10, 20, 0, 2)), 0);
  EXPECT_EQ(ExactHeadroomBlocks(options, limits, SmallGeometry(10, 20, 3, 2)), 4);
  EXPECT_EQ(ExactHeadroomBlocks(options, limits, SmallGeometry(10, 6, 3, 2)), 1);
  EXPECT_EQ(ExactHeadroomBlocks(options, limits, SmallGeometry(10, 4, 3, 2)), 0);
  options.exact_headroom_blocks = 2;
  EXPECT_EQ(ExactHeadroomBlocks(options, limits, SmallGeometry(10, 20, 3, 2)), 2);
}

}  // namespace
}  // namespace lorc
