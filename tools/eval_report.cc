#include "tools/eval_report.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/report/number_text.h"
#include "tools/terminal.h"

namespace lorc {
namespace {

using nlohmann::json;

// ---- JSON

json ToJson(const Interval& interval) { return {interval.low, interval.high}; }

// `key` and, where there is an interval, `key`_interval.
void Put(json& object, const std::string& key, const Estimate& estimate) {
  object[key] = estimate.value;
  if (estimate.interval.has_value()) object[key + "_interval"] = ToJson(*estimate.interval);
}

json ToJson(const Quality& quality) {
  const Evaluation& e = quality.evaluation;
  json object = {{"perplexity", e.perplexity},
                 {"nll", e.nll},
                 {"windows", e.num_windows},
                 {"position_nll", e.position_nll},
                 {"bytes_per_token", quality.bytes_per_token},
                 {"exact_bytes_per_sequence", quality.exact_bytes_per_sequence}};
  if (e.num_recall_passages > 0) object["recall"] = e.recall;
  for (const DistanceRecall& at : quality.distances) {
    object["recall_distances"].push_back(
        {{"distance", at.distance}, {"recall", at.nll}, {"passages", at.passage_nll.size()}});
  }
  if (quality.choices.has_value()) {
    const ChoiceAccuracy accuracy = AccuracyOf(*quality.choices);
    json& choices = object["choices"];
    choices["questions"] = quality.choices->answers.size();
    Put(choices, "accuracy", accuracy.accuracy);
    Put(choices, "normalised_accuracy", accuracy.normalised);
  }
  if (quality.agreement.has_value()) {
    const Agreement& agreement = *quality.agreement;
    object["agreement"] = {{"sequences", agreement.same_choice.size()},
                           {"tokens", agreement.num_tokens},
                           {"identical", agreement.identical},
                           {"common_prefix", agreement.mean_common_prefix},
                           {"same_choice", agreement.same_choice_share}};
  }
  return object;
}

json ToJson(const EvalPlan& plan) {
  json object = ToJson(plan.quality);
  const QualityChange& change = plan.change;
  object["plan"] = plan.path;
  object["name"] = plan.name;
  Put(object, "perplexity_change", change.perplexity);
  if (change.recall.has_value()) Put(object, "recall_change", *change.recall);
  for (size_t i = 0; i < change.distances.size(); ++i) {
    Put(object["recall_distances"][i], "change", change.distances[i]);
  }
  if (change.accuracy.has_value()) {
    json& choices = object["choices"];
    Put(choices, "accuracy_change", *change.accuracy);
    Put(choices, "normalised_accuracy_change", *change.normalised_accuracy);
    Put(choices, "same_pick", *change.same_pick);
  }
  return object;
}

// ---- Tables

// A table with a row for the uncompressed model, where it says anything, and one per plan.
template <typename Full, typename Plan>
std::string RowsOf(const EvalReport& report, std::vector<std::string> header, const Full& full,
                   const Plan& of_plan) {
  header.insert(header.begin(), "cache");
  Table table(header);
  const auto add = [&](const std::string& label, std::vector<std::string> cells) {
    if (cells.empty()) return;
    cells.insert(cells.begin(), label);
    table.Add(std::move(cells));
  };
  add("uncompressed", full(report.uncompressed));
  for (const EvalPlan& plan : report.plans) add(plan.label, of_plan(plan));
  return table.ToString();
}

std::string MainTable(const EvalReport& report) {
  const auto row = [](const Quality& quality, const QualityChange* change) {
    const Evaluation& e = quality.evaluation;
    const bool recall = e.num_recall_passages > 0;
    return std::vector<std::string>{
        absl::StrCat(quality.bytes_per_token),
        absl::StrCat(quality.exact_bytes_per_sequence),
        absl::StrFormat("%.4f", e.perplexity),
        change == nullptr ? "-" : Percent(change->perplexity.value),
        change == nullptr ? "-" : PercentInterval(change->perplexity),
        absl::StrFormat("%.5f", e.nll),
        recall ? Nats(e.recall) : "-",
        change == nullptr || !recall ? "-" : NatsInterval(*change->recall)};
  };
  return RowsOf(
      report,
      {"bytes/token", "exact bytes/sequence", "perplexity", "change", "95 %", "nll", "recall",
       "change, 95 %"},
      [&](const Quality& full) { return row(full, nullptr); },
      [&](const EvalPlan& plan) { return row(plan.quality, &plan.change); });
}

std::string DistanceTable(const EvalReport& report) {
  std::vector<std::string> header;
  for (const DistanceRecall& at : report.uncompressed.distances) {
    header.push_back(absl::StrCat(at.distance));
    header.emplace_back("change, 95 %");
  }
  const auto row = [](const Quality& quality, const QualityChange* change) {
    std::vector<std::string> cells;
    for (size_t i = 0; i < quality.distances.size(); ++i) {
      cells.push_back(Nats(quality.distances[i].nll));
      cells.push_back(change == nullptr ? "-" : NatsInterval(change->distances[i]));
    }
    return cells;
  };
  return RowsOf(
      report, header, [&](const Quality& full) { return row(full, nullptr); },
      [&](const EvalPlan& plan) { return row(plan.quality, &plan.change); });
}

std::string ChoiceTable(const EvalReport& report) {
  const auto row = [](const Quality& quality, const QualityChange* change) {
    const ChoiceAccuracy accuracy = AccuracyOf(*quality.choices);
    return std::vector<std::string>{
        Share(accuracy.accuracy.value),
        PercentInterval(change == nullptr ? Estimate() : *change->accuracy),
        Share(accuracy.normalised.value),
        PercentInterval(change == nullptr ? Estimate() : *change->normalised_accuracy),
        change == nullptr ? "-" : Share(change->same_pick->value)};
  };
  return RowsOf(
      report, {"accuracy", "change, 95 %", "normalised accuracy", "change, 95 %", "same picks"},
      [&](const Quality& full) { return row(full, nullptr); },
      [&](const EvalPlan& plan) { return row(plan.quality, &plan.change); });
}

std::string AgreementTable(const EvalReport& report) {
  const auto row = [](const Quality& quality) {
    const Agreement& agreement = *quality.agreement;
    return std::vector<std::string>{Share(agreement.identical),
                                    absl::StrFormat("%.1f", agreement.mean_common_prefix),
                                    Share(agreement.same_choice_share)};
  };
  return RowsOf(report, {"identical", "common prefix", "same choice"}, row,
                [&](const EvalPlan& plan) { return row(plan.quality); });
}

std::string PositionTable(const EvalReport& report) {
  std::vector<std::string> header;
  for (size_t i = 0; i < report.uncompressed.evaluation.position_nll.size(); ++i) {
    header.push_back(absl::StrCat(i + 1, "/8"));
  }
  return RowsOf(
      report, header, [](const Quality&) { return std::vector<std::string>(); },
      [](const EvalPlan& plan) {
        std::vector<std::string> cells;
        for (const double nats : plan.change.position_nll) {
          cells.push_back(absl::StrFormat("%+.3f", nats));
        }
        return cells;
      });
}

}  // namespace

std::string PercentInterval(const Estimate& estimate) {
  if (!estimate.interval.has_value()) return "-";
  return absl::StrFormat("%+.2f to %+.2f %%", 100 * estimate.interval->low,
                         100 * estimate.interval->high);
}

std::string NatsInterval(const Estimate& estimate) {
  if (!estimate.interval.has_value()) return absl::StrFormat("%+.4f", estimate.value);
  return absl::StrFormat("%+.4f to %+.4f", estimate.interval->low, estimate.interval->high);
}

std::string EvalJson(const EvalReport& report) {
  if (report.plans.empty()) return ToJson(report.uncompressed).dump(2);
  json object;
  if (report.plans.size() == 1) {
    object = ToJson(report.plans[0]);
  } else {
    for (const EvalPlan& plan : report.plans) object["plans"].push_back(ToJson(plan));
  }
  object["uncompressed"] = ToJson(report.uncompressed);
  return object.dump(2, ' ', false, json::error_handler_t::replace);
}

std::string EvalTable(const EvalReport& report) {
  const Quality& full = report.uncompressed;
  std::string out = MainTable(report);
  if (!report.plans.empty()) {
    absl::StrAppend(&out, "\nloss by position, eighths of the window (nats, to uncompressed)\n",
                    PositionTable(report));
  }
  if (!full.distances.empty()) {
    absl::StrAppend(&out, "\nrecall by distance (tokens), ", full.distances[0].passage_nll.size(),
                    " passages (nats)\n", DistanceTable(report));
  }
  if (full.choices.has_value()) {
    absl::StrAppend(&out, "\nmultiple choice, ", full.choices->answers.size(), " questions\n",
                    ChoiceTable(report));
  }
  if (full.agreement.has_value()) {
    absl::StrAppend(&out, "\nagreement with the uncompressed model's greedy continuations, ",
                    full.agreement->same_choice.size(), " of ", full.agreement->num_tokens,
                    " tokens\n", AgreementTable(report));
  }
  absl::StrAppend(&out, "\n", full.evaluation.num_windows, " windows of ", report.window,
                  " tokens; recall: nats on the second copy of a passage; 95 %: paired "
                  "intervals over the same texts\n");
  return out;
}

}  // namespace lorc
