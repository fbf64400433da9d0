#include "tools/candidate_table.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/terminal.h"

namespace lorc {
namespace {

using nlohmann::json;

double ChangeOf(const Evaluation& measured, const Evaluation& full) {
  return measured.perplexity / full.perplexity - 1;
}

json ToJson(const DecodeCost& cost) {
  return {{"multiply_adds", cost.multiply_adds}, {"cache_bytes_read", cost.cache_bytes}};
}

}  // namespace

std::string CandidateTable(const CompressResult& result, int32_t context, const DecodeCost& full) {
  Table table({"keys", "anchor", "window", "B/token", "B/sequence", "predicted", "measured",
               "recall", "MMAC/token", "of full", "KiB read", "of full", ""});
  const auto share = [](int64_t part, int64_t whole) {
    return absl::StrFormat("%.2f", static_cast<double>(part) / static_cast<double>(whole));
  };
  for (const KvPlanCandidate& candidate : result.candidates) {
    const bool made = candidate.bytes_per_sequence > 0;
    const DecodeCost& cost = candidate.cost;
    const auto& measured = candidate.measured;
    table.Add({Name(candidate.keys),
               candidate.keys == KvLayoutKind::kRebuilt ? "-" : absl::StrCat(candidate.anchor),
               absl::StrCat(candidate.exact_window),
               made ? absl::StrCat(candidate.bytes_per_token) : "-",
               made ? absl::StrCat(candidate.bytes_per_sequence) : "-",
               made ? absl::StrFormat("%+.3f %%", 100 * std::expm1(candidate.predicted_loss)) : "-",
               measured ? absl::StrFormat("%+.2f %%", 100 * ChangeOf(*measured, result.full)) : "-",
               measured ? absl::StrFormat("%.3f", measured->recall) : "-",
               made ? absl::StrFormat("%.2f", 1e-6 * static_cast<double>(cost.multiply_adds)) : "-",
               made ? share(cost.multiply_adds, full.multiply_adds) : "-",
               made ? absl::StrCat(cost.cache_bytes / 1024) : "-",
               made ? share(cost.cache_bytes, full.cache_bytes) : "-",
               candidate.chosen              ? "chosen"
               : !candidate.excluded.empty() ? absl::StrCat("excluded: ", candidate.excluded)
                                             : ""});
  }
  return absl::StrCat(
      table.ToString(),
      absl::StrFormat("all for the same bytes per sequence of %d tokens; perplexity against the "
                      "uncompressed model's %.4f, recall in nats against %.3f; MMAC, millions of "
                      "multiply-adds of attention and bases for a generated token at that length, "
                      "and the cache read for it, of the full cache's %.2f and %d KiB\n",
                      context, result.full.perplexity, result.full.recall,
                      1e-6 * static_cast<double>(full.multiply_adds), full.cache_bytes / 1024));
}

json CandidatesJson(const CompressResult& result, int32_t context, const DecodeCost& full) {
  json candidates = json::array();
  for (const KvPlanCandidate& candidate : result.candidates) {
    json row = {{"keys", Name(candidate.keys)}, {"exact_window", candidate.exact_window}};
    if (candidate.keys != KvLayoutKind::kRebuilt) row["anchor"] = candidate.anchor;
    if (!candidate.excluded.empty()) row["excluded"] = candidate.excluded;
    if (candidate.bytes_per_sequence > 0) {
      row["bytes_per_token"] = candidate.bytes_per_token;
      row["bytes_per_sequence"] = candidate.bytes_per_sequence;
      row["predicted_change"] = std::expm1(candidate.predicted_loss);
      row["decode"] = ToJson(candidate.cost);
      row["chosen"] = candidate.chosen;
    }
    if (candidate.measured.has_value()) {
      row["perplexity"] = candidate.measured->perplexity;
      row["perplexity_change"] = ChangeOf(*candidate.measured, result.full);
      row["recall"] = candidate.measured->recall;
    }
    candidates.push_back(std::move(row));
  }
  return {{"context", context}, {"decode_full", ToJson(full)}, {"candidates", candidates}};
}

}  // namespace lorc
