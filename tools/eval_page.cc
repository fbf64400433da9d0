#include "tools/eval_page.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/report/html_page.h"
#include "tools/report/memory_chart.h"
#include "tools/report/number_text.h"
#include "tools/report/svg_chart.h"

namespace lorc {
namespace {

void SetBar(const std::optional<Interval>& interval, double offset, ChartPoint* point) {
  if (!interval.has_value()) return;
  point->low = offset + interval->low;
  point->high = offset + interval->high;
}

// A chart of one figure against bytes per token. `of_full` and `of_plan` set y, bar and tooltip.
struct AgainstMemory {
  std::string title, axis;
  std::function<void(const Quality&, ChartPoint*)> of_full;
  std::function<void(const EvalPlan&, ChartPoint*)> of_plan;

  Chart Make(const EvalReport& report) const {
    Chart chart = MemoryChart(title, axis);
    chart.legend = false;
    const auto add = [&](const std::string& label, const Quality& quality, bool reference) {
      ChartPoint point = MemoryPoint(label, static_cast<double>(quality.bytes_per_token));
      point.label = label;
      chart.series.push_back(
          {.name = label, .points = {point}, .line = false, .reference = reference});
      return &chart.series.back().points[0];
    };
    for (const EvalPlan& plan : report.plans) {
      of_plan(plan, add(plan.label, plan.quality, false));
    }
    of_full(report.uncompressed, add("uncompressed", report.uncompressed, true));
    chart.baseline = chart.series.back().points[0].y;
    return chart;
  }
};

// Where a plan breaks the model, changes of a percent would not be seen on a linear axis.
Chart PerplexityChart(const EvalReport& report) {
  double largest = 0;
  for (const EvalPlan& plan : report.plans) {
    largest = std::max(largest, plan.change.perplexity.value);
  }
  const bool logarithmic = largest > 1;
  const double offset = logarithmic ? 1 : 0;
  Chart chart = AgainstMemory{
      "Perplexity against memory", "change of perplexity",
      [&](const Quality& full, ChartPoint* point) {
        point->y = offset;
        absl::StrAppend(&point->tooltip, "\nperplexity ", Nats(full.evaluation.perplexity));
      },
      [&](const EvalPlan& plan, ChartPoint* point) {
        const Estimate& change = plan.change.perplexity;
        point->y = offset + change.value;
        SetBar(change.interval, offset, point);
        absl::StrAppend(&point->tooltip, "\nperplexity ", Nats(plan.quality.evaluation.perplexity),
                        ", ", Percent(change.value), "\n95 %: ", PercentInterval(change));
      }}.Make(report);
  if (logarithmic) chart.y.scale = AxisScale::kLog;
  chart.y.format = [offset](double value) { return PlainPercent(value - offset); };
  return chart;
}

Chart RecallChart(const EvalReport& report) {
  return AgainstMemory{
      "Recall against memory", "recall, nats (less is better)",
      [](const Quality& full, ChartPoint* point) {
        point->y = full.evaluation.recall;
        absl::StrAppend(&point->tooltip, "\nrecall ", Nats(point->y), " nats");
      },
      [](const EvalPlan& plan, ChartPoint* point) {
        point->y = plan.quality.evaluation.recall;
        SetBar(plan.change.recall->interval, point->y - plan.change.recall->value, point);
        absl::StrAppend(&point->tooltip, "\nrecall ", Nats(point->y),
                        " nats\nchange, 95 %: ", NatsInterval(*plan.change.recall));
      }}
      .Make(report);
}

Chart AccuracyChart(const EvalReport& report) {
  Chart chart = AgainstMemory{
      "Multiple choice against memory", "accuracy",
      [](const Quality& full, ChartPoint* point) {
        point->y = AccuracyOf(*full.choices).accuracy.value;
        absl::StrAppend(&point->tooltip, "\naccuracy ", Share(point->y));
      },
      [](const EvalPlan& plan, ChartPoint* point) {
        point->y = AccuracyOf(*plan.quality.choices).accuracy.value;
        const Estimate& change = *plan.change.accuracy;
        SetBar(change.interval, point->y - change.value, point);
        absl::StrAppend(&point->tooltip, "\naccuracy ", Share(point->y),
                        "\nchange, 95 %: ", PercentInterval(change), "\nsame picks ",
                        Share(plan.change.same_pick->value));
      }}.Make(report);
  chart.y.format = PlainPercent;
  return chart;
}

Chart AgreementChart(const EvalReport& report) {
  const auto set = [](const Agreement& agreement, ChartPoint* point) {
    point->y = agreement.same_choice_share;
    absl::StrAppend(&point->tooltip, "\nsame choice ", Share(point->y), "\nidentical ",
                    Share(agreement.identical), "\n",
                    absl::StrFormat("common prefix %.1f tokens", agreement.mean_common_prefix));
  };
  Chart chart = AgainstMemory{
      "Agreement against memory", "tokens chosen alike",
      [&](const Quality& full, ChartPoint* point) { set(*full.agreement, point); },
      [&](const EvalPlan& plan, ChartPoint* point) {
        set(*plan.quality.agreement, point);
      }}.Make(report);
  chart.y.format = PlainPercent;
  return chart;
}

Chart PositionChart(const EvalReport& report) {
  Chart chart;
  chart.title = "Loss by position";
  chart.x.title = "eighth of the window";
  chart.x.format = [](double value) {
    return value == std::round(value) ? absl::StrFormat("%.0f", value) : std::string();
  };
  const auto add = [&](const std::string& label, const std::vector<double>& nats, bool reference) {
    ChartSeries series = {.name = label, .points = {}, .reference = reference};
    for (size_t i = 0; i < nats.size(); ++i) {
      ChartPoint point;
      point.x = static_cast<double>(i + 1);
      point.y = nats[i];
      point.tooltip = absl::StrCat(label, "\neighth ", i + 1, "\n",
                                   reference ? absl::StrFormat("%.4f nats", nats[i])
                                             : absl::StrFormat("%+.4f nats", nats[i]));
      series.points.push_back(std::move(point));
    }
    chart.series.push_back(std::move(series));
  };
  if (report.plans.empty()) {
    chart.y.title = "loss, nats per token";
    add("uncompressed", report.uncompressed.evaluation.position_nll, true);
  } else {
    chart.y.title = "loss beyond uncompressed, nats per token";
    chart.baseline = 0;
    for (const EvalPlan& plan : report.plans) add(plan.label, plan.change.position_nll, false);
  }
  return chart;
}

Chart DistanceChart(const EvalReport& report) {
  Chart chart;
  chart.title = "Recall by distance";
  chart.x.title = "tokens between the two copies' beginnings";
  chart.x.scale = AxisScale::kLog;
  chart.x.format = WithThousands;
  chart.y.title = "recall, nats (less is better)";
  const auto add = [&](const std::string& label, const Quality& quality,
                       const QualityChange* change) {
    ChartSeries series = {.name = label, .points = {}, .reference = change == nullptr};
    for (size_t i = 0; i < quality.distances.size(); ++i) {
      const DistanceRecall& at = quality.distances[i];
      ChartPoint point;
      point.x = at.distance;
      point.y = at.nll;
      point.tooltip = absl::StrCat(label, "\ndistance ", at.distance, "\nrecall ", Nats(at.nll));
      if (change != nullptr) {
        const Estimate& estimate = change->distances[i];
        SetBar(estimate.interval, at.nll - estimate.value, &point);
        absl::StrAppend(&point.tooltip, "\nchange, 95 %: ", NatsInterval(estimate));
      }
      series.points.push_back(std::move(point));
    }
    std::sort(series.points.begin(), series.points.end(),
              [](const ChartPoint& a, const ChartPoint& b) { return a.x < b.x; });
    chart.series.push_back(std::move(series));
  };
  for (const EvalPlan& plan : report.plans) add(plan.label, plan.quality, &plan.change);
  add("uncompressed", report.uncompressed, nullptr);
  return chart;
}

// A table with a row for the uncompressed model and one per plan; `row` gets no change for the
// former.
void AddRows(
    const EvalReport& report, std::vector<std::string> header,
    const std::function<std::vector<std::string>(const Quality&, const QualityChange*)>& row,
    HtmlPage& page) {
  header.insert(header.begin(), "cache");
  std::vector<std::vector<std::string>> rows;
  const auto add = [&](const std::string& label, const Quality& quality,
                       const QualityChange* change) {
    rows.push_back(row(quality, change));
    rows.back().insert(rows.back().begin(), label);
  };
  add("uncompressed", report.uncompressed, nullptr);
  for (const EvalPlan& plan : report.plans) add(plan.label, plan.quality, &plan.change);
  page.AddTable(header, rows);
}

void AddNumbers(const EvalReport& report, HtmlPage& page) {
  const Quality& full = report.uncompressed;
  std::vector<std::string> header = {"bytes per token", "saved", "perplexity", "change", "95 %"};
  const bool recall = full.evaluation.num_recall_passages > 0;
  if (recall) header.insert(header.end(), {"recall", "change, 95 %"});
  const auto cells = [&](const Quality& quality, const QualityChange* change) {
    const auto bytes = static_cast<double>(quality.bytes_per_token);
    std::vector<std::string> row = {
        WithThousands(bytes),
        change == nullptr ? "" : Share(1 - bytes / static_cast<double>(full.bytes_per_token)),
        Nats(quality.evaluation.perplexity),
        change == nullptr ? "" : Percent(change->perplexity.value),
        change == nullptr ? "" : PercentInterval(change->perplexity)};
    if (recall) {
      row.push_back(Nats(quality.evaluation.recall));
      row.push_back(change == nullptr ? "" : NatsInterval(*change->recall));
    }
    return row;
  };
  AddRows(report, header, cells, page);
}

void AddDistances(const EvalReport& report, HtmlPage& page) {
  std::vector<std::string> header;
  for (const DistanceRecall& at : report.uncompressed.distances) {
    header.push_back(absl::StrCat("recall at ", WithThousands(at.distance)));
    header.emplace_back("change, 95 %");
  }
  if (header.empty()) return;
  const auto cells = [](const Quality& quality, const QualityChange* change) {
    std::vector<std::string> row;
    for (size_t i = 0; i < quality.distances.size(); ++i) {
      row.push_back(Nats(quality.distances[i].nll));
      row.push_back(change == nullptr ? "" : NatsInterval(change->distances[i]));
    }
    return row;
  };
  AddRows(report, header, cells, page);
}

void AddAnswers(const EvalReport& report, HtmlPage& page) {
  const Quality& full = report.uncompressed;
  std::vector<std::string> header;
  if (full.choices.has_value()) {
    header = {"accuracy", "change, 95 %", "normalised", "change, 95 %", "same picks"};
  }
  if (full.agreement.has_value()) {
    header.insert(header.end(), {"identical", "common prefix", "same choice"});
  }
  if (header.empty()) return;
  page.AddHeading("Answers");
  const auto cells = [](const Quality& quality, const QualityChange* change) {
    std::vector<std::string> row;
    if (quality.choices.has_value()) {
      const ChoiceAccuracy accuracy = AccuracyOf(*quality.choices);
      row = {Share(accuracy.accuracy.value),
             change == nullptr ? "" : PercentInterval(*change->accuracy),
             Share(accuracy.normalised.value),
             change == nullptr ? "" : PercentInterval(*change->normalised_accuracy),
             change == nullptr ? "" : Share(change->same_pick->value)};
    }
    if (quality.agreement.has_value()) {
      row.push_back(Share(quality.agreement->identical));
      row.push_back(absl::StrFormat("%.1f tokens", quality.agreement->mean_common_prefix));
      row.push_back(Share(quality.agreement->same_choice_share));
    }
    return row;
  };
  AddRows(report, header, cells, page);
}

void AddDefinitions(const EvalReport& report, HtmlPage& page) {
  const Quality& full = report.uncompressed;
  page.AddParagraph(absl::StrCat(
      "Perplexity: ", full.evaluation.num_windows, " windows of ", WithThousands(report.window),
      " tokens. Intervals hold 95 %: Student's, of differences to the uncompressed model on the "
      "same windows and passages."));
  if (full.evaluation.num_recall_passages > 0) {
    page.AddParagraph(absl::StrCat(
        "Recall: negative log-likelihood of the second copy of a passage, other text in between; ",
        full.evaluation.num_recall_passages,
        " passages. It shows what the far cache still knows, "
        "which perplexity hides."));
  }
  if (full.choices.has_value()) {
    page.AddParagraph(absl::StrCat(
        "Multiple choice: ", full.choices->answers.size(),
        " questions; the choice of the highest log-likelihood counts, normalised: per byte."));
  }
  if (full.agreement.has_value()) {
    page.AddParagraph(absl::StrCat(
        "Agreement: ", full.agreement->same_choice.size(), " greedy continuations of ",
        full.agreement->num_tokens,
        " tokens by the uncompressed model. Same choice: tokens that the plan would have chosen "
        "too, given all before; common prefix: tokens before the first that differs."));
  }
  for (const EvalPlan& plan : report.plans) {
    page.AddParagraph(
        absl::StrCat(plan.label, ": ", plan.name, " (", plan.path, "), ",
                     WithThousands(static_cast<double>(plan.quality.exact_bytes_per_sequence)),
                     " exact bytes per sequence"));
  }
}

}  // namespace

std::string EvalPage(const EvalReport& report) {
  const Quality& full = report.uncompressed;
  HtmlPage page(
      absl::StrCat("KV plans of ", report.model),
      absl::StrCat(report.text, ", ", report.weights, " weights, ", full.evaluation.num_windows,
                   " windows of ", WithThousands(report.window), " tokens"));
  std::vector<HtmlFigure> memory;
  const auto against = [&](const Chart& chart, const char* caption) {
    memory.push_back({SvgChart(chart), caption});
  };
  if (!report.plans.empty()) {
    against(PerplexityChart(report), "Lower and further left is better. Bars: 95 % intervals.");
    if (full.evaluation.num_recall_passages > 0) {
      against(RecallChart(report), "What the far cache still knows; dashed: uncompressed.");
    }
    if (full.choices.has_value()) {
      against(AccuracyChart(report), "Bars: 95 % intervals of the change.");
    }
    if (full.agreement.has_value()) {
      against(AgreementChart(report), "With the uncompressed model's own continuations.");
    }
    page.AddFigures(memory);
  }
  page.AddHeading("Numbers");
  AddNumbers(report, page);
  AddAnswers(report, page);
  page.AddHeading("Where in the context");
  std::vector<HtmlFigure> context = {
      {SvgChart(PositionChart(report)),
       "A loss that grows with the position would say that the cache degrades with length."}};
  if (!full.distances.empty()) {
    context.push_back({SvgChart(DistanceChart(report)),
                       absl::StrCat("The same ", full.distances[0].passage_nll.size(),
                                    " passages at every distance.")});
  }
  page.AddFigures(context);
  AddDistances(report, page);
  page.AddHeading("What the figures mean");
  AddDefinitions(report, page);
  return page.ToString();
}

}  // namespace lorc
