// How long work in several stages tells where it is.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "runtime/model/llama.h"

namespace lorc {

// `stage(name, share)` tells what is being done and how far it is, 0..1.
using StageProgress = std::function<void(const std::string& name, double share)>;

// The progress of the stage `name`; nullptr where `stage`, which outlives it, is.
inline Progress Named(const StageProgress& stage, std::string name) {
  if (!stage) return nullptr;
  return [&stage, name = std::move(name)](double share) { stage(name, share); };
}

}  // namespace lorc
