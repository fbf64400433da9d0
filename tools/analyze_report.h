// What `lorc analyze` says: layers and texts side by side, as tables, as JSON and as a page
// (analyze_page.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/compress/analyze.h"

namespace lorc {

struct AnalyzeReport {
  std::string model;        // its name
  std::string weights;      // the type that truncated models ran in
  AnalysisRequest request;  // what was asked for; its texts may be gone
  Analysis analysis;
};

// A line per layer, a line per text, what correlates.
std::string AnalyzeTable(const AnalyzeReport& report);

// One object. Numbers that are infinite are null; intervals are [low, high], 95 %.
std::string AnalyzeJson(const AnalyzeReport& report);

inline constexpr std::string_view kNdPplDefinition =
    "(perplexity truncated - perplexity uncompressed) / perplexity uncompressed, every layer's "
    "keys "
    "and values projected to their leading kv-core directions in float32; our definition, since "
    "KV-CoRE's formula is not known to us";

// The tensors whose spectra are known.
struct NamedTensor {
  const char* key;   // in JSON
  const char* name;  // for people
  TensorSpectrum LayerSpectrum::*spectrum;
};
inline constexpr NamedTensor kTensors[] = {
    {"keys", "keys before RoPE", &LayerSpectrum::keys},
    {"rotated_keys", "keys after RoPE", &LayerSpectrum::rotated_keys},
    {"values", "values", &LayerSpectrum::values},
};

// Over layers.
double MeanNer(const TextAnalysis& text, TensorSpectrum LayerSpectrum::*tensor);

// "Spearman +0.81, Pearson +0.74 over 30 layers", or why there is none.
std::string Describe(const Correlation& correlation, std::string_view points);

// The same for all texts, a sentence per level, or one where texts are too few; none of one text.
std::vector<std::string> DescribeTexts(const AnalyzeReport& report);

// "+12.3 %" of 0.123.
std::string PercentChange(double share);

}  // namespace lorc
