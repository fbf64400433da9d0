#include "runtime/compress/text_spectra.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "runtime/compress/effective_rank.h"
#include "runtime/compress/linear_algebra.h"
#include "runtime/compress/ranks.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

absl::StatusOr<TensorSpectrum> SpectrumOf(const std::vector<double>& moment, int64_t n) {
  LORC_ASSIGN_OR_RETURN(EigenDecomposition eigen, SymmetricEigen(moment, n));
  std::vector<double>& energies = eigen.values;
  for (double& energy : energies) energy = std::max(energy, 0.0);
  TensorSpectrum spectrum;
  spectrum.effective_rank = EffectiveRank(energies);
  for (size_t i = 0; i < kEnergyShares.size(); ++i) {
    spectrum.energy_ranks[i] = TailRank({energies}, std::sqrt(1 - kEnergyShares[i]));
  }
  for (const double energy : energies) spectrum.singular_values.push_back(std::sqrt(energy));
  return spectrum;
}

std::vector<double> LossCurve(const std::vector<GroupBasis>& groups, double loss_per_gain) {
  LORC_CHECK_EQ(groups.size(), 1u);
  const std::vector<double>& gains = groups[0].gains;
  std::vector<double> curve(gains.size() + 1, 0.0);
  for (size_t r = gains.size(); r-- > 0;) {
    curve[r] = curve[r + 1] + loss_per_gain * std::max(gains[r], 0.0);
  }
  return curve;
}

}  // namespace

absl::StatusOr<std::vector<LayerSpectrum>> SpectraOf(const Statistics& statistics, int64_t n) {
  std::vector<LayerSpectrum> spectra;
  for (size_t l = 0; l < statistics.layers.size(); ++l) {
    const KvMoments& moments = statistics.layers[l].all;
    LayerSpectrum layer;
    const struct {
      const char* name;
      const std::vector<double>& moment;
      TensorSpectrum& spectrum;
    } tensors[] = {{"keys", moments.unrotated_keys, layer.keys},
                   {"rotated keys", moments.anchored_keys, layer.rotated_keys},
                   {"values", moments.values, layer.values}};
    for (const auto& tensor : tensors) {
      auto spectrum = SpectrumOf(tensor.moment, n);
      if (!spectrum.ok()) {
        return absl::Status(
            spectrum.status().code(),
            absl::StrCat("layer ", l, " ", tensor.name, ": ", spectrum.status().message()));
      }
      tensor.spectrum = *std::move(spectrum);
    }
    spectra.push_back(std::move(layer));
  }
  return spectra;
}

std::vector<LayerLoss> LossCurves(const ModelBases& bases) {
  LORC_CHECK(bases.loss_per_gain > 0);
  std::vector<LayerLoss> losses;
  for (const LayerBases& layer : bases.layers) {
    losses.push_back(
        {LossCurve(layer.key, bases.loss_per_gain), LossCurve(layer.value, bases.loss_per_gain)});
  }
  return losses;
}

}  // namespace lorc
