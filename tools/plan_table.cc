#include "tools/plan_table.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/terminal.h"

namespace lorc {
namespace {

// 192 of 192 numbers for a full layout, else what the basis keeps.
int64_t Rank(const TensorPlan& tensor) { return int64_t{tensor.groups} * tensor.rank; }

int64_t FullWidth(const TensorPlan& tensor) {
  if (tensor.encoder.empty()) return Rank(tensor);
  return std::ssize(tensor.encoder) / tensor.rank;
}

std::string Share(double value) {
  return value > 0 ? absl::StrFormat("%.1f %%", 100 * value) : "-";
}

std::string Spectrum(const TensorFacts& facts) {
  if (facts.singular_values.empty() || facts.singular_values.front() <= 0) return "-";
  // The middle and the last of the nine, relative to the first.
  const auto& s = facts.singular_values;
  return absl::StrFormat("%.3f %.4f", s[s.size() / 2] / s.front(), s.back() / s.front());
}

// "32 int8 + 64 int4": numbers of each type, over all groups.
std::string Types(const TensorPlan& tensor) {
  std::string types;
  for (const SegmentType type : kSegmentTypes) {
    int64_t width = 0;
    for (const CacheSegment& segment : tensor.segments) {
      if (segment.type == type) width += segment.width;
    }
    if (width == 0) continue;
    absl::StrAppend(&types, types.empty() ? "" : " + ", tensor.groups * width, " ", Name(type));
  }
  return types;
}

void AddTensor(const TensorPlan& tensor, std::vector<std::string>* row) {
  const TensorFacts& facts = tensor.facts;
  row->push_back(Name(tensor.layout));
  row->push_back(absl::StrCat(Rank(tensor)));
  row->push_back(Share(static_cast<double>(Rank(tensor)) / static_cast<double>(FullWidth(tensor))));
  row->push_back(Share(facts.kept_energy));
  row->push_back(facts.condition_number > 0 ? absl::StrFormat("%.1f", facts.condition_number)
                                            : "-");
  row->push_back(facts.effective_rank > 0 ? absl::StrFormat("%.3f", facts.effective_rank) : "-");
  row->push_back(Spectrum(facts));
  row->push_back(Types(tensor));
  row->push_back(absl::StrCat(tensor.BytesPerToken()));
}

}  // namespace

std::string PlanTable(const KvPlan& plan) {
  Table table({"layer", "K layout", "rank", "kept", "energy", "cond(W)", "eff.rank", "s_mid s_min",
               "types", "B/token", "V layout", "rank", "kept", "energy", "cond(W)", "eff.rank",
               "s_mid s_min", "types", "B/token"});
  int64_t kept = 0;
  int64_t full = 0;
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const LayerPlan& layer = plan.layers[i];
    std::vector<std::string> row = {absl::StrCat(i)};
    AddTensor(layer.key, &row);
    AddTensor(layer.value, &row);
    table.Add(std::move(row));
    kept += Rank(layer.key) + Rank(layer.value);
    full += FullWidth(layer.key) + FullWidth(layer.value);
  }
  std::string out = table.ToString();
  absl::StrAppend(
      &out,
      "cond(W): largest over smallest singular value of the weight; eff.rank: normalised effective "
      "rank; s_mid s_min: singular values relative to the largest\n");
  absl::StrAppendFormat(
      &out,
      "method %s, %d of %d ranks kept (%.1f %%), anchor %d, exact prefix %d and window %d tokens\n",
      plan.method, kept, full, 100.0 * static_cast<double>(kept) / static_cast<double>(full),
      plan.anchor, plan.exact_prefix, plan.exact_window);
  const int64_t full_bytes = 2 * full;
  absl::StrAppendFormat(
      &out, "%d bytes per token of %d (%.1f %%)\n", plan.BytesPerToken(), full_bytes,
      100.0 * static_cast<double>(plan.BytesPerToken()) / static_cast<double>(full_bytes));
  return out;
}

}  // namespace lorc
