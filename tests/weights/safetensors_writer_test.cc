#include "runtime/weights/safetensors_writer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/files.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using test::FailsWith;
using test::IsInvalid;
using test::TempFolder;
using Parts = std::vector<std::string>;

std::span<const std::byte> AsBytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

int64_t CountFiles(const std::string& folder) {
  return std::distance(std::filesystem::directory_iterator(folder),
                       std::filesystem::directory_iterator());
}

TEST(SafetensorsWriterTest, WhatIsWrittenIsRead) {
  const TempFolder folder;
  const std::string path = folder.File("plan.safetensors");
  const std::string bytes = "abcdefgh";
  const std::vector<SafetensorsTensor> tensors = {
      {"small", SafetensorsType::kI8, {3}, AsBytes(bytes).subspan(0, 3)},
      {"wide \"\n\u00e9", SafetensorsType::kF32, {1, 2}, AsBytes(bytes)},
      {"nothing", SafetensorsType::kBf16, {4, 0}, {}},
      {"half", SafetensorsType::kF16, {}, AsBytes(bytes).subspan(0, 2)},
  };
  const SafetensorsMetadata metadata = {{"plan", R"({"rank": 8})"}, {"", "\u00fc"}};
  ASSERT_OK(WriteSafetensors(path, tensors, metadata));
  const absl::StatusOr<Safetensors> read = Safetensors::Open(path);
  ASSERT_OK(read);
  EXPECT_EQ(read->metadata(), metadata);
  ASSERT_EQ(read->tensors().size(), tensors.size());
  for (const SafetensorsTensor& wanted : tensors) {
    const SafetensorsTensor* found = read->Find(wanted.name);
    ASSERT_NE(found, nullptr) << wanted.name;
    EXPECT_EQ(found->type, wanted.type);
    EXPECT_EQ(found->shape, wanted.shape);
    EXPECT_TRUE(std::ranges::equal(found->data, wanted.data));
    // A mapping begins at a page, so the address shows the place in the file.
    EXPECT_EQ(reinterpret_cast<uintptr_t>(found->data.data()) % ByteSize(found->type), 0u);
  }
  EXPECT_EQ(CountFiles(folder.path()), 1);
  const std::string first = test::ReadFile(path);
  ASSERT_OK(WriteSafetensors(path, tensors, metadata));
  EXPECT_EQ(test::ReadFile(path), first);
}

TEST(SafetensorsWriterTest, NewFilesAreReadableLikeAnyOther) {
  const TempFolder folder;
  const std::string path = folder.File("plan.safetensors");
  const mode_t mask = umask(027);
  const absl::Status status = WriteSafetensors(path, {}, {});
  umask(mask);
  ASSERT_OK(status);
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777u, 0640u);
}

TEST(SafetensorsWriterTest, RefusesWhatNoReaderWouldAccept) {
  const TempFolder folder;
  const std::string path = folder.File("plan.safetensors");
  ASSERT_OK(test::WriteFile(path, "as it was"));
  const std::string bytes = "abcd";
  const SafetensorsTensor good = {"a", SafetensorsType::kF32, {1}, AsBytes(bytes)};
  SafetensorsTensor wrong_size = good;
  wrong_size.shape = {2};
  SafetensorsTensor reserved = good;
  reserved.name = "__metadata__";
  SafetensorsTensor not_text = good;
  not_text.name = "\xff";
  EXPECT_THAT(WriteSafetensors(path, std::vector{good, good}, {}), IsInvalid({"\"a\""}));
  EXPECT_THAT(WriteSafetensors(path, std::vector{wrong_size}, {}),
              IsInvalid({"\"a\"", "4 bytes", "needs 8"}));
  EXPECT_THAT(WriteSafetensors(path, std::vector{reserved}, {}), IsInvalid({"__metadata__"}));
  EXPECT_THAT(WriteSafetensors(path, std::vector{not_text}, {}), IsInvalid({"not UTF-8"}));
  EXPECT_THAT(WriteSafetensors(path, std::vector{good}, {{"k", "\xff"}}), IsInvalid({"not UTF-8"}));
  EXPECT_EQ(CountFiles(folder.path()), 1);
  EXPECT_EQ(test::ReadFile(path), "as it was");
}

TEST(SafetensorsWriterTest, ErrorsNameThePath) {
  const TempFolder folder;
  EXPECT_THAT(WriteSafetensors(folder.File("none/plan.safetensors"), {}, {}),
              FailsWith(absl::StatusCode::kNotFound, Parts{"none/plan.safetensors"}));
  std::filesystem::create_directory(folder.File("folder"));
  EXPECT_FALSE(WriteSafetensors(folder.File("folder"), {}, {}).ok());
  EXPECT_EQ(CountFiles(folder.path()), 1);
}

// A file size limit stands for a full disk: the kernel refuses the same write.
TEST(SafetensorsWriterTest, AFullDiskLeavesNothingBehind) {
  const TempFolder folder;
  const std::string path = folder.File("plan.safetensors");
  ASSERT_OK(test::WriteFile(path, "as it was"));
  const std::string bytes(1 << 16, 'x');
  const SafetensorsTensor tensor = {"a", SafetensorsType::kU8, {1 << 16}, AsBytes(bytes)};
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit tight = before;
  tight.rlim_cur = 4096;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  const absl::Status status = WriteSafetensors(path, std::vector{tensor}, {});
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(status, FailsWith(absl::StatusCode::kResourceExhausted, Parts{path, "free some"}));
  EXPECT_EQ(CountFiles(folder.path()), 1);
  EXPECT_EQ(test::ReadFile(path), "as it was");
}

}  // namespace
}  // namespace lorc
