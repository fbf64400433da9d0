// What a search over plans has tried, for people and as JSON.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "runtime/compress/compress.h"

namespace lorc {

// `full` is what the uncompressed cache costs at `context` tokens.
std::string CandidateTable(const CompressResult& result, int32_t context, const DecodeCost& full);
nlohmann::json CandidatesJson(const CompressResult& result, int32_t context,
                              const DecodeCost& full);

}  // namespace lorc
