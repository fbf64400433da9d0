#include "service/info_responses.h"

#include <algorithm>

#include "service/capacity_report.h"
#include "service/generate_request.h"
#include "service/version.h"

namespace lorc {

v1::GetModelInfoResponse ModelInfo(const Serving& serving) {
  const ModelFiles& files = *serving.files;
  const ModelConfig& config = files.config();
  v1::GetModelInfoResponse info;
  info.set_model_name(config.name);
  info.set_architecture(config.architecture);
  info.set_num_parameters(serving.num_parameters);
  info.set_vocabulary_size(config.vocabulary_size);
  info.set_context_length(config.context_length);
  info.set_plan_name(files.plan.name);
  info.set_plan_method(files.plan.method);
  info.set_kv_bytes_per_token(files.layout.BytesPerToken());
  info.set_kv_bytes_per_token_full(files.layout.geometry.full_bytes_per_token);
  for (size_t i = 0; i < files.plan.layers.size(); ++i) {
    const CacheLayer& layer = files.layout.layers[i];
    const TensorCapacity key = DescribeTensor(files.plan.layers[i].key, layer.key);
    const TensorCapacity value = DescribeTensor(files.plan.layers[i].value, layer.value);
    v1::LayerKvLayout* layout = info.add_layers();
    layout->set_layer(static_cast<uint32_t>(i));
    layout->set_key_layout(key.layout);
    layout->set_value_layout(value.layout);
    layout->set_key_rank(key.rank);
    layout->set_value_rank(value.rank);
    layout->set_key_type(key.type);
    layout->set_value_type(value.type);
    layout->set_key_bytes_per_token(key.bytes_per_token);
    layout->set_value_bytes_per_token(value.bytes_per_token);
  }
  *info.mutable_default_sampling() = DefaultSampling(*serving.config);
  *info.mutable_default_stop() = DefaultStop(*serving.config, serving.size->max_sequence_tokens);
  info.set_backend(files.backend->name());
  info.set_server_version(kServerVersion);
  info.set_max_sequence_tokens(serving.size->max_sequence_tokens);
  info.set_exact_prefix_tokens(files.plan.exact_prefix);
  info.set_exact_window_tokens(files.plan.exact_window);
  info.set_has_chat_template(files.chat_template.has_value());
  return info;
}

bool IsReady(const ServiceState& state) {
  const Serving* serving = state.serving.load();
  return serving != nullptr && !state.draining.load() &&
         serving->engine->Health().Ready(state.config.stall_limit_ns);
}

v1::GetServerStatsResponse ServerStats(const ServiceState& state) {
  v1::GetServerStatsResponse response;
  response.set_uptime_seconds(static_cast<double>(Engine::NowNs() - state.start_ns) * 1e-9);
  response.set_ready(IsReady(state));
  response.set_draining(state.draining.load());

  const auto by_code = state.outcomes.by_code();
  const auto count = [&by_code](absl::StatusCode code) {
    return by_code[static_cast<size_t>(code)];
  };
  const int64_t ok = count(absl::StatusCode::kOk);
  const int64_t cancelled = count(absl::StatusCode::kCancelled);
  const int64_t deadline = count(absl::StatusCode::kDeadlineExceeded);
  const int64_t refused = state.outcomes.refused();
  int64_t all = 0;
  for (const int64_t outcomes : by_code) all += outcomes;
  response.set_requests_finished(ok);
  response.set_requests_cancelled(cancelled);
  response.set_requests_deadline_exceeded(deadline);
  response.set_requests_refused(refused);
  response.set_requests_failed(std::max<int64_t>(0, all - ok - cancelled - deadline - refused));

  const Serving* serving = state.serving.load();
  if (serving == nullptr) return response;
  const SchedulerStats stats = serving->engine->Stats();
  const KindStats& latent = stats.latent;
  const KindStats& exact = stats.exact;
  const int64_t written = latent.written_bytes + exact.written_bytes;
  response.set_kv_budget_bytes(latent.budget_bytes + exact.budget_bytes);
  response.set_kv_written_bytes(written);
  response.set_kv_promised_bytes(latent.promised_bytes + exact.promised_bytes);
  response.set_kv_saved_bytes(std::max<int64_t>(0, stats.written_bytes_full - written));
  response.set_requests_running(static_cast<uint32_t>(stats.running));
  response.set_requests_waiting(static_cast<uint32_t>(
      stats.waiting_kv_budget + stats.waiting_batch_slots + stats.waiting_queue));
  response.set_prompt_tokens(stats.prompt_tokens);
  response.set_cached_prompt_tokens(stats.cached_prompt_tokens);
  response.set_generated_tokens(stats.generated_tokens);
  response.set_preemptions(stats.preemptions);
  response.set_block_tokens(static_cast<uint32_t>(stats.block_tokens));
  response.set_blocks_total(latent.blocks_total + exact.blocks_total);
  response.set_blocks_free(latent.blocks_free + exact.blocks_free);
  return response;
}

}  // namespace lorc
