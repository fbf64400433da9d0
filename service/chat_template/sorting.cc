#include "service/chat_template/sorting.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "service/chat_template/compare.h"

namespace lorc::jinja {

std::vector<int64_t> SortedPositions(RenderContext& context, const std::vector<Value>& keys,
                                     bool reverse) {
  const auto is_number = [](const Value& key) {
    return key.is_number() && !std::isnan(key.number());
  };
  const auto is_string = [](const Value& key) { return key.is_string(); };
  // What has no value is equal to itself.
  const auto is_missing = [](const Value& key) { return key.is_undefined(); };
  const auto is_none = [](const Value& key) { return key.is_none(); };
  const bool all_equal = std::all_of(keys.begin(), keys.end(), is_missing) ||
                         std::all_of(keys.begin(), keys.end(), is_none);
  if (!all_equal && !std::all_of(keys.begin(), keys.end(), is_number) &&
      !std::all_of(keys.begin(), keys.end(), is_string)) {
    context.Fail("only strings, or only numbers, can be sorted");
    return {};
  }
  // Paid in advance: an order that breaks off midway would be none.
  int64_t cost = 0;
  for (const Value& key : keys) {
    cost += 2 + (key.is_string() ? static_cast<int64_t>(key.string().size() / 512) : 0);
  }
  if (!context.Spend(cost * std::bit_width(keys.size()))) return {};
  std::vector<int64_t> positions(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) positions[i] = static_cast<int64_t>(i);
  if (all_equal) return positions;
  const auto less = [&](int64_t a, int64_t b) {
    return keys[a].is_string() ? keys[a].string() < keys[b].string()
                               : LessNumbers(keys[a], keys[b]);
  };
  std::stable_sort(positions.begin(), positions.end(),
                   [&](int64_t a, int64_t b) { return reverse ? less(b, a) : less(a, b); });
  return positions;
}

}  // namespace lorc::jinja
