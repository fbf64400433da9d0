// The capacity report as text and JSON.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "service/capacity_report.h"
#include "service/config_values.h"

namespace lorc {
namespace {

using Json = nlohmann::ordered_json;

void AppendLayers(const CapacityReport& report, std::string* out) {
  absl::StrAppendFormat(out, "\n%5s  %-8s %5s  %-10s %9s   %-8s %5s  %-10s %9s\n", "layer", "key",
                        "rank", "type", "B/token", "value", "rank", "type", "B/token");
  int64_t keys = 0;
  int64_t values = 0;
  for (size_t i = 0; i < report.layers.size(); ++i) {
    const auto& [key, value] = report.layers[i];
    keys += key.bytes_per_token;
    values += value.bytes_per_token;
    absl::StrAppendFormat(out, "%5d  %-8s %5d  %-10s %9d   %-8s %5d  %-10s %9d\n", i, key.layout,
                          key.rank, key.type, key.bytes_per_token, value.layout, value.rank,
                          value.type, value.bytes_per_token);
  }
  absl::StrAppendFormat(out, "%5s  %-8s %5s  %-10s %9d   %-8s %5s  %-10s %9d\n", "all", "", "", "",
                        keys, "", "", "", values);
}

void AppendMemory(const CapacityReport& report, std::string* out) {
  const auto line = [out](const char* use, int64_t bytes, const std::string& note) {
    absl::StrAppendFormat(out, "  %-12s %12s%s%s\n", use, RoundedBytes(bytes),
                          note.empty() ? "" : "  ", note);
  };
  absl::StrAppend(out, "\nmemory (weights and activations are estimates until they are loaded)\n");
  line("weights", report.memory.weights, "");
  line("activations", report.memory.activations, "");
  line("workspace", report.memory.workspace, "");
  line("KV cache", report.budget_bytes, report.budget_origin);
  line("all", report.memory.total() + report.budget_bytes, "");
  line("available", report.available.bytes, report.available.source);
}

void AppendCache(const CapacityReport& report, std::string* out) {
  const auto line = [&](const std::string& what, int64_t plan, int64_t full) {
    const std::string gain =
        full > 0 ? absl::StrFormat("%10.2fx", static_cast<double>(plan) / static_cast<double>(full))
                 : "";
    absl::StrAppendFormat(out, "  %-38s %14d %14d %s\n", what, plan, full, gain);
  };
  const CacheCapacity& plan = report.with_plan;
  const CacheCapacity& full = report.with_full_cache;
  absl::StrAppendFormat(out, "\n%-40s %14s %14s\n",
                        absl::StrCat("cache of ", report.budget_bytes, " bytes"), "this plan",
                        absl::StrCat("full ", report.full_type));
  line("bytes per token beyond the exact ones", plan.bytes_per_token, full.bytes_per_token);
  line(absl::StrCat("latent blocks of ", report.block_tokens, " tokens"), plan.latent_blocks,
       full.latent_blocks);
  line(absl::StrCat("exact blocks of ", report.block_tokens, " tokens"), plan.exact_blocks,
       full.exact_blocks);
  line("longest request, tokens", plan.longest_request, full.longest_request);
  for (size_t i = 0; i < report.lengths.size(); ++i) {
    line(absl::StrCat("concurrent requests of ", report.lengths[i], " tokens"), plan.concurrent[i],
         full.concurrent[i]);
  }
  absl::StrAppend(out, "  a request has at most ", report.max_sequence_tokens, " tokens (",
                  report.sequence_origin, "), at most ", report.max_running,
                  " run at once (max_running)\n");
}

Json Of(const TensorCapacity& tensor) {
  return {{"layout", tensor.layout},
          {"rank", tensor.rank},
          {"type", tensor.type},
          {"bytes_per_token", tensor.bytes_per_token}};
}

Json Of(const CacheCapacity& cache, const std::vector<int64_t>& lengths) {
  Json concurrent = Json::array();
  for (size_t i = 0; i < lengths.size(); ++i) {
    concurrent.push_back({{"tokens", lengths[i]}, {"requests", cache.concurrent[i]}});
  }
  return {{"bytes_per_token", cache.bytes_per_token},
          {"latent_blocks", cache.latent_blocks},
          {"exact_blocks", cache.exact_blocks},
          {"longest_request_tokens", cache.longest_request},
          {"concurrent_requests", concurrent}};
}

}  // namespace

std::string ToText(const CapacityReport& report) {
  std::string out = absl::StrCat("model    ", report.model, "\nplan     ", report.plan,
                                 "\nruns on  ", report.runs_on, "\n");
  AppendLayers(report, &out);
  AppendMemory(report, &out);
  AppendCache(report, &out);
  return out;
}

std::string ToJson(const CapacityReport& report) {
  Json layers = Json::array();
  for (size_t i = 0; i < report.layers.size(); ++i) {
    layers.push_back(
        {{"layer", i}, {"key", Of(report.layers[i].key)}, {"value", Of(report.layers[i].value)}});
  }
  const Json json = {{"model", report.model},
                     {"plan", report.plan},
                     {"runs_on", report.runs_on},
                     {"block_tokens", report.block_tokens},
                     {"latent_block_bytes", report.latent_block_bytes},
                     {"exact_block_bytes", report.exact_block_bytes},
                     {"weights_bytes", report.memory.weights},
                     {"activations_bytes", report.memory.activations},
                     {"workspace_bytes", report.memory.workspace},
                     {"kv_budget_bytes", report.budget_bytes},
                     {"kv_budget_origin", report.budget_origin},
                     {"available_bytes", report.available.bytes},
                     {"max_sequence_tokens", report.max_sequence_tokens},
                     {"max_running", report.max_running},
                     {"this_plan", Of(report.with_plan, report.lengths)},
                     {"full_cache", Of(report.with_full_cache, report.lengths)},
                     {"layers", layers}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace lorc
