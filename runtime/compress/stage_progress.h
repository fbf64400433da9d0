// How long work in several stages tells where it is.
#pragma once

#include <functional>
#include <string>

namespace lorc {

// `stage(name, share)` tells what is being done and how far it is, 0..1.
using StageProgress = std::function<void(const std::string& name, double share)>;

}  // namespace lorc
