// Numbers as tables and charts write them.
#pragma once

#include <string>

namespace lorc {

std::string Nats(double value);     // "0.1234"; perplexities too
std::string Share(double share);    // "12.3 %" of 0.123
std::string Percent(double share);  // of a change: "+0.12 %" of 0.0012
// "5 %", "0.25 %": for ticks, as many decimals as it takes, at most four.
std::string PlainPercent(double share);

}  // namespace lorc
