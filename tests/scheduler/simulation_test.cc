// Random lives against the scheduler, by seed: arrivals, priorities, cancels in every state,
// deadlines, stop strings, slow readers, failing steps, tiny pools, all kinds of windows.
//
// LORC_SIMULATION_SEEDS=N runs N seeds, LORC_SIMULATION_FIRST_SEED=S starts at S.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "scheduler/scheduler.h"
#include "tests/scheduler/fake_executor.h"

namespace lorc {
namespace {

constexpr int64_t kMs = 1'000'000;
// About ten seconds' worth, in a debug build too.
#ifdef NDEBUG
constexpr int64_t kDefaultSeeds = 8000;
#else
constexpr int64_t kDefaultSeeds = 1000;
#endif

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  int64_t Between(int64_t least, int64_t most) {
    return least + static_cast<int64_t>(engine_() % static_cast<uint64_t>(most - least + 1));
  }
  bool Chance(int percent) { return Between(1, 100) <= percent; }
  template <typename T>
  T Pick(std::initializer_list<T> values) {
    return values.begin()[Between(0, static_cast<int64_t>(values.size()) - 1)];
  }

 private:
  std::mt19937_64 engine_;
};

struct World {
  KvGeometry geometry;
  StepLimits limits;
  SchedulerOptions options;
};

World RandomWorld(Random& random) {
  World world;
  KvGeometry& geometry = world.geometry;
  geometry.block_tokens = random.Pick({1, 2, 4, 4, 16});
  geometry.prefix_blocks = random.Pick({0, 0, 1, 2});
  geometry.window_blocks = random.Pick({0, 1, 2, 2, 4});
  geometry.latent_block_bytes = random.Between(1, 100);
  const bool has_exact = geometry.prefix_blocks + geometry.window_blocks > 0;
  geometry.exact_block_bytes = has_exact ? random.Between(100, 1000) : 0;
  geometry.full_bytes_per_token = 64;
  world.limits.max_tokens = static_cast<int32_t>(random.Pick({1, 2, 3, 7, 16, 33, 64}));
  world.limits.max_sequences = static_cast<int32_t>(random.Between(1, 12));

  SchedulerOptions& options = world.options;
  options.max_running = static_cast<int32_t>(random.Between(1, 12));
  options.max_waiting = static_cast<int32_t>(random.Between(1, 30));
  options.max_waiting_prompt_tokens = random.Between(50, 1000);
  options.max_sequence_tokens = static_cast<int32_t>(random.Between(8, 120));
  options.look_ahead = static_cast<int32_t>(random.Between(0, 4));
  options.overtake_age_ns = random.Between(0, 100) * kMs;
  options.slow_reader_timeout_ns = random.Between(20, 200) * kMs;
  options.exact_headroom_blocks = random.Pick({-1, -1, 0, 1, 3});
  // From a pool that can't hold the longest request to one that holds some of them.
  const BlockCounts longest = BlocksNeeded(geometry, options.max_sequence_tokens);
  const int64_t percent = random.Pick({70, 100, 100, 101, 150, 300, 600});
  geometry.num_latent_blocks = longest.latent * percent / 100;
  geometry.num_exact_blocks = longest.exact * percent / 100;
  if (options.exact_headroom_blocks > 0 && has_exact) {
    geometry.num_exact_blocks += options.exact_headroom_blocks;
  }
  options.exact_headroom_blocks =
      std::min(options.exact_headroom_blocks, geometry.num_exact_blocks);
  return world;
}

// A request's caller and reader, and what the simulation knows about its life.
struct Client {
  Request request;
  FakeAnswer answer;
  int64_t order = 0;

  // Plans.
  int64_t cancel_at_ns = kNeverNs;
  bool cancels_in_prompt = false;
  int32_t cancel_at_token = -1;  // when that many tokens have come
  int32_t stop_at_token = -1;
  int read_percent = 100;  // chance to read per step
  int32_t capacity = 4;    // of its channel

  // What happened.
  std::vector<TokenId> tokens;
  int64_t last_token_ns = 0;
  int32_t unread = 0;
  int64_t paused_since_ns = kNeverNs;
  bool was_running = false;
  bool has_cancelled = false;
  bool has_stopped = false;
  bool was_failed = false;
  bool has_ended = false;
};

// How often the simulated lives met what they are meant to meet.
struct Coverage {
  std::map<absl::StatusCode, int64_t> ends;
  std::map<FinishReason, int64_t> finishes;
  int64_t cancelled_in_queue = 0;
  int64_t cancelled_in_prompt = 0;
  int64_t cancelled_in_decode = 0;
  int64_t cancelled_while_paused = 0;
  int64_t cancelled_after_end = 0;
  int64_t deadlines_in_queue = 0;
  int64_t overtakes = 0;
  int64_t chunks = 0;             // that leave a part of the prompt for later
  int64_t steps_in_headroom = 0;  // steps that hold more exact blocks than were promised
};

class Simulation {
 public:
  Simulation(uint64_t seed, Coverage* coverage)
      : random_(seed),
        seed_(seed),
        coverage_(*coverage),
        world_(RandomWorld(random_)),
        executor_(world_.geometry, world_.limits),
        scheduler_(world_.geometry, world_.limits, world_.options) {}

  // A trace of all events; ADD_FAILURE on the first thing that is wrong.
  std::string Run() {
    requests_left_ = random_.Between(20, 120);
    const int arrival_percent = static_cast<int>(random_.Between(5, 95));
    for (int64_t steps = 0; Ok() && (requests_left_ > 0 || !live_.empty()); ++steps) {
      if (steps > 200'000) Fail("does not come to an end");
      while (requests_left_ > 0 && random_.Chance(arrival_percent)) Arrive();
      Interfere();
      Step();
    }
    if (Ok()) CheckAtStart();
    return trace_;
  }

 private:
  bool Ok() const { return failure_.empty(); }
  void Fail(const std::string& what) {
    if (!Ok()) return;
    failure_ = what;
    ADD_FAILURE() << "seed " << seed_ << " at " << now_ns_ << " ns: " << what
                  << "\nrun LORC_SIMULATION_FIRST_SEED=" << seed_ << " LORC_SIMULATION_SEEDS=1";
  }

  void Arrive() {
    --requests_left_;
    auto client = std::make_unique<Client>();
    Request& request = client->request;
    const int64_t longest = world_.options.max_sequence_tokens;
    request.sequence_id = next_id_++;
    client->order = request.sequence_id;
    const int64_t prompt = random_.Chance(20)
                               ? random_.Between(1, longest)
                               : random_.Between(1, std::max<int64_t>(1, longest / 4));
    for (int64_t i = 0; i < prompt; ++i) {
      request.prompt.push_back(static_cast<TokenId>(random_.Between(0, kFakeVocabulary - 1)));
    }
    request.max_tokens = static_cast<int32_t>(
        random_.Chance(3) ? random_.Between(0, longest)
                          : random_.Between(1, std::max<int64_t>(1, longest - prompt)));
    if (random_.Chance(30)) {
      request.min_tokens = static_cast<int32_t>(random_.Between(0, request.max_tokens));
    }
    request.eos_ids = {kFakeEos};
    if (random_.Chance(30)) request.stop_ids = {3, 4};
    request.ignore_eos = random_.Chance(30);
    request.sampling.seed = random_.Chance(3) ? kPoisonedSeed : random_.Between(0, 1 << 20);
    request.priority = random_.Chance(70) ? 0 : static_cast<int32_t>(random_.Between(-100, 100));
    request.arrival_ns = now_ns_ - random_.Between(0, 3) * kMs;
    if (random_.Chance(20)) request.deadline_ns = now_ns_ + random_.Between(-1, 400) * kMs;
    if (random_.Chance(15)) client->cancel_at_ns = now_ns_ + random_.Between(0, 200) * kMs;
    client->cancels_in_prompt = random_.Chance(5);
    if (random_.Chance(10)) client->cancel_at_token = static_cast<int32_t>(random_.Between(1, 20));
    if (random_.Chance(10)) client->stop_at_token = static_cast<int32_t>(random_.Between(1, 20));
    client->read_percent = random_.Pick({100, 100, 100, 50, 10, 0});
    client->capacity = static_cast<int32_t>(random_.Between(1, 8));

    Client& added = *client;
    live_.emplace(request.sequence_id, std::move(client));
    ++submitted_;
    const int64_t waiting = scheduler_.num_waiting();
    const int64_t refused_before = scheduler_.Stats().refused;
    scheduler_.Submit(added.request, now_ns_);
    CheckOvertaking(
        added.request.sequence_id);  // a full queue moves up before the new one joins it
    if (scheduler_.Stats().refused > refused_before && waiting == 0 &&
        scheduler_.finished_events().back().outcome.status.code() ==
            absl::StatusCode::kResourceExhausted) {
      Fail("an empty queue refused a request");
    }
    if (scheduler_.num_waiting() > world_.options.max_waiting) Fail("the queue is over its limit");
    if (scheduler_.Stats().refused == refused_before) {
      const FakeAnswer answer = FakeAnswerFor(added.request);
      added.answer = answer;
    }
    Drain();
  }

  // Callers and readers act between steps.
  void Interfere() {
    std::vector<int64_t> ids;
    for (const auto& [id, client] : live_) ids.push_back(id);
    for (const int64_t id : ids) {
      Client& client = *live_.at(id);
      const auto tokens = static_cast<int32_t>(client.tokens.size());
      if (client.unread > 0 && random_.Chance(client.read_percent)) {
        client.unread = 0;
        if (client.paused_since_ns != kNeverNs) {
          client.paused_since_ns = kNeverNs;
          if (!scheduler_.Resume(id)) Fail("resuming a live request did not work");
        }
      }
      const bool in_prompt = tokens == 0 && executor_.num_computed(id) > 0;
      if (now_ns_ >= client.cancel_at_ns || tokens == client.cancel_at_token ||
          (client.cancels_in_prompt && in_prompt)) {
        client.has_cancelled = true;
        CountCancel(id, client);
        if (!scheduler_.Cancel(id, now_ns_)) Fail("cancelling a live request did not work");
      } else if (tokens == client.stop_at_token) {
        client.has_stopped = true;
        if (!scheduler_.Stop(id, tokens, now_ns_)) Fail("stopping a live request did not work");
      }
      Drain();
      if (scheduler_.StateOf(id).has_value() != (live_.count(id) > 0)) Fail("an end was not told");
    }
    if (next_id_ > 1) {
      const int64_t id = random_.Between(1, next_id_ - 1);
      if (live_.count(id) == 0) {
        ++coverage_.cancelled_after_end;
        if (scheduler_.Cancel(id, now_ns_) || scheduler_.Resume(id)) Fail("an ended request lives");
      }
    }
    Audit();
  }

  void CountCancel(int64_t id, const Client& client) {
    if (scheduler_.StateOf(id) == SequenceState::kWaiting) {
      ++coverage_.cancelled_in_queue;
    } else if (client.paused_since_ns != kNeverNs) {
      ++coverage_.cancelled_while_paused;
    } else if (!client.tokens.empty()) {
      ++coverage_.cancelled_in_decode;
    } else if (executor_.num_computed(id) > 0) {
      ++coverage_.cancelled_in_prompt;
    }
  }

  void Step() {
    const StepPlan& plan = scheduler_.PlanStep(now_ns_);
    CheckOvertaking();
    Drain();
    Audit();
    CheckOverdue();
    if (plan.work.empty()) {
      CheckIdle();
      // Nobody moves until a timer or a reader: time goes on in small steps.
      now_ns_ += random_.Between(1, 10) * kMs;
      return;
    }
    for (const SequenceWork& work : plan.work) {
      if (work.sampling == nullptr) ++coverage_.chunks;
    }
    const SchedulerStats stats = scheduler_.Stats();
    if (stats.exact.written_bytes + stats.exact.promised_bytes >
        stats.exact.budget_bytes - stats.exact.headroom_bytes) {
      ++coverage_.steps_in_headroom;
    }
    std::vector<StepResult> results(plan.work.size());
    const absl::Status status = executor_.Execute(plan.work, results);
    if (!status.ok()) {
      Fail(executor_.breach());
      return;
    }
    now_ns_ += random_.Between(1, 5) * kMs;
    if (random_.Between(1, 2000) == 1) {
      for (const auto& [id, client] : live_) client->was_failed = true;
      scheduler_.FailAll(absl::InternalError("the device is gone"), now_ns_);
    } else {
      scheduler_.ApplyResults(results, now_ns_);
    }
    Drain();
    Audit();
  }

  // Nobody goes into a step, or goes on waiting, beyond its time.
  void CheckOverdue() {
    for (const auto& [id, client] : live_) {
      if (now_ns_ >= client->request.deadline_ns) Fail(absl::StrCat("request ", id, " is overdue"));
      if (client->paused_since_ns != kNeverNs &&
          now_ns_ - client->paused_since_ns >= world_.options.slow_reader_timeout_ns) {
        Fail(absl::StrCat("request ", id, " waits too long for its reader"));
      }
    }
  }

  // Nothing is planned: then nothing could be.
  void CheckIdle() {
    for (const auto& [id, client] : live_) {
      const auto state = scheduler_.StateOf(id);
      if (state == SequenceState::kRunning && client->paused_since_ns == kNeverNs) {
        Fail(absl::StrCat("request ", id, " could run but is not in the step"));
      }
    }
    if (scheduler_.num_running() == 0 && scheduler_.num_waiting() > 0) {
      Fail("requests wait but nothing runs");
    }
  }

  // Nobody who is older than the limit and still waits is overtaken by one behind; nobody who runs
  // is sent back.
  void CheckOvertaking(int64_t except = 0) {
    std::vector<const Client*> started;
    std::vector<const Client*> waiting;
    for (const auto& [id, client] : live_) {
      const auto state = scheduler_.StateOf(id);
      if (state == SequenceState::kRunning && !client->was_running) {
        client->was_running = true;
        started.push_back(client.get());
      } else if (state == SequenceState::kWaiting) {
        if (client->was_running) Fail(absl::StrCat("request ", id, " was evicted"));
        if (id != except) waiting.push_back(client.get());
      }
    }
    for (const Client* first : waiting) {
      for (const Client* later : started) {
        const bool overtaken = first->request.priority != later->request.priority
                                   ? first->request.priority > later->request.priority
                                   : first->order < later->order;
        if (!overtaken) continue;
        ++coverage_.overtakes;
        if (now_ns_ - first->request.arrival_ns >= world_.options.overtake_age_ns) {
          Fail(absl::StrCat("request ", later->order, " overtook the old request ", first->order));
        }
      }
    }
  }

  void Drain() {
    std::vector<int64_t> full;
    for (TokenEvent& event : scheduler_.token_events()) {
      if (live_.count(event.sequence_id) == 0) return Fail("a token after the end");
      Client& client = *live_.at(event.sequence_id);
      absl::StrAppend(&trace_, event.sequence_id, ":", event.token.token, " ");
      if (event.index != static_cast<int32_t>(client.tokens.size())) Fail("a token is missing");
      if (client.paused_since_ns != kNeverNs) Fail("a paused request got a token");
      const int64_t since = event.index == 0 ? client.request.arrival_ns : client.last_token_ns;
      if (event.latency_ns != now_ns_ - since) Fail("a token's latency is wrong");
      client.last_token_ns = now_ns_;
      client.tokens.push_back(event.token.token);
      if (client.tokens.size() > client.answer.tokens.size() ||
          client.answer.tokens[event.index] != event.token.token) {
        Fail(absl::StrCat("token ", event.index, " of request ", event.sequence_id,
                          " is not what it gets alone"));
      }
      if (++client.unread >= client.capacity) full.push_back(event.sequence_id);
    }
    const std::vector<FinishedEvent> ends(scheduler_.finished_events().begin(),
                                          scheduler_.finished_events().end());
    scheduler_.ClearEvents();
    for (const FinishedEvent& event : ends) CheckEnd(event);
    for (const int64_t id : full) {
      if (!scheduler_.Pause(id, now_ns_)) continue;
      if (live_.count(id) == 0) return Fail("paused a request that has ended");
      live_.at(id)->paused_since_ns = now_ns_;
    }
  }

  void CheckEnd(const FinishedEvent& event) {
    const int64_t id = event.sequence_id;
    if (live_.count(id) == 0) return Fail(absl::StrCat("request ", id, " ended twice"));
    Client& client = *live_.at(id);
    const Outcome& outcome = event.outcome;
    const std::string why = ExpectEnd(client, outcome);
    if (!why.empty()) {
      Fail(absl::StrCat("request ", id, " ended with ", outcome.status.ToString(), ": ", why));
    }
    const Usage& usage = outcome.usage;
    if (usage.queue_ns + usage.prefill_ns + usage.decode_ns !=
            now_ns_ - client.request.arrival_ns ||
        usage.queue_ns < 0 || usage.prefill_ns < 0 || usage.decode_ns < 0) {
      Fail(absl::StrCat("the times of request ", id, " do not add up"));
    }
    const int64_t computed = executor_.num_computed(id);
    // A step that failed holds what it would have needed.
    if (!client.was_failed && (usage.kv_bytes != world_.geometry.BytesHeld(computed) ||
                               usage.kv_bytes_full != computed * 64)) {
      Fail(absl::StrCat("request ", id, " is said to hold ", usage.kv_bytes, " bytes after ",
                        computed, " tokens"));
    }
    absl::StrAppend(&trace_, id, ":", outcome.status.ToString(), " ",
                    static_cast<int>(outcome.finish), "\n");
    ++ended_by_code_[outcome.status.code()];
    ++coverage_.ends[outcome.status.code()];
    ++coverage_.finishes[outcome.finish];
    if (outcome.status.code() == absl::StatusCode::kDeadlineExceeded && !client.was_running) {
      ++coverage_.deadlines_in_queue;
    }
    executor_.Forget(id);
    live_.erase(id);
  }

  // Empty if this end is right for this life.
  std::string ExpectEnd(const Client& client, const Outcome& outcome) {
    const Request& request = client.request;
    const auto tokens = static_cast<int32_t>(client.tokens.size());
    const auto total = static_cast<int64_t>(request.prompt.size()) + request.max_tokens;
    if (client.has_cancelled != (outcome.status.code() == absl::StatusCode::kCancelled)) {
      return "cancelled or not";
    }
    if (outcome.usage.generated_tokens != tokens) return "another number of tokens came";
    switch (outcome.status.code()) {
      case absl::StatusCode::kOk:
        if (client.has_stopped) {
          return outcome.finish == FinishReason::kStopString ? "" : "not by the stop string";
        }
        if (client.tokens != client.answer.tokens) return "its answer is longer";
        return outcome.finish == client.answer.finish ? "" : "for another reason";
      case absl::StatusCode::kCancelled:
        return "";
      case absl::StatusCode::kDeadlineExceeded:
        return now_ns_ >= request.deadline_ns ? "" : "before its deadline";
      case absl::StatusCode::kAborted:
        return client.paused_since_ns != kNeverNs &&
                       now_ns_ - client.paused_since_ns >= world_.options.slow_reader_timeout_ns
                   ? ""
                   : "its reader was not slow";
      case absl::StatusCode::kInternal:
        return client.was_failed || (client.answer.is_poisoned && tokens == 2) ? "" : "no reason";
      case absl::StatusCode::kInvalidArgument: {
        const BlockCounts need = BlocksNeeded(world_.geometry, total);
        const int64_t headroom =
            ExactHeadroomBlocks(world_.options, world_.limits, world_.geometry);
        const bool fits = need.latent <= world_.geometry.num_latent_blocks &&
                          need.exact <= world_.geometry.num_exact_blocks - headroom;
        return !fits || total > world_.options.max_sequence_tokens || request.max_tokens < 1
                   ? ""
                   : "but could run";
      }
      case absl::StatusCode::kResourceExhausted:
        return outcome.retry_after_ns > 0 ? "" : "without a hint when to come back";
      default:
        return "an unknown code";
    }
  }

  void Audit() {
    const std::string audit = scheduler_.AuditForTest();
    if (!audit.empty()) Fail(audit);
    const SchedulerStats stats = scheduler_.Stats();
    int64_t ended = 0;
    for (const auto& [code, count] : ended_by_code_) {
      ended += count;
      if (stats.outcomes(code) != count) Fail("outcomes are not counted right");
    }
    if (submitted_ != ended + stats.running + stats.waiting_kv_budget + stats.waiting_batch_slots +
                          stats.waiting_queue ||
        stats.submitted != submitted_) {
      Fail("requests got lost");
    }
    if (stats.waiting_kv_budget < 0 || stats.waiting_batch_slots < 0 || stats.waiting_queue < 0) {
      Fail("fewer than no requests wait");
    }
    const int64_t spoken_for = stats.latent.written_bytes + stats.latent.promised_bytes +
                               stats.exact.written_bytes + stats.exact.promised_bytes;
    if (spoken_for > stats.latent.budget_bytes + stats.exact.budget_bytes) Fail("over budget");
  }

  void CheckAtStart() {
    const SchedulerStats stats = scheduler_.Stats();
    for (const KindStats* kind : {&stats.latent, &stats.exact}) {
      if (kind->written_bytes != 0 || kind->promised_bytes != 0 ||
          kind->blocks_free != kind->blocks_total) {
        Fail("blocks are still held after the last end");
      }
    }
    if (stats.running != 0 || stats.paused != 0 || stats.written_tokens != 0 ||
        stats.waiting_prompt_tokens != 0 || stats.preemptions != 0) {
      Fail("the counts do not go back to the start");
    }
  }

  Random random_;
  const uint64_t seed_;
  Coverage& coverage_;
  const World world_;
  FakeExecutor executor_;
  Scheduler scheduler_;
  int64_t now_ns_ = 1'000 * kMs;
  int64_t next_id_ = 1;
  int64_t requests_left_ = 0;
  int64_t submitted_ = 0;
  std::map<int64_t, std::unique_ptr<Client>> live_;
  std::map<absl::StatusCode, int64_t> ended_by_code_;
  std::string trace_;
  std::string failure_;
};

int64_t Environment(const char* name, int64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atoll(value);
}

TEST(SimulationTest, EveryLifeEndsAsItShould) {
  const int64_t first = Environment("LORC_SIMULATION_FIRST_SEED", 1);
  const int64_t seeds = Environment("LORC_SIMULATION_SEEDS", kDefaultSeeds);
  Coverage coverage;
  for (int64_t seed = first; seed < first + seeds && !HasFailure(); ++seed) {
    Simulation(seed, &coverage).Run();
  }
  if (seeds < 1000) return;
  // A simulation that stops meeting these cases proves nothing about them.
  for (const absl::StatusCode code :
       {absl::StatusCode::kOk, absl::StatusCode::kCancelled, absl::StatusCode::kDeadlineExceeded,
        absl::StatusCode::kAborted, absl::StatusCode::kInternal, absl::StatusCode::kInvalidArgument,
        absl::StatusCode::kResourceExhausted}) {
    EXPECT_GT(coverage.ends[code], 100) << absl::StatusCodeToString(code);
  }
  for (const FinishReason finish : {FinishReason::kEos, FinishReason::kLength,
                                    FinishReason::kStopToken, FinishReason::kStopString}) {
    EXPECT_GT(coverage.finishes[finish], 100) << static_cast<int>(finish);
  }
  EXPECT_GT(coverage.cancelled_in_queue, 100);
  EXPECT_GT(coverage.cancelled_in_prompt, 100);
  EXPECT_GT(coverage.cancelled_in_decode, 100);
  EXPECT_GT(coverage.cancelled_while_paused, 100);
  EXPECT_GT(coverage.cancelled_after_end, 100);
  EXPECT_GT(coverage.deadlines_in_queue, 100);
  EXPECT_GT(coverage.overtakes, 100);
  EXPECT_GT(coverage.chunks, 100);
  EXPECT_GT(coverage.steps_in_headroom, 100);
}

TEST(SimulationTest, TheSameSeedGivesTheSameEvents) {
  Coverage coverage;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    EXPECT_EQ(Simulation(seed, &coverage).Run(), Simulation(seed, &coverage).Run())
        << "seed " << seed;
  }
}

}  // namespace
}  // namespace lorc
