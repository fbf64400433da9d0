// What a text's statistics say of how many numbers its keys and values need.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/compress/build_plan.h"
#include "runtime/compress/statistics.h"

namespace lorc {

inline constexpr std::array kEnergyShares = {0.9, 0.99, 0.999};

// Of y [n] over the text's tokens, uncentred: KV-CoRE's instrument.
struct TensorSpectrum {
  std::vector<double> singular_values;  // [n], falling: those of the matrix of all y
  double effective_rank = 0;            // numbers: runtime/compress/effective_rank.h
  // Per share of kEnergyShares: the fewest directions that hold it.
  std::array<int32_t, kEnergyShares.size()> energy_ranks = {};

  double normalised_effective_rank() const {
    return effective_rank / static_cast<double>(singular_values.size());
  }
};

struct LayerSpectrum {
  TensorSpectrum keys;          // before RoPE
  TensorSpectrum rotated_keys;  // inside chunks of the anchor: what a direct cache keeps
  TensorSpectrum values;
};

// INVALID_ARGUMENT names layer and tensor where a moment is not finite.
absl::StatusOr<std::vector<LayerSpectrum>> SpectraOf(const Statistics& statistics, int64_t n);

// Nats per token, predicted, where a tensor keeps only the r best numbers of the basis, r in
// 0..n; [n + 1], falling to 0.
struct LayerLoss {
  std::vector<double> keys;  // direct
  std::vector<double> values;
};

// Of bases whose method predicts the loss, with one group per tensor.
std::vector<LayerLoss> LossCurves(const ModelBases& bases);

}  // namespace lorc
