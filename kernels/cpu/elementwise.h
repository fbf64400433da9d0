// The small ops of a layer on the CPU (contracts: ops/elementwise.h).
#pragma once

#include "kernels/ops/elementwise.h"

namespace lorc {

class ThreadPool;

void CpuEmbed(const EmbedArgs& args, ThreadPool& pool);
void CpuRmsNorm(const RmsNormArgs& args, ThreadPool& pool);
void CpuRowStats(const RowStatsArgs& args, ThreadPool& pool);
void CpuWeights(const WeightsArgs& args, ThreadPool& pool);

}  // namespace lorc
