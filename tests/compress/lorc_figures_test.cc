// LoRC's condition numbers and ranks of the real model against figures of an independent program
// (numpy, float64 SVD of the float32 weights; the paper's equations 12 and 13, d_max = 192).
#include <gtest/gtest.h>

#include <vector>

#include "runtime/compress/build_plan.h"
#include "runtime/compress/ranks.h"
#include "tests/model/real_model.h"

namespace lorc {
namespace {

const std::vector<double> kLogConditions = {
    7.27752, 4.61626, 5.13034, 4.68233, 4.52575, 4.85668, 4.92195, 5.46207, 5.49127, 5.69021,
    4.38770, 4.79028, 5.08545, 4.79356, 4.88601, 5.74650, 5.27992, 5.60038, 4.75839, 5.37657,
    4.78968, 4.89146, 5.38337, 6.02629, 5.56150, 4.99555, 4.74784, 5.69685, 5.73493, 5.01935};

struct Schedule {
  double kept;
  std::vector<int32_t> ranks;
};

const std::vector<Schedule> kSchedules = {
    {0.75, {192, 187, 184, 181, 178, 175, 172, 169, 166, 162, 158, 156, 153, 149, 146,
            143, 139, 136, 133, 129, 126, 123, 120, 116, 113, 109, 106, 103, 99,  96}},
    {0.625, {192, 185, 181, 176, 171, 167, 162, 158, 152, 147, 142, 137, 133, 128, 123,
             119, 113, 108, 103, 98,  93,  88,  84,  79,  73,  68,  63,  58,  53,  47}},
    {0.5, {192, 183, 177, 170, 164, 159, 153, 146, 139, 132, 125, 120, 113, 107, 101,
           95,  87,  81,  74,  68,  61,  55,  48,  42,  34,  27,  21,  15,  7,   1}}};

TEST(LorcFiguresTest, ConditionNumbersAndRanks) {
  const auto checkpoint = Checkpoint::Open(test::RequiredEnvironment("LORC_TEST_MODEL"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto spectra = ComputeWeightSpectra(**checkpoint, nullptr);
  ASSERT_TRUE(spectra.ok()) << spectra.status();
  const std::vector<double> logs = LogConditions(*spectra);
  ASSERT_EQ(logs.size(), kLogConditions.size());
  // 0.1 % of a condition number is 0.001 of its logarithm; the figures have five decimals.
  for (size_t l = 0; l < logs.size(); ++l) EXPECT_NEAR(logs[l], kLogConditions[l], 1e-4) << l;
  for (const Schedule& schedule : kSchedules) {
    ProgressiveOptions options;
    options.full_rank = 192;
    options.target_kept = schedule.kept;
    const std::vector<LayerRanks> ranks = ProgressiveRanks(logs, options);
    for (size_t l = 0; l < ranks.size(); ++l) {
      EXPECT_EQ(ranks[l].key, schedule.ranks[l]) << schedule.kept << " layer " << l;
      EXPECT_EQ(ranks[l].value, schedule.ranks[l]) << schedule.kept << " layer " << l;
    }
  }
}

}  // namespace
}  // namespace lorc
