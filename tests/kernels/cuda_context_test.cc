// The way of small data to the device, and errors that stay. Skipped where there is no GPU.
#include "kernels/cuda/cuda_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "kernels/cuda/device_memory.h"

namespace lorc {
namespace {

using testing::HasSubstr;

class CudaContextTest : public testing::Test {
 protected:
  void SetUp() override {
    auto context = CudaContext::Make(0);
    if (context.status().code() == absl::StatusCode::kFailedPrecondition) {
      GTEST_SKIP() << context.status().message();
    }
    ASSERT_TRUE(context.ok()) << context.status();
    context_ = *std::move(context);
    BackendLimits limits;
    limits.max_rows = 600;
    limits.max_sequences = 8;
    limits.max_context = 1000;
    limits.block_tokens = 16;
    const absl::Status status = context_->Reserve(limits, {1 << 20, 300'000});
    ASSERT_TRUE(status.ok()) << status;
  }

  template <typename T>
  std::vector<T> Read(const T* device, int64_t count) {
    std::vector<T> values(count);
    EXPECT_EQ(cudaMemcpyAsync(values.data(), device, count * sizeof(T), cudaMemcpyDeviceToHost,
                              context_->stream()),
              cudaSuccess);
    EXPECT_TRUE(context_->Synchronize().ok());
    return values;
  }

  std::unique_ptr<CudaContext> context_;
};

TEST_F(CudaContextTest, AStepsSequencesArriveWithTheirTables) {
  std::vector<int32_t> latent(63), exact(63);
  std::iota(latent.begin(), latent.end(), 1000);
  std::iota(exact.begin(), exact.end(), 5000);
  for (int64_t step = 1; step <= 3; ++step) {
    latent[0] = static_cast<int32_t>(step);
    const SequenceSpan spans[] = {{0, 1, 999, 20, latent.data(), exact.data()},
                                  {1, 500, 0, 501, latent.data() + 5, nullptr},
                                  {501, 17, 15 + step, 40, latent.data() + 7, exact.data() + 9}};
    context_->BeginStep({spans, 16});
    EXPECT_EQ(context_->step_number(), step);
    const DeviceStep& device = context_->step();
    ASSERT_EQ(device.num_sequences, 3);
    ASSERT_EQ(device.num_rows, 518);
    const auto read = Read(device.sequences, 3);
    const auto tables = context_->step_tables();
    ASSERT_EQ(tables.size(), 3u);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(read[i].latent_blocks, device.tables + tables[i].latent);
      if (spans[i].exact_blocks != nullptr) {
        EXPECT_EQ(read[i].exact_blocks, device.tables + tables[i].exact);
      }
      EXPECT_EQ(read[i].row, spans[i].row);
      EXPECT_EQ(read[i].count, spans[i].count);
      EXPECT_EQ(read[i].first, spans[i].first);
      EXPECT_EQ(read[i].num_prompt_tokens, spans[i].num_prompt_tokens);
      const int64_t blocks = (spans[i].first + spans[i].count + 15) / 16;
      EXPECT_EQ(Read(read[i].latent_blocks, blocks),
                std::vector<int32_t>(spans[i].latent_blocks, spans[i].latent_blocks + blocks));
      if (spans[i].exact_blocks == nullptr) {
        EXPECT_EQ(read[i].exact_blocks, nullptr);
      } else {
        EXPECT_EQ(Read(read[i].exact_blocks, blocks),
                  std::vector<int32_t>(spans[i].exact_blocks, spans[i].exact_blocks + blocks));
      }
    }
    const auto sequence = Read(device.row_sequence, 518);
    const auto position = Read(device.row_position, 518);
    for (int i = 0; i < 3; ++i) {
      for (int64_t t = 0; t < spans[i].count; ++t) {
        ASSERT_EQ(sequence[spans[i].row + t], i);
        ASSERT_EQ(position[spans[i].row + t], spans[i].first + t);
      }
    }
  }
}

TEST_F(CudaContextTest, PiecesOfOpsKeepTheirContentUntilTheOpIsOver) {
  // Two pieces an op, 300,000 bytes in all: the memory for them is used again and again.
  constexpr int64_t kOps = 40;
  constexpr int64_t kCount = 37'000;
  auto gathered = AllocateDevice(kOps * 2 * kCount * 4, MemoryUse::kWorkspace, nullptr);
  ASSERT_TRUE(gathered.ok()) << gathered.status();
  auto* to = gathered->as<int32_t>();
  for (int32_t op = 0; op < kOps; ++op) {
    const int32_t* pieces[2];
    for (int32_t i = 0; i < 2; ++i) {
      const std::vector<int32_t> values(kCount, 2 * op + i);
      pieces[i] = context_->StageForOp(std::span<const int32_t>(values));
    }
    for (const int32_t* piece : pieces) {
      ASSERT_EQ(
          cudaMemcpyAsync(to, piece, kCount * 4, cudaMemcpyDeviceToDevice, context_->stream()),
          cudaSuccess);
      to += kCount;
    }
  }
  const auto values = Read(gathered->as<int32_t>(), kOps * 2 * kCount);
  for (int64_t i = 0; i < std::ssize(values); ++i) ASSERT_EQ(values[i], i / kCount);
}

TEST_F(CudaContextTest, TheFirstErrorStays) {
  EXPECT_TRUE(context_->Synchronize().ok());
  context_->Check(cudaErrorLaunchFailure, "a kernel");
  context_->Check(cudaErrorMemoryAllocation, "another");
  EXPECT_TRUE(context_->failed());
  for (int i = 0; i < 2; ++i) {
    const absl::Status status = context_->Synchronize();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), HasSubstr("a kernel"));
  }
}

TEST(CudaContextErrors, ADeviceThatIsNotThere) {
  const auto context = CudaContext::Make(1000);
  EXPECT_EQ(context.status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace lorc
