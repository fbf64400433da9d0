#include "tools/report/number_text.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace lorc {

std::string Nats(double value) { return absl::StrFormat("%.4f", value); }

std::string Share(double share) { return absl::StrFormat("%.1f %%", 100 * share); }

std::string Percent(double share) { return absl::StrFormat("%+.2f %%", 100 * share); }

std::string PlainPercent(double share) {
  return absl::StrCat(absl::SixDigits(std::round(share * 1e6) / 1e4), " %");
}

}  // namespace lorc
