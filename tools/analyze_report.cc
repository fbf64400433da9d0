#include "tools/analyze_report.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/terminal.h"

namespace lorc {
namespace {

using nlohmann::json;

std::string Condition(double value) {
  return std::isfinite(value) ? absl::StrFormat("%.1f", value) : "+inf";
}

std::string Level(double share) { return absl::StrCat(absl::SixDigits(100 * share), " %"); }

// "K 2": of the second text; "K" where there is one.
std::string Column(const std::string& name, size_t text, size_t num_texts) {
  return num_texts == 1 ? name : absl::StrCat(name, " ", text + 1);
}

std::string LayerTable(const AnalyzeReport& report) {
  const std::vector<TextAnalysis>& texts = report.analysis.texts;
  const bool losses = !texts[0].losses.empty();
  const bool truncated = !texts[0].layer_truncations.empty();
  const auto half = static_cast<size_t>(report.analysis.kv_width / 2);
  std::vector<std::string> header = {"layer", "cond(W_k)", "cond(W_v)", "ln cum."};
  const auto add_columns = [&](const std::string& name) {
    for (size_t i = 0; i < texts.size(); ++i) header.push_back(Column(name, i, texts.size()));
  };
  for (const char* name : {"NER K", "rot. K", "V"}) add_columns(name);
  if (losses) {
    for (const char* name : {"loss K", "loss V"}) add_columns(name);
  }
  if (truncated) add_columns("ND-PPL");
  Table table(header);
  for (size_t l = 0; l < report.analysis.conditions.size(); ++l) {
    const LayerConditions& conditions = report.analysis.conditions[l];
    std::vector<std::string> row = {absl::StrCat(l), Condition(conditions.key),
                                    Condition(conditions.value),
                                    std::isfinite(conditions.cumulative_log)
                                        ? absl::StrFormat("%.2f", conditions.cumulative_log)
                                        : "+inf"};
    for (const NamedTensor& tensor : kTensors) {
      for (const TextAnalysis& text : texts) {
        row.push_back(
            absl::StrFormat("%.3f", (text.layers[l].*tensor.spectrum).normalised_effective_rank()));
      }
    }
    if (losses) {
      for (const auto of : {&LayerLoss::keys, &LayerLoss::values}) {
        for (const TextAnalysis& text : texts) {
          row.push_back(absl::StrFormat("%.1e", (text.losses[l].*of)[half]));
        }
      }
    }
    if (truncated) {
      for (const TextAnalysis& text : texts) {
        row.push_back(PercentChange(text.layer_truncations[l].nd_ppl.value));
      }
    }
    table.Add(std::move(row));
  }
  return table.ToString();
}

std::string TextTable(const AnalyzeReport& report) {
  const std::vector<TextAnalysis>& texts = report.analysis.texts;
  std::vector<std::string> header = {"", "text", "tokens", "NER K", "rot. K", "V"};
  if (texts[0].perplexity > 0) header.emplace_back("perplexity");
  for (const Truncation& truncation : texts[0].truncations) {
    header.push_back(absl::StrCat("ND-PPL ", Level(truncation.level)));
  }
  Table table(header);
  for (size_t i = 0; i < texts.size(); ++i) {
    const TextAnalysis& text = texts[i];
    std::vector<std::string> row = {absl::StrCat(i + 1), text.name,
                                    absl::StrCat(text.num_statistics_tokens)};
    for (const NamedTensor& tensor : kTensors) {
      row.push_back(absl::StrFormat("%.3f", MeanNer(text, tensor.spectrum)));
    }
    if (text.perplexity > 0) row.push_back(absl::StrFormat("%.3f", text.perplexity));
    for (const Truncation& truncation : text.truncations) {
      row.push_back(PercentChange(truncation.nd_ppl.value));
    }
    table.Add(std::move(row));
  }
  return table.ToString();
}

std::string Notes(const AnalyzeReport& report) {
  const Analysis& analysis = report.analysis;
  std::string out =
      absl::StrCat("NER: normalised effective rank of K before RoPE, K rotated inside chunks of ",
                   report.request.anchor, " tokens, and V; 1: all ", analysis.kv_width,
                   " numbers matter alike, lower: more compressible\n");
  if (!analysis.texts[0].losses.empty()) {
    absl::StrAppend(&out,
                    "loss: predicted, nats per token, where the best half of the numbers is "
                    "kept of tokens beyond the first ",
                    report.request.exact_prefix, " and the latest ", report.request.exact_window,
                    "\n");
  }
  if (report.request.per_layer.has_value()) {
    absl::StrAppend(&out, "ND-PPL of a layer: that layer alone truncated to ",
                    Level(*report.request.per_layer), "\n");
  }
  if (analysis.texts[0].perplexity > 0) {
    absl::StrAppend(&out,
                    "ND-PPL: ", absl::string_view(kNdPplDefinition.data(), kNdPplDefinition.size()),
                    "\n");
  }
  for (const std::string& sentence : DescribeTexts(report)) absl::StrAppend(&out, sentence, "\n");
  for (const TextAnalysis& text : analysis.texts) {
    if (!text.layer_correlation.has_value()) continue;
    absl::StrAppend(&out, "NER and ND-PPL of single layers, ", text.name, ": ",
                    Describe(*text.layer_correlation, "layers"), "\n");
  }
  return out;
}

json ToJson(const TensorSpectrum& spectrum) {
  json ranks = json::object();
  for (size_t i = 0; i < kEnergyShares.size(); ++i) {
    ranks[absl::StrCat(absl::SixDigits(kEnergyShares[i]))] = spectrum.energy_ranks[i];
  }
  return {{"effective_rank", spectrum.effective_rank},
          {"normalised_effective_rank", spectrum.normalised_effective_rank()},
          {"energy_ranks", std::move(ranks)},
          {"singular_values", spectrum.singular_values}};
}

json ToJson(const Truncation& truncation) {
  json out = {{"level", truncation.level},
              {"rank", truncation.rank},
              {"perplexity", truncation.perplexity},
              {"nd_ppl", truncation.nd_ppl.value}};
  if (const auto& interval = truncation.nd_ppl.interval; interval.has_value()) {
    out["nd_ppl_interval"] = {interval->low, interval->high};
  }
  return out;
}

json ToJson(const Correlation& correlation) {
  json out = {{"points", correlation.num_points}, {"pearson", nullptr}, {"spearman", nullptr}};
  if (correlation.pearson.has_value()) out["pearson"] = *correlation.pearson;
  if (correlation.spearman.has_value()) out["spearman"] = *correlation.spearman;
  return out;
}

json ToJson(const TextAnalysis& text) {
  json layers = json::array();
  for (size_t l = 0; l < text.layers.size(); ++l) {
    json layer = json::object();
    for (const NamedTensor& tensor : kTensors) {
      layer[tensor.key] = ToJson(text.layers[l].*tensor.spectrum);
    }
    if (!text.losses.empty()) {
      layer["predicted_loss"] = {{"keys", text.losses[l].keys}, {"values", text.losses[l].values}};
    }
    if (!text.layer_truncations.empty()) layer["truncation"] = ToJson(text.layer_truncations[l]);
    layers.push_back(std::move(layer));
  }
  json out = {{"name", text.name},
              {"statistics_tokens", text.num_statistics_tokens},
              {"layers", std::move(layers)}};
  if (text.perplexity > 0) {
    out["measured_tokens"] = text.num_measured_tokens;
    out["perplexity"] = text.perplexity;
    out["truncations"] = json::array();
    for (const Truncation& truncation : text.truncations) {
      out["truncations"].push_back(ToJson(truncation));
    }
  }
  if (text.layer_correlation.has_value()) {
    out["layer_correlation"] = ToJson(*text.layer_correlation);
  }
  return out;
}

}  // namespace

std::string AnalyzeTable(const AnalyzeReport& report) {
  return absl::StrCat(LayerTable(report), "\n", TextTable(report), "\n", Notes(report));
}

std::string AnalyzeJson(const AnalyzeReport& report) {
  const Analysis& analysis = report.analysis;
  json conditions = json::array();
  for (const LayerConditions& layer : analysis.conditions) {
    conditions.push_back(
        {{"key", layer.key}, {"value", layer.value}, {"cumulative_log", layer.cumulative_log}});
  }
  json texts = json::array();
  for (const TextAnalysis& text : analysis.texts) texts.push_back(ToJson(text));
  json correlations = json::array();
  for (size_t i = 0; i < analysis.text_correlations.size(); ++i) {
    correlations.push_back(ToJson(analysis.text_correlations[i]));
    correlations.back()["level"] = report.request.levels[i];
  }
  const json out = {{"model", report.model},
                    {"weights", report.weights},
                    {"kv_width", analysis.kv_width},
                    {"window", report.request.window},
                    {"anchor", report.request.anchor},
                    {"truncated_keys", Name(report.request.keys)},
                    {"nd_ppl_definition", kNdPplDefinition},
                    {"conditions", std::move(conditions)},
                    {"texts", std::move(texts)},
                    {"text_correlations", std::move(correlations)}};
  return out.dump(2, ' ', false, json::error_handler_t::replace);
}

double MeanNer(const TextAnalysis& text, TensorSpectrum LayerSpectrum::*tensor) {
  double sum = 0;
  for (const LayerSpectrum& layer : text.layers) {
    sum += (layer.*tensor).normalised_effective_rank();
  }
  return sum / static_cast<double>(text.layers.size());
}

std::string Describe(const Correlation& correlation, std::string_view points) {
  const absl::string_view of(points.data(), points.size());
  if (correlation.num_points < kLeastCorrelationPoints) {
    return absl::StrCat("no correlation of ", correlation.num_points, " ", of, "; ",
                        kLeastCorrelationPoints, " are needed to tell one from chance");
  }
  if (!correlation.spearman.has_value()) return absl::StrCat("the same for all ", of);
  return absl::StrFormat("Spearman %+.2f, Pearson %+.2f over %d %s", *correlation.spearman,
                         *correlation.pearson, correlation.num_points, of);
}

std::vector<std::string> DescribeTexts(const AnalyzeReport& report) {
  const std::vector<Correlation>& correlations = report.analysis.text_correlations;
  if (report.analysis.texts.size() < 2 || correlations.empty()) return {};
  if (report.analysis.texts.size() < kLeastCorrelationPoints) {
    return {absl::StrCat("NER and ND-PPL: ", Describe(correlations[0], "texts"))};
  }
  std::vector<std::string> sentences;
  for (size_t i = 0; i < correlations.size(); ++i) {
    sentences.push_back(absl::StrCat("NER and ND-PPL at ", Level(report.request.levels[i]), ": ",
                                     Describe(correlations[i], "texts")));
  }
  return sentences;
}

std::string PercentChange(double share) {
  const double percent = 100 * share;
  if (!std::isfinite(percent)) return "+inf %";
  const int decimals = std::abs(percent) < 10 ? 2 : std::abs(percent) < 1000 ? 1 : 0;
  return absl::StrFormat("%+.*f %%", decimals, percent);
}

}  // namespace lorc
