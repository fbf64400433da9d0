// What a backend is beside its ops: found by name, its memory, what it says about itself.
#include "kernels/backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/make_backend.h"
#include "tests/kernels/backend_fixture.h"

namespace lorc {
namespace {

using testing::HasSubstr;

TEST(MakeBackendTest, NamesThatThereAre) {
  const auto cpu = MakeBackend("cpu", 1);
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  EXPECT_STREQ((*cpu)->name(), "cpu");
  const auto other = MakeBackend("tpu", 1);
  EXPECT_EQ(other.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("cpu or cuda, got tpu"));
  EXPECT_EQ(MakeBackend("cpu", -1).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(MakeBackendTest, WhatIsMissingForCudaIsSaid) {
  const auto cuda = MakeBackend("cuda", 1);
  if (cuda.ok()) {
    EXPECT_STREQ((*cuda)->name(), "cuda");
    EXPECT_THAT((*cuda)->description(), HasSubstr("compute capability"));
    return;
  }
  const std::string message(cuda.status().message());
  if (cuda.status().code() == absl::StatusCode::kUnimplemented) {
    EXPECT_THAT(message, HasSubstr("-DLORC_ENABLE_CUDA=ON"));
  } else {
    EXPECT_EQ(cuda.status().code(), absl::StatusCode::kFailedPrecondition) << message;
    EXPECT_THAT(message, HasSubstr("NVIDIA"));
  }
}

class MemoryTest : public BackendTest {};

TEST_P(MemoryTest, IsZeroedCountedAndGivenBack) {
  const MemoryAccount& account = backend().memory();
  const int64_t before = account.bytes(MemoryUse::kCache);
  for (const int64_t size : {int64_t{1}, int64_t{1000}, int64_t{5} << 20}) {
    auto buffer = backend().Allocate(size, MemoryUse::kCache);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ(buffer->size(), size);
    EXPECT_EQ(account.bytes(MemoryUse::kCache), before + size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    std::vector<std::byte> read(size, std::byte{7});
    backend().CopyOut(read.data(), buffer->data(), size);
    EXPECT_EQ(read, std::vector<std::byte>(size)) << size;
  }
  EXPECT_EQ(account.bytes(MemoryUse::kCache), before);
  const auto none = backend().Allocate(0, MemoryUse::kCache);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(none->size(), 0);
}

TEST_P(MemoryTest, CopiesKeepEveryByte) {
  const int64_t count = 3'000'001;
  std::vector<uint8_t> values(count), read(count);
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<uint8_t>(i * 2654435761u >> 24);
  auto buffer = backend().Allocate(count, MemoryUse::kActivations);
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  backend().CopyIn(buffer->data(), values.data(), count);
  backend().CopyOut(read.data(), buffer->data(), count);
  EXPECT_EQ(read, values);
  // Parts, to and from memory for copies.
  auto host = backend().AllocateHost(1000);
  ASSERT_TRUE(host.ok()) << host.status();
  backend().CopyOut(host->data(), buffer->data() + 12345, 1000);
  EXPECT_TRUE(std::equal(host->as<uint8_t>(), host->as<uint8_t>() + 1000, values.data() + 12345));
  backend().CopyIn(buffer->data() + 1, host->data(), 1000);
  backend().CopyOut(read.data(), buffer->data(), 1001);
  EXPECT_EQ(read[0], values[0]);
  EXPECT_TRUE(std::equal(read.begin() + 1, read.begin() + 1001, values.begin() + 12345));
  EXPECT_TRUE(backend().status().ok());
}

TEST_P(MemoryTest, WhatIsTooMuchIsAnError) {
  const auto buffer = backend().Allocate(int64_t{1} << 46, MemoryUse::kCache);
  EXPECT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted) << buffer.status();
  // And no other: the backend goes on.
  EXPECT_TRUE(backend().Allocate(1000, MemoryUse::kCache).ok());
  EXPECT_TRUE(backend().status().ok()) << backend().status();
}

TEST_P(MemoryTest, FreeBytesAreTheDevices) {
  EXPECT_EQ(backend().free_device_bytes().has_value(), !backend().has_host_memory());
  if (backend().has_host_memory()) return;
  const int64_t before = *backend().free_device_bytes();
  constexpr int64_t kSize = int64_t{64} << 20;
  const auto buffer = backend().Allocate(kSize, MemoryUse::kCache);
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  EXPECT_LE(*backend().free_device_bytes(), before - kSize);
}

TEST_P(MemoryTest, WarmUpRowsRiseToTheLargestStep) {
  for (const int32_t most : {1, 2, 16, 17, 100, 512, 3000}) {
    const std::vector<int32_t> rows = backend().WarmUpRows(most);
    ASSERT_FALSE(rows.empty());
    EXPECT_GT(rows.front(), 0);
    EXPECT_LE(rows.back(), most);
    for (size_t i = 1; i < rows.size(); ++i) EXPECT_LT(rows[i - 1], rows[i]);
  }
}

// What start-up says that bases will take.
TEST_P(MemoryTest, BasesTakeWhatIsSaid) {
  const std::vector<float> values(4 * 128 * 64, 0.5f);
  for (const auto& [groups, rank] : {std::pair(1, 128), std::pair(4, 32)}) {
    for (const bool is_key : {true, false}) {
      for (const bool absorbed : {true, false}) {
        BasisSource source;
        source.groups = groups;
        source.group_width = 256 / groups;
        source.head_dim = 64;
        source.rank = rank;
        source.absorbed = absorbed;
        const int64_t said = backend().BasisBytes(source, is_key, DType::kBf16);
        source.encoder = source.decoder = values.data();
        const int64_t before = backend().memory().bytes(MemoryUse::kWeights);
        const auto basis = backend().MakeBasis(source, is_key, DType::kBf16);
        ASSERT_TRUE(basis.ok()) << basis.status();
        const int64_t taken = backend().memory().bytes(MemoryUse::kWeights) - before;
        EXPECT_EQ((*basis)->size_bytes(), taken);
        EXPECT_EQ(said, taken) << groups << (is_key ? " keys" : " values")
                               << (absorbed ? " absorbed" : "");
      }
    }
  }
}

TEST_P(MemoryTest, TypesThatThereAreNotAreNamed) {
  EXPECT_TRUE(backend().CheckWeightType(backend().default_weight_type()).ok());
  const std::vector<float> values(64, 1.0f);
  for (const DType type : {DType::kF32, DType::kBf16, DType::kInt8}) {
    const auto matrix = backend().MakeMatrix(SourceOf(values, 8, 8), type);
    EXPECT_EQ(matrix.status().code(), backend().CheckWeightType(type).code());
    if (matrix.ok()) continue;
    EXPECT_EQ(matrix.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(matrix.status().message()), HasSubstr(Name(type)));
    EXPECT_THAT(std::string(matrix.status().message()), HasSubstr("bf16"));
  }
}

// Longer than the pieces that weights are brought in, and of an odd width.
TEST_P(MemoryTest, LongMatricesArriveWhole) {
  constexpr int64_t kRows = 70'001;
  constexpr int64_t kColumns = 131;
  const auto value = [](int64_t i) { return static_cast<float>(i % 251) - 125.0f; };
  const auto matrix =
      backend().MakeMatrix({kRows, kColumns,
                            [&](int64_t begin, int64_t end, float* out) {
                              for (int64_t i = begin * kColumns; i < end * kColumns; ++i) {
                                *out++ = value(i);
                              }
                            }},
                           DType::kBf16);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  std::vector<int32_t> rows;
  for (int32_t row = 0; row < kRows; row += 997) rows.push_back(row);
  rows.push_back(kRows - 1);
  auto out = DeviceValues::Poisoned(backend(), DType::kF32, std::ssize(rows) * kColumns);
  backend().Embed({matrix->get(), std::ssize(rows), rows.data(), out.floats()});
  const auto read = out.Read();
  for (size_t r = 0; r < rows.size(); ++r) {
    for (int64_t k = 0; k < kColumns; ++k) {
      ASSERT_EQ(read[r * kColumns + k], value(rows[r] * kColumns + k)) << rows[r] << ", " << k;
    }
  }
}

constexpr BackendCase kBackends[] = {{"cpu", DType::kBf16}, {"cuda", DType::kBf16}};
INSTANTIATE_TEST_SUITE_P(Backends, MemoryTest, testing::ValuesIn(kBackends), NameOf);

}  // namespace
}  // namespace lorc
