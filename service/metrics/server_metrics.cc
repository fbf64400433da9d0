#include "service/metrics/server_metrics.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "service/metrics/family_list.h"
#include "service/metrics/process_facts.h"
#include "service/version.h"

namespace lorc {
namespace {

double Seconds(int64_t ns) { return static_cast<double>(ns) * 1e-9; }
double Number(int64_t value) { return static_cast<double>(value); }

// 1, 2, 5, 10, ... times `unit`, up to `decades` powers of ten.
std::vector<double> OneTwoFive(double unit, int decades) {
  std::vector<double> bounds;
  for (int i = 0; i < decades; ++i, unit *= 10) {
    for (const double step : {1.0, 2.0, 5.0}) bounds.push_back(step * unit);
  }
  return bounds;
}

std::vector<double> PowersOfTwo(int count) {
  std::vector<double> bounds;
  for (int i = 0; i < count; ++i) bounds.push_back(static_cast<double>(int64_t{1} << i));
  return bounds;
}

// From a GPU's millisecond to a busy CPU's seconds; finest where readers feel the difference.
std::vector<double> InterTokenBounds() {
  return {.0005, .001, .002, .003, .005, .0075, .01, .015, .02, .03, .04, .05,
          .075,  .1,   .15,  .2,   .3,   .5,    .75, 1,    2,   5,   10,  30};
}

int64_t HeldBlocks(const KindStats& kind) { return kind.blocks_total - kind.blocks_free; }

// The share of the blocks held, of the kind that has fewer left: 1 means that nothing more starts.
double KvUsage(const SchedulerStats& stats) {
  double usage = 0;
  for (const KindStats* kind : {&stats.latent, &stats.exact}) {
    if (kind->blocks_total > 0) {
      usage = std::max(usage, Number(HeldBlocks(*kind)) / Number(kind->blocks_total));
    }
  }
  return usage;
}

void AddProcess(FamilyList* list) {
  list->Gauge("process_start_time_seconds", "Start time of the process since 1970, in seconds.",
              ProcessStartTimeSeconds());
  list->Gauge("process_resident_memory_bytes", "Resident memory of the process, in bytes.",
              Number(ResidentBytes()));
  list->Counter("process_cpu_seconds_total",
                "User and system time spent by all threads, in seconds.", CpuSeconds());
}

void AddState(const MetricsSnapshot& snapshot, FamilyList* list) {
  list->Gauge("lorc_ready", "1 if new requests are served, else 0.", snapshot.ready);
  list->Gauge("lorc_draining", "1 while the server shuts down, else 0.", snapshot.draining);
  list->Gauge("lorc_engine_healthy", "0 after the executor has failed, which is for ever, else 1.",
              snapshot.health.healthy);
}

void AddFacts(const ModelFacts& facts, const MetricsSnapshot& snapshot, FamilyList* list) {
  list->Gauge("lorc_build_info", "1; what was built is in the labels.", 1,
              {{"version", kServerVersion}, {"backend", facts.backend}});
  list->Gauge("lorc_model_info", "1; what is served is in the labels.", 1,
              {{"model", facts.model},
               {"architecture", facts.architecture},
               {"weights", facts.weights},
               {"plan", facts.plan},
               {"method", facts.method}});
  for (const auto& [phase, seconds] :
       {std::pair("open", facts.open_seconds), std::pair("load", facts.load_seconds)}) {
    list->Gauge("lorc_startup_seconds",
                "Duration of the phases of start-up, in seconds: open (files opened and checked), "
                "load (memory taken, weights packed).",
                seconds, {{"phase", phase}});
  }
  for (int use = 0; use < kNumMemoryUses; ++use) {
    list->Gauge("lorc_memory_bytes",
                "Bytes taken on the device by use; constant once the server is ready.",
                Number(snapshot.memory_bytes[use]), {{"use", Name(static_cast<MemoryUse>(use))}});
  }
}

void AddLayers(const ModelFacts& facts, const SchedulerStats& stats, FamilyList* list) {
  const int64_t latent_tokens = HeldBlocks(stats.latent) * stats.block_tokens;
  const int64_t exact_tokens = HeldBlocks(stats.exact) * stats.block_tokens;
  for (const bool is_per_token : {false, true}) {
    for (size_t i = 0; i < facts.layers.size(); ++i) {
      for (const bool is_key : {true, false}) {
        const ModelFacts::Tensor& tensor = is_key ? facts.layers[i].key : facts.layers[i].value;
        const Labels labels = {{"layer", absl::StrCat(i)}, {"tensor", is_key ? "key" : "value"}};
        if (is_per_token) {
          list->Gauge("lorc_kv_bytes_per_token",
                      "Cache bytes of one token beyond the exact ones, scales and padding "
                      "included, by layer and tensor.",
                      Number(tensor.bytes_per_token), labels);
        } else {
          list->Gauge("lorc_kv_written_bytes",
                      "Bytes of the cache blocks held by requests, by layer and tensor.",
                      Number(latent_tokens * tensor.bytes_per_token +
                             exact_tokens * tensor.exact_bytes_per_token),
                      labels);
        }
      }
    }
  }
}

void AddCache(const ModelFacts& facts, const SchedulerStats& stats, FamilyList* list) {
  const int64_t written = stats.latent.written_bytes + stats.exact.written_bytes;
  int64_t bytes_per_token = 0;
  for (const ModelFacts::Layer& layer : facts.layers) {
    bytes_per_token += layer.key.bytes_per_token + layer.value.bytes_per_token;
  }
  list->Gauge("lorc_kv_budget_bytes", "Bytes of the cache, all of them taken at start-up.",
              Number(stats.latent.budget_bytes + stats.exact.budget_bytes));
  AddLayers(facts, stats, list);
  list->Gauge("lorc_kv_promised_bytes",
              "Bytes that admitted requests may still need; written + promised <= budget.",
              Number(stats.latent.promised_bytes + stats.exact.promised_bytes));
  list->Gauge("lorc_kv_headroom_bytes",
              "Bytes of the budget kept for the exact blocks of prefill steps.",
              Number(stats.latent.headroom_bytes + stats.exact.headroom_bytes));
  list->Gauge("lorc_kv_full_bytes_per_token",
              "Bytes of one token in an uncompressed bf16 cache, all layers.",
              Number(facts.full_bytes_per_token));
  list->Gauge("lorc_kv_saved_bytes",
              "Bytes that the tokens cached now would take in an uncompressed bf16 cache, less the "
              "bytes of the blocks that hold them; 0 where blocks not yet full outweigh.",
              Number(std::max<int64_t>(0, stats.written_bytes_full - written)));
  list->Gauge("lorc_kv_savings_ratio",
              "Share of an uncompressed bf16 cache's bytes that the plan saves on a token beyond "
              "the exact ones: 0 is none, 0.75 is four times as many tokens.",
              1 - Number(bytes_per_token) / Number(facts.full_bytes_per_token));
  list->Gauge("lorc_kv_written_tokens", "Tokens of running requests that are cached.",
              Number(stats.written_tokens));
  list->Gauge("lorc_kv_block_tokens", "Tokens of a cache block.", Number(stats.block_tokens));
  const std::pair<const char*, const KindStats*> kinds[] = {{"latent", &stats.latent},
                                                            {"exact", &stats.exact}};
  for (const auto& [name, kind] : kinds) {
    list->Gauge("lorc_kv_block_bytes", "Bytes of a cache block by kind, all layers.",
                Number(kind->block_bytes), {{"kind", name}});
  }
  for (const auto& [name, kind] : kinds) {
    constexpr char kHelp[] = "Cache blocks by kind, free or held by requests.";
    list->Gauge("lorc_kv_blocks", kHelp, Number(kind->blocks_free),
                {{"kind", name}, {"state", "free"}});
    list->Gauge("lorc_kv_blocks", kHelp, Number(HeldBlocks(*kind)),
                {{"kind", name}, {"state", "held"}});
  }
}

void AddRequests(const MetricsSnapshot& snapshot, FamilyList* list) {
  const SchedulerStats& stats = snapshot.stats;
  const std::pair<const char*, int64_t> reasons[] = {{"kv_budget", stats.waiting_kv_budget},
                                                     {"batch_slots", stats.waiting_batch_slots},
                                                     {"queue", stats.waiting_queue}};
  for (const auto& [reason, waiting] : reasons) {
    list->Gauge("lorc_requests_waiting",
                "Requests that wait: kv_budget (their bytes can't be promised now), batch_slots "
                "(max_running requests run), queue (behind others).",
                Number(waiting), {{"reason", reason}});
  }
  list->Gauge("lorc_requests_running", "Requests that hold cache.", Number(stats.running));
  list->Gauge("lorc_requests_paused", "Running requests whose readers are behind.",
              Number(stats.paused));
  list->Gauge("lorc_waiting_prompt_tokens", "Prompt tokens of the requests that wait.",
              Number(stats.waiting_prompt_tokens));
  list->Gauge("lorc_wait_estimate_seconds",
              "Time until a request that joins the queue now would start, in seconds.",
              Seconds(stats.wait_estimate_ns));
  for (size_t code = 0; code < snapshot.outcomes_by_code.size(); ++code) {
    list->Counter("lorc_request_outcomes_total",
                  "Calls of Generate and GenerateOnce that have ended, by gRPC status.",
                  Number(snapshot.outcomes_by_code[code]),
                  {{"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}});
  }
  const std::pair<const char*, FinishReason> finishes[] = {
      {"eos", FinishReason::kEos},
      {"length", FinishReason::kLength},
      {"stop_string", FinishReason::kStopString},
      {"stop_token", FinishReason::kStopToken}};
  for (const auto& [reason, finish] : finishes) {
    list->Counter("lorc_request_finish_reasons_total", "Calls that ended with OK, by reason.",
                  Number(snapshot.outcomes_by_finish[static_cast<size_t>(finish)]),
                  {{"reason", reason}});
  }
}

void AddWork(const SchedulerStats& stats, FamilyList* list) {
  list->Counter("lorc_prompt_tokens_total", "Prompt tokens computed.", Number(stats.prompt_tokens));
  list->Counter("lorc_cached_prompt_tokens_total", "Prompt tokens taken from the prefix cache.",
                Number(stats.cached_prompt_tokens));
  list->Counter("lorc_generated_tokens_total", "Tokens generated.", Number(stats.generated_tokens));
  list->Counter(
      "lorc_preemptions_total",
      "Running requests that lost their cache; 0 while admission promises whole requests.",
      Number(stats.preemptions));
  list->Counter("lorc_recomputed_tokens_total", "Tokens computed again after a preemption.",
                Number(stats.recomputed_tokens));
  list->Counter("lorc_steps_total", "Steps of the engine.", Number(stats.steps));
}

// What routers and dashboards made for vLLM read: its names, types and meaning.
void AddAliases(const ModelFacts& facts, const SchedulerStats& stats, FamilyList* list) {
  const Labels labels = {{"model_name", facts.model}, {"engine", "0"}};
  list->Gauge("vllm:num_requests_running", "Requests in the batch.", Number(stats.running), labels);
  list->Gauge("vllm:num_requests_waiting", "Requests in the queue.",
              Number(stats.waiting_kv_budget + stats.waiting_batch_slots + stats.waiting_queue),
              labels);
  list->Gauge("vllm:kv_cache_usage_perc",
              "Share of the cache blocks held, 0 to 1; of two kinds, the one with fewer left.",
              KvUsage(stats), labels);
  list->Gauge("vllm:cache_config_info", "1; tokens of a block and number of blocks in the labels.",
              1,
              {{"block_size", absl::StrCat(stats.block_tokens)},
               {"num_gpu_blocks", absl::StrCat(stats.latent.blocks_total)},
               {"engine", "0"}});
}

}  // namespace

ServerMetrics::ServerMetrics(ModelFacts facts)
    : facts_(std::move(facts)),
      time_to_first_token_(OneTwoFive(.001, 6)),
      inter_token_latency_(InterTokenBounds()),
      queue_time_(OneTwoFive(.0001, 7)),
      latency_(OneTwoFive(.001, 7)),
      step_time_(OneTwoFive(.0001, 6)),
      step_tokens_(PowersOfTwo(17)),
      prompt_tokens_(PowersOfTwo(18)),
      generated_tokens_(PowersOfTwo(18)) {}

void ServerMetrics::OnStep(int64_t duration_ns, int64_t prefill_tokens, int64_t decode_tokens) {
  step_time_.Observe(Seconds(duration_ns));
  step_tokens_.Observe(Number(prefill_tokens + decode_tokens));
}

void ServerMetrics::OnFirstToken(int64_t since_arrival_ns) {
  time_to_first_token_.Observe(Seconds(since_arrival_ns));
}

void ServerMetrics::OnNextToken(int64_t since_previous_ns) {
  inter_token_latency_.Observe(Seconds(since_previous_ns));
}

void ServerMetrics::OnEnd(const Outcome& outcome) {
  const Usage& usage = outcome.usage;
  queue_time_.Observe(Seconds(usage.queue_ns));
  if (!outcome.status.ok()) return;
  latency_.Observe(Seconds(usage.queue_ns + usage.prefill_ns + usage.decode_ns));
  prompt_tokens_.Observe(Number(usage.prompt_tokens));
  generated_tokens_.Observe(Number(usage.generated_tokens));
}

std::string ServerMetrics::ToText(const MetricsSnapshot& snapshot) const {
  FamilyList list;
  AddProcess(&list);
  AddState(snapshot, &list);
  AddFacts(facts_, snapshot, &list);
  AddCache(facts_, snapshot.stats, &list);
  AddRequests(snapshot, &list);
  AddWork(snapshot.stats, &list);
  list.Add("lorc_time_to_first_token_seconds",
           "From a request's arrival to its first token, in seconds.", time_to_first_token_);
  list.Add("lorc_inter_token_latency_seconds",
           "From one token of a request to the next, in seconds.", inter_token_latency_);
  list.Add("lorc_request_queue_time_seconds",
           "From a request's arrival to its admission, or to its end where it was never admitted, "
           "in seconds.",
           queue_time_);
  list.Add("lorc_e2e_request_latency_seconds",
           "From arrival to end of the requests that ended with OK, in seconds.", latency_);
  list.Add("lorc_step_time_seconds", "Duration of the engine's steps, in seconds.", step_time_);
  list.Add("lorc_step_tokens", "Tokens computed by a step.", step_tokens_);
  list.Add("lorc_request_prompt_tokens", "Prompt tokens of the requests that ended with OK.",
           prompt_tokens_);
  list.Add("lorc_request_generated_tokens", "Generated tokens of the requests that ended with OK.",
           generated_tokens_);
  AddAliases(facts_, snapshot.stats, &list);
  return list.ToText();
}

std::string ServerMetrics::LoadingText() {
  FamilyList list;
  AddProcess(&list);
  AddState(MetricsSnapshot(), &list);
  return list.ToText();
}

}  // namespace lorc
