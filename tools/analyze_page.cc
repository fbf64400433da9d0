#include "tools/analyze_page.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/report/heat_map.h"
#include "tools/report/html_page.h"
#include "tools/report/number_text.h"
#include "tools/report/svg_chart.h"

namespace lorc {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();  // is not drawn

std::string PowerOfTen(double exponent) {
  return absl::StrFormat("%.3g", std::pow(10.0, exponent));
}

ChartSeries Series(const std::string& name) {
  ChartSeries series;
  series.name = name;
  return series;
}

ChartPoint Point(double x, double y, const std::string& tooltip = "") {
  ChartPoint point;
  point.x = x;
  point.y = y;
  point.tooltip = tooltip;
  return point;
}

// A line per text, of a number per layer.
Chart ByLayer(const AnalyzeReport& report, const std::string& title, const std::string& y_title,
              const std::function<double(const TextAnalysis&, size_t layer)>& value) {
  Chart chart;
  chart.title = title;
  chart.x.title = "layer";
  chart.y.title = y_title;
  for (const TextAnalysis& text : report.analysis.texts) {
    ChartSeries series = Series(text.name);
    for (size_t l = 0; l < text.layers.size(); ++l) {
      const double y = value(text, l);
      series.points.push_back(
          Point(static_cast<double>(l), y, absl::StrFormat("%s\nlayer %d: %.4g", text.name, l, y)));
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

void AddTexts(const AnalyzeReport& report, HtmlPage* page) {
  const std::vector<TextAnalysis>& texts = report.analysis.texts;
  std::vector<std::string> header = {"text", "tokens"};
  for (const NamedTensor& tensor : kTensors) header.push_back(absl::StrCat("NER, ", tensor.name));
  if (texts[0].perplexity > 0) header.emplace_back("perplexity");
  for (const Truncation& truncation : texts[0].truncations) {
    header.push_back(absl::StrCat("ND-PPL at ", PlainPercent(truncation.level)));
  }
  std::vector<std::vector<std::string>> rows;
  for (const TextAnalysis& text : texts) {
    std::vector<std::string> row = {text.name,
                                    WithThousands(static_cast<double>(text.num_statistics_tokens))};
    for (const NamedTensor& tensor : kTensors) {
      row.push_back(absl::StrFormat("%.3f", MeanNer(text, tensor.spectrum)));
    }
    if (text.perplexity > 0) row.push_back(absl::StrFormat("%.3f", text.perplexity));
    for (const Truncation& truncation : text.truncations) {
      row.push_back(PercentChange(truncation.nd_ppl.value));
    }
    rows.push_back(std::move(row));
  }
  page->AddTable(header, rows);
}

// The geometric mean over layers of s_i / s_0.
Chart MeanSpectra(const AnalyzeReport& report) {
  Chart chart;
  chart.title = "Spectra, mean over layers";
  chart.x.title = "direction";
  chart.y.title = "singular value, share of the largest";
  chart.y.scale = AxisScale::kLog;
  for (const TextAnalysis& text : report.analysis.texts) {
    for (const NamedTensor& tensor : kTensors) {
      ChartSeries series;
      series.name = report.analysis.texts.size() == 1 ? tensor.name
                                                      : absl::StrCat(tensor.name, ", ", text.name);
      series.markers = false;
      for (int64_t i = 0; i < report.analysis.kv_width; ++i) {
        double logs = 0;
        for (const LayerSpectrum& layer : text.layers) {
          const std::vector<double>& s = (layer.*tensor.spectrum).singular_values;
          logs += std::log(s[i] / s[0]);
        }
        series.points.push_back(Point(static_cast<double>(i),
                                      std::exp(logs / static_cast<double>(text.layers.size()))));
      }
      chart.series.push_back(std::move(series));
    }
  }
  return chart;
}

void AddEffectiveRanks(const AnalyzeReport& report, HtmlPage* page) {
  page->AddHeading("Normalised effective rank");
  page->AddParagraph(
      absl::StrCat("exp(entropy) of the singular values of a layer's keys or values over the text, "
                   "divided by their number, ",
                   report.analysis.kv_width,
                   ": 1 where every direction matters alike, less where few do and more can be "
                   "left out. The dashed line is the mean over layers and texts."));
  double least = 1, most = 0;
  for (const TextAnalysis& text : report.analysis.texts) {
    for (const LayerSpectrum& layer : text.layers) {
      for (const NamedTensor& tensor : kTensors) {
        least = std::min(least, (layer.*tensor.spectrum).normalised_effective_rank());
        most = std::max(most, (layer.*tensor.spectrum).normalised_effective_rank());
      }
    }
  }
  const std::string captions[] = {
      "What a cache of rebuilt keys keeps.",
      report.request.anchor > 0
          ? absl::StrCat("Rotated by their position inside chunks of ", report.request.anchor,
                         " tokens: what a direct cache keeps.")
          : "Rotated by their position: what a direct cache keeps.",
      "Values are not rotated."};
  std::vector<HtmlFigure> figures;
  for (size_t i = 0; i < std::size(kTensors); ++i) {
    const NamedTensor& tensor = kTensors[i];
    Chart chart = ByLayer(report, absl::StrCat("Effective rank of ", tensor.name),
                          "normalised effective rank", [&](const TextAnalysis& text, size_t l) {
                            return (text.layers[l].*tensor.spectrum).normalised_effective_rank();
                          });
    double mean = 0;
    for (const TextAnalysis& text : report.analysis.texts) {
      mean += MeanNer(text, tensor.spectrum) / static_cast<double>(report.analysis.texts.size());
    }
    chart.baseline = mean;
    chart.y.from = least;
    chart.y.to = most;
    figures.push_back({SvgChart(chart), captions[i]});
  }
  figures.push_back({SvgChart(MeanSpectra(report)),
                     "Geometric mean over layers. The first directions are common to all tokens: "
                     "covariances are not centred."});
  page->AddFigures(figures);
}

HeatMap SpectrumMap(const TextAnalysis& text, const NamedTensor& tensor) {
  HeatMap map;
  map.title = absl::StrCat("Spectra of ", tensor.name, ": ", text.name);
  map.x_title = "direction";
  map.y_title = "layer";
  map.shade_title = "singular value, share of the layer's largest";
  map.from = -3;
  map.to = 0;
  map.format = PowerOfTen;
  for (size_t l = 0; l < text.layers.size(); ++l) {
    const TensorSpectrum& spectrum = text.layers[l].*tensor.spectrum;
    const std::vector<double>& s = spectrum.singular_values;
    std::vector<double> row;
    for (const double value : s) row.push_back(value > 0 ? std::log10(value / s[0]) : map.from);
    map.rows.push_back(std::move(row));
    std::string tooltip =
        absl::StrFormat("layer %d: effective rank %.1f", l, spectrum.effective_rank);
    for (size_t i = 0; i < kEnergyShares.size(); ++i) {
      absl::StrAppend(&tooltip, "\n", PlainPercent(kEnergyShares[i]), " of the energy in ",
                      spectrum.energy_ranks[i]);
    }
    map.tooltips.push_back(std::move(tooltip));
  }
  return map;
}

// By layer, of each tensor.
Chart EnergyRanks(const TextAnalysis& text) {
  constexpr size_t kShare = 1;
  Chart chart;
  chart.title = absl::StrCat("Directions that hold ", PlainPercent(kEnergyShares[kShare]),
                             " of the energy: ", text.name);
  chart.x.title = "layer";
  chart.y.title = "directions";
  for (const NamedTensor& tensor : kTensors) {
    ChartSeries series = Series(tensor.name);
    for (size_t l = 0; l < text.layers.size(); ++l) {
      const int32_t rank = (text.layers[l].*tensor.spectrum).energy_ranks[kShare];
      series.points.push_back(Point(static_cast<double>(l), rank,
                                    absl::StrCat(tensor.name, "\nlayer ", l, ": ", rank)));
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

void AddSpectra(const AnalyzeReport& report, HtmlPage* page) {
  page->AddHeading("Spectra");
  std::vector<HtmlFigure> figures;
  for (const TextAnalysis& text : report.analysis.texts) {
    for (const NamedTensor& tensor : kTensors) {
      figures.push_back({SvgHeatMap(SpectrumMap(text, tensor)),
                         "A row per layer; where it fades early, few directions suffice."});
    }
    figures.push_back({SvgChart(EnergyRanks(text)), "Keys and values, layer by layer."});
  }
  page->AddFigures(figures);
}

void AddConditions(const AnalyzeReport& report, HtmlPage* page) {
  page->AddHeading("Condition numbers of the weights");
  page->AddParagraph(
      "Largest over smallest singular value of W_k and W_v: how much more a layer amplifies one "
      "direction than another. LoRC keeps more of layers whose cumulative number is large, which "
      "are always the first ones; it does not look at any text.");
  Chart each, cumulative;
  each.title = "Condition numbers";
  cumulative.title = "LoRC's cumulative condition numbers";
  each.x.title = cumulative.x.title = "layer";
  each.y.title = "condition number";
  each.y.scale = AxisScale::kLog;
  cumulative.y.title = "natural logarithm, from this layer to the last";
  each.series = {Series("W_k"), Series("W_v")};
  cumulative.series = {Series("both")};
  for (size_t l = 0; l < report.analysis.conditions.size(); ++l) {
    const LayerConditions& layer = report.analysis.conditions[l];
    const auto add = [l](double y, ChartSeries* series) {
      series->points.push_back(Point(static_cast<double>(l), y,
                                     absl::StrFormat("%s\nlayer %d: %.4g", series->name, l, y)));
    };
    add(layer.key, &each.series[0]);
    add(layer.value, &each.series[1]);
    add(layer.cumulative_log, &cumulative.series[0]);
  }
  page->AddFigures({{SvgChart(each), "Of the weights alone."},
                    {SvgChart(cumulative),
                     "ln of the product of both numbers, summed over layers "
                     "from the last one backwards (LoRC, equation 12)."}});
}

// The losses of all layers together, each with the same share of its numbers.
Chart LossByShare(const AnalyzeReport& report) {
  Chart chart;
  chart.title = "Predicted loss by share kept, all layers";
  chart.x.title = "share of the numbers that each layer keeps";
  chart.x.format = PlainPercent;
  chart.y.title = "nats per token";
  chart.y.scale = AxisScale::kLog;
  const auto width = static_cast<size_t>(report.analysis.kv_width);
  for (const TextAnalysis& text : report.analysis.texts) {
    for (const auto& [name, of] :
         {std::pair("keys", &LayerLoss::keys), {"values", &LayerLoss::values}}) {
      ChartSeries series;
      series.name = report.analysis.texts.size() == 1 ? name : absl::StrCat(name, ", ", text.name);
      series.markers = false;
      for (size_t rank = 0; rank < width; ++rank) {
        double sum = 0;
        for (const LayerLoss& layer : text.losses) sum += (layer.*of)[rank];
        series.points.push_back(Point(static_cast<double>(rank) / static_cast<double>(width), sum));
      }
      chart.series.push_back(std::move(series));
    }
  }
  return chart;
}

HeatMap LossMap(const TextAnalysis& text, const char* name, std::vector<double> LayerLoss::*of) {
  HeatMap map;
  map.title = absl::StrCat("Predicted loss of ", name, ": ", text.name);
  map.x_title = "numbers kept";
  map.y_title = "layer";
  map.shade_title = "nats per token";
  map.from = -6;
  map.to = 0;
  map.format = PowerOfTen;
  for (size_t l = 0; l < text.losses.size(); ++l) {
    const std::vector<double>& curve = text.losses[l].*of;
    std::vector<double> row;
    for (size_t r = 0; r + 1 < curve.size(); ++r) {
      row.push_back(curve[r] > 0 ? std::log10(curve[r]) : kNothing);
    }
    map.rows.push_back(std::move(row));
    map.tooltips.push_back(
        absl::StrFormat("layer %d: %.4f nats where nothing is kept, %.5f where half is", l,
                        curve.front(), curve[curve.size() / 2]));
  }
  return map;
}

void AddLosses(const AnalyzeReport& report, HtmlPage* page) {
  if (report.analysis.texts[0].losses.empty()) return;
  page->AddHeading("Predicted loss");
  page->AddParagraph(absl::StrCat(
      "From the gradients of the loss (method loss): nats per token where a tensor keeps only its "
      "best numbers and the others are exact. It concerns tokens beyond the first ",
      report.request.exact_prefix, " and the latest ", report.request.exact_window,
      ", is of second order, and so right for small losses and an order of magnitude for large "
      "ones."));
  const auto half = static_cast<size_t>(report.analysis.kv_width / 2);
  Chart keys =
      ByLayer(report, "Keys: half of the numbers kept", "nats per token",
              [half](const TextAnalysis& text, size_t l) { return text.losses[l].keys[half]; });
  Chart values =
      ByLayer(report, "Values: half of the numbers kept", "nats per token",
              [half](const TextAnalysis& text, size_t l) { return text.losses[l].values[half]; });
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (const TextAnalysis& text : report.analysis.texts) {
    for (const LayerLoss& layer : text.losses) {
      least = std::min({least, layer.keys[half], layer.values[half]});
      most = std::max({most, layer.keys[half], layer.values[half]});
    }
  }
  for (Chart* chart : {&keys, &values}) {
    chart->y.scale = AxisScale::kLog;
    chart->y.from = least;
    chart->y.to = most;
  }
  std::vector<HtmlFigure> figures = {
      {SvgChart(LossByShare(report)), "Keys and values by themselves, in bases of their own."},
      {SvgChart(keys), "Which layers' keys need many numbers."},
      {SvgChart(values), "The same of values, on the same scale."}};
  for (const TextAnalysis& text : report.analysis.texts) {
    figures.push_back({SvgHeatMap(LossMap(text, "keys", &LayerLoss::keys)),
                       "Rows that stay strong are layers that need many numbers."});
    figures.push_back(
        {SvgHeatMap(LossMap(text, "values", &LayerLoss::values)), "The same of values."});
  }
  page->AddFigures(figures);
}

// Where truncation breaks the model, changes of a percent would not be seen on a linear axis: then
// it is of the ratio, 1 + ND-PPL.
void PutOnAxis(const std::vector<std::pair<ChartPoint*, const Truncation*>>& points, ChartAxis* y) {
  double most = 0;
  for (const auto& [point, truncation] : points) {
    most = std::max(most, truncation->nd_ppl.value);
  }
  const double offset = most > 1 ? 1 : 0;
  if (offset > 0) y->scale = AxisScale::kLog;
  y->format = [offset](double value) { return PlainPercent(value - offset); };
  y->title = "ND-PPL";
  for (const auto& [point, truncation] : points) {
    const Estimate& nd_ppl = truncation->nd_ppl;
    point->y = offset + nd_ppl.value;
    absl::StrAppend(&point->tooltip, "\nND-PPL ", PercentChange(nd_ppl.value), ", perplexity ",
                    absl::StrFormat("%.3f", truncation->perplexity));
    if (!nd_ppl.interval.has_value()) continue;
    point->low = offset + nd_ppl.interval->low;
    point->high = offset + nd_ppl.interval->high;
    absl::StrAppend(&point->tooltip, "\n95 %: ", PercentChange(nd_ppl.interval->low), " to ",
                    PercentChange(nd_ppl.interval->high));
  }
}

// A series per text, a point per truncation at x(text, index).
Chart OfTruncations(const AnalyzeReport& report, std::vector<Truncation> TextAnalysis::*of,
                    const std::function<double(const TextAnalysis&, size_t)>& x,
                    const std::function<std::string(size_t)>& name, bool line) {
  Chart chart;
  std::vector<std::pair<ChartPoint*, const Truncation*>> points;
  chart.series.resize(report.analysis.texts.size());
  for (size_t t = 0; t < report.analysis.texts.size(); ++t) {
    const TextAnalysis& text = report.analysis.texts[t];
    ChartSeries& series = chart.series[t];
    series.name = text.name;
    series.line = line;
    series.points.resize((text.*of).size());
    for (size_t i = 0; i < series.points.size(); ++i) {
      series.points[i].x = x(text, i);
      series.points[i].tooltip = absl::StrCat(text.name, "\n", name(i));
      points.emplace_back(&series.points[i], &(text.*of)[i]);
    }
  }
  PutOnAxis(points, &chart.y);
  chart.baseline = chart.y.scale == AxisScale::kLog ? 1 : 0;
  for (ChartSeries& series : chart.series) {
    if (!line) {  // bars of points in no order would hide them
      for (ChartPoint& point : series.points) point.low = point.high = std::nullopt;
      continue;
    }
    std::sort(series.points.begin(), series.points.end(),
              [](const ChartPoint& a, const ChartPoint& b) { return a.x < b.x; });
  }
  return chart;
}

void AddTruncations(const AnalyzeReport& report, HtmlPage* page) {
  const Analysis& analysis = report.analysis;
  const TextAnalysis& first = analysis.texts[0];
  if (first.perplexity <= 0) return;
  const bool direct = report.request.keys == KvLayoutKind::kDirect;
  page->AddHeading("What truncation costs: ND-PPL");
  page->AddParagraph(
      absl::StrCat("Normalised delta perplexity: ",
                   absl::string_view(kNdPplDefinition.data(), kNdPplDefinition.size()),
                   ". Keys are projected ", direct ? "after" : "before",
                   " RoPE, of every token; a plan that keeps the first and latest tokens "
                   "exact loses far less. Bars: 95 % intervals over the measured windows."));
  std::vector<HtmlFigure> figures;
  if (!first.truncations.empty()) {
    Chart chart = OfTruncations(
        report, &TextAnalysis::truncations,
        [](const TextAnalysis& text, size_t i) { return text.truncations[i].level; },
        [&](size_t i) { return PlainPercent(first.truncations[i].level) + " kept"; }, true);
    chart.title = "ND-PPL by share kept";
    chart.x.title = "share of the directions that every layer keeps";
    chart.x.format = PlainPercent;
    figures.push_back({SvgChart(chart), "All layers truncated alike, keys and values."});
  }
  if (!first.layer_truncations.empty()) {
    const std::string share = PlainPercent(*report.request.per_layer);
    const auto layer = [](size_t l) { return absl::StrCat("layer ", l); };
    Chart by_layer = OfTruncations(
        report, &TextAnalysis::layer_truncations,
        [](const TextAnalysis&, size_t l) { return static_cast<double>(l); }, layer, true);
    by_layer.title = absl::StrCat("ND-PPL of one layer truncated to ", share);
    by_layer.x.title = "layer";
    figures.push_back({SvgChart(by_layer), "The other layers keep their full cache."});
    Chart scatter = OfTruncations(
        report, &TextAnalysis::layer_truncations,
        [&](const TextAnalysis& text, size_t l) { return text.LayerNers(report.request.keys)[l]; },
        layer, false);
    scatter.title = "Does effective rank tell what truncation costs?";
    scatter.x.title = "normalised effective rank of the layer, mean of keys and values";
    std::string caption = "A point per layer.";
    for (const TextAnalysis& text : analysis.texts) {
      absl::StrAppend(&caption, " ", text.name, ": ", Describe(*text.layer_correlation, "layers"),
                      ".");
    }
    figures.push_back({SvgChart(scatter), caption});
  }
  page->AddFigures(figures);
  for (const std::string& sentence : DescribeTexts(report)) page->AddParagraph(sentence + ".");
}

void AddLayers(const AnalyzeReport& report, HtmlPage* page) {
  for (const TextAnalysis& text : report.analysis.texts) {
    page->AddHeading(absl::StrCat("Every layer: ", text.name));
    std::vector<std::string> header = {"layer"};
    for (const char* tensor : {"K", "K rotated", "V"}) {
      header.push_back(absl::StrCat(tensor, ": NER"));
      for (const double share : kEnergyShares) header.push_back(PlainPercent(share));
    }
    std::vector<std::vector<std::string>> rows;
    for (size_t l = 0; l < text.layers.size(); ++l) {
      std::vector<std::string> row = {absl::StrCat(l)};
      for (const NamedTensor& tensor : kTensors) {
        const TensorSpectrum& spectrum = text.layers[l].*tensor.spectrum;
        row.push_back(absl::StrFormat("%.3f", spectrum.normalised_effective_rank()));
        for (const int32_t rank : spectrum.energy_ranks) row.push_back(absl::StrCat(rank));
      }
      rows.push_back(std::move(row));
    }
    page->AddParagraph(absl::StrCat("Directions, of ", report.analysis.kv_width,
                                    ", that hold 90, 99 and 99.9 % of the energy."));
    page->AddTable(header, rows);
  }
}

}  // namespace

std::string AnalyzePage(const AnalyzeReport& report) {
  const Analysis& analysis = report.analysis;
  HtmlPage page(absl::StrCat("How compressible are the keys and values of ", report.model, "?"),
                absl::StrCat(analysis.conditions.size(), " layers, ", analysis.kv_width,
                             " numbers of keys and as many of values per layer and token. Made by "
                             "lorc analyze, KV-CoRE's and LoRC's instruments; ",
                             report.weights, " weights."));
  AddTexts(report, &page);
  AddEffectiveRanks(report, &page);
  AddSpectra(report, &page);
  AddTruncations(report, &page);
  AddLosses(report, &page);
  AddConditions(report, &page);
  AddLayers(report, &page);
  return page.ToString();
}

}  // namespace lorc
