#include "runtime/weights/config_limits.h"

#include "absl/strings/str_cat.h"
#include "runtime/weights/printable.h"

namespace lorc {

absl::Status ValidateModelConfig(const ModelConfig& config, const std::string& source) {
  const auto refuse = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(Printable(source), ": ", what));
  };
  if (config.num_heads % config.num_kv_heads != 0)
    return refuse(absl::StrCat(config.num_heads, " query heads cannot share ", config.num_kv_heads,
                               " KV heads evenly; the second must divide the first"));
  if (config.head_dim % 8 != 0)
    return refuse(
        absl::StrCat("a head is ", config.head_dim, " wide; multiples of 8 are supported"));
  if (config.head_dim > kMaxHeadDim)
    return refuse(absl::StrCat("a head is ", config.head_dim, " wide; at most ", kMaxHeadDim,
                               " are supported"));
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.type == RopeScaling::Type::kLlama3 &&
      !(scaling.low_freq_factor < scaling.high_freq_factor))
    return refuse(absl::StrCat("RoPE scaling \"llama3\" has low_freq_factor ",
                               scaling.low_freq_factor, " and high_freq_factor ",
                               scaling.high_freq_factor, "; the first must be smaller"));
  return absl::OkStatus();
}

}  // namespace lorc
