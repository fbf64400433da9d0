#include "runtime/weights/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <utility>

#include "tests/support/files.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using test::FailsWith;
using test::TempFolder;
using test::WriteFile;
using Parts = std::vector<std::string>;

TEST(MappedFileTest, HoldsTheFilesBytes) {
  const TempFolder folder;
  ASSERT_OK(WriteFile(folder.File("a"), "hello"));
  absl::StatusOr<MappedFile> file = MappedFile::Open(folder.File("a"));
  ASSERT_OK(file);
  EXPECT_EQ(file->text(), "hello");
  EXPECT_EQ(file->size(), 5);
  EXPECT_EQ(file->path(), folder.File("a"));
  file->Release();
  EXPECT_EQ(file->text(), "hello");
}

TEST(MappedFileTest, MovesWithoutMovingTheBytes) {
  const TempFolder folder;
  ASSERT_OK(WriteFile(folder.File("a"), "hello"));
  ASSERT_OK(WriteFile(folder.File("b"), "world!"));
  MappedFile first = *MappedFile::Open(folder.File("a"));
  const std::byte* data = first.bytes().data();
  MappedFile second = std::move(first);
  EXPECT_EQ(second.bytes().data(), data);
  second = *MappedFile::Open(folder.File("b"));
  EXPECT_EQ(second.text(), "world!");
}

TEST(MappedFileTest, AnEmptyFileIsAnEmptySpan) {
  const TempFolder folder;
  ASSERT_OK(WriteFile(folder.File("empty"), ""));
  const absl::StatusOr<MappedFile> file = MappedFile::Open(folder.File("empty"));
  ASSERT_OK(file);
  EXPECT_TRUE(file->bytes().empty());
  file->Release();
}

TEST(MappedFileTest, ErrorsNamePathAndCause) {
  const TempFolder folder;
  EXPECT_THAT(MappedFile::Open(folder.File("none")),
              FailsWith(absl::StatusCode::kNotFound, Parts{folder.File("none"), "No such file"}));
  EXPECT_THAT(MappedFile::Open(folder.path()), test::IsInvalid({folder.path(), "is a folder"}));
}

TEST(MappedFileTest, ANamedPipeDoesNotHang) {
  const TempFolder folder;
  ASSERT_EQ(mkfifo(folder.File("pipe").c_str(), 0600), 0);
  EXPECT_THAT(MappedFile::Open(folder.File("pipe")), test::IsInvalid({"not a regular file"}));
}

}  // namespace
}  // namespace lorc
