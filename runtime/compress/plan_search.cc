#include "runtime/compress/plan_search.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr double kCloseEnough = 1.03;  // ratio of bytes

bool Keeps(const MeasuredCost& cost, const QualityLimit& limit) {
  return cost.loss <= std::log1p(limit.max_perplexity_increase) &&
         (!limit.max_recall_increase.has_value() || cost.recall <= *limit.max_recall_increase);
}

// The prediction at which the limit is reached, if costs are proportional to predictions as they
// were at the last measurement. 0 where that says nothing.
double PredictionAtLimit(double predicted, const MeasuredCost& cost, const QualityLimit& limit) {
  double allowed = HUGE_VAL;
  if (cost.loss > 0) {
    allowed = predicted * std::log1p(limit.max_perplexity_increase) / cost.loss;
  }
  if (limit.max_recall_increase.has_value() && cost.recall > 0) {
    allowed = std::min(allowed, predicted * *limit.max_recall_increase / cost.recall);
  }
  return std::isfinite(allowed) ? allowed : 0.0;
}

// The least bytes between `low` and `high` whose prediction is at most `allowed`; predictions fall.
absl::StatusOr<int64_t> BytesFor(const PlanSearch& search, double allowed, int64_t low,
                                 int64_t high) {
  while (high - low > std::max<int64_t>(1, low / 500)) {
    const int64_t middle = low + (high - low) / 2;
    LORC_ASSIGN_OR_RETURN(const double predicted, search.predict(middle));
    (predicted <= allowed ? high : low) = middle;
  }
  return high;
}

}  // namespace

absl::StatusOr<int64_t> SmallestBytes(const PlanSearch& search, const QualityLimit& limit) {
  int64_t fails = search.least_bytes - 1;  // the largest that does not keep the limit
  int64_t keeps = 0;                       // the smallest that does; 0: none yet
  double allowed = std::log1p(limit.max_perplexity_increase);
  for (int32_t i = 0; i < search.max_measurements; ++i) {
    const int64_t most = keeps > 0 ? keeps : search.most_bytes;
    if (static_cast<double>(most) <= kCloseEnough * static_cast<double>(fails + 1) && keeps > 0) {
      break;
    }
    LORC_ASSIGN_OR_RETURN(int64_t bytes,
                          BytesFor(search, allowed, std::max(fails, search.least_bytes), most));
    // A guess that tells nothing new: the middle, in ratio. The last try, without a plan yet, is
    // the largest.
    const bool last = i + 1 == search.max_measurements && keeps == 0;
    if (last) {
      bytes = search.most_bytes;
    } else if (allowed <= 0 || bytes <= fails || bytes >= most) {
      bytes = static_cast<int64_t>(
          std::sqrt(static_cast<double>(std::max<int64_t>(fails, 1)) * static_cast<double>(most)));
      bytes = std::clamp(bytes, search.least_bytes, most);
    }
    LORC_ASSIGN_OR_RETURN(const MeasuredCost cost, search.measure(bytes));
    if (Keeps(cost, limit)) {
      keeps = bytes;
    } else if (bytes >= search.most_bytes) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "the limit cannot be met: with %d bytes per token, the most of this layout, perplexity "
          "is %+.2f %% and recall %+.3f nats of the uncompressed model's; raise the limit, or "
          "lengthen the exact window or prefix",
          bytes, 100 * std::expm1(cost.loss), cost.recall));
    } else {
      fails = std::max(fails, bytes);
    }
    LORC_ASSIGN_OR_RETURN(const double predicted, search.predict(bytes));
    allowed = PredictionAtLimit(predicted, cost, limit);
  }
  return keeps;
}

}  // namespace lorc
