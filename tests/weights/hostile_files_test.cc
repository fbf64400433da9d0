// Damaged files: cut short at every length, and changed at random places. Nothing may crash; what
// still opens must be readable throughout.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/tensor_role.h"
#include "tests/support/files.h"
#include "tests/support/tiny_model.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using test::TempFolder;
using test::TinyModel;

// One layer of 32 by 32: as small as quantised types allow.
TinyModel SmallestModel() {
  return TinyModel({.num_layers = 1,
                    .hidden_size = 32,
                    .num_heads = 2,
                    .num_kv_heads = 1,
                    .head_dim = 16,
                    .ffn_size = 32,
                    .vocabulary_size = 277,
                    .tied_embeddings = true});
}

// Opens a model and, where that succeeds, reads all there is. Returns whether it opened.
bool OpenAndReadAll(const std::string& path) {
  const auto checkpoint = Checkpoint::Open(path);
  if (!checkpoint.ok()) {
    EXPECT_FALSE(checkpoint.status().message().empty());
    return false;
  }
  const ModelConfig& config = (*checkpoint)->config();
  std::vector<float> row;
  for (const TensorRole role : kAllTensorRoles)
    for (int32_t layer = 0; layer < (IsPerLayer(role) ? config.num_layers : 1); ++layer) {
      const TensorShape shape = (*checkpoint)->Shape(role, layer);
      row.resize(static_cast<size_t>(shape.columns));
      for (int64_t i = 0; i < shape.rows; ++i)
        (*checkpoint)->ReadRows(role, layer, i, i + 1, row.data());
    }
  EXPECT_EQ((*checkpoint)->Fingerprint().size(), 32u);
  (void)(*checkpoint)->ReadVocabulary();
  return true;
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Below(uint64_t limit) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return (state_ >> 33) % limit;
  }

 private:
  uint64_t state_;
};

// One to four changes: a byte, a bit, a 64-bit number of an extreme value, a piece copied elsewhere
// or cut out. `limit`: changes begin before this byte.
std::string Mutate(std::string bytes, size_t limit, Random& random) {
  static const std::string kNumbers[] = {
      test::Bytes(uint64_t{0}), test::Bytes(~uint64_t{0}), test::Bytes(uint64_t{1} << 63),
      test::Bytes(uint64_t{1} << 32), test::Bytes((uint64_t{1} << 63) - 1)};
  for (uint64_t changes = 1 + random.Below(4); changes > 0 && bytes.size() > 16; --changes) {
    const size_t place = random.Below(std::min(limit, bytes.size() - 8));
    const size_t length = 1 + random.Below(8);
    switch (random.Below(5)) {
      case 0:
        bytes[place] = static_cast<char>(random.Below(256));
        break;
      case 1:
        bytes[place] = static_cast<char>(bytes[place] ^ (1 << random.Below(8)));
        break;
      case 2:
        bytes.replace(place, 8, kNumbers[random.Below(std::size(kNumbers))]);
        break;
      case 3:
        bytes.insert(place, bytes.substr(random.Below(bytes.size()), length));
        break;
      default:
        bytes.erase(place, length);
        break;
    }
  }
  return bytes;
}

TEST(HostileFilesTest, AGgufFileCutShortAnywhereIsRefused) {
  const TempFolder folder;
  const std::string path = folder.File("m.gguf");
  ASSERT_OK(test::WriteTinyGguf(SmallestModel(), {.matrix_type = StoredType::kQ4_0}, path));
  ASSERT_TRUE(OpenAndReadAll(path));
  const auto size = static_cast<int64_t>(std::filesystem::file_size(path));
  // The last tensor's padding to the alignment is no loss.
  constexpr int64_t kAlignment = 32;
  for (int64_t length = size - 1; length >= 0; --length) {
    ASSERT_EQ(truncate(path.c_str(), length), 0);
    const bool opened = OpenAndReadAll(path);
    if (length < size - kAlignment) {
      EXPECT_FALSE(opened) << length << " of " << size << " bytes";
    }
  }
}

TEST(HostileFilesTest, ASafetensorsFileCutShortAnywhereIsRefused) {
  const TempFolder folder;
  ASSERT_OK(test::WriteTinyHf(SmallestModel(), {.type = StoredType::kBf16}, folder.path()));
  const std::string path = folder.File("model.safetensors");
  const auto size = static_cast<int64_t>(std::filesystem::file_size(path));
  for (int64_t length = size - 1; length >= 0; --length) {
    ASSERT_EQ(truncate(path.c_str(), length), 0);
    EXPECT_FALSE(OpenAndReadAll(folder.path())) << length << " of " << size << " bytes";
  }
}

TEST(HostileFilesTest, JsonFilesCutShortAnywhereDoNotCrash) {
  const TempFolder folder;
  ASSERT_OK(test::WriteTinyHf(SmallestModel(), {.num_shards = 2}, folder.path()));
  for (const char* name :
       {"config.json", "tokenizer_config.json", "model.safetensors.index.json"}) {
    const std::string whole = test::ReadFile(folder.File(name));
    for (size_t length = 0; length < whole.size(); ++length) {
      ASSERT_OK(test::WriteFile(folder.File(name), whole.substr(0, length)));
      OpenAndReadAll(folder.path());
    }
    ASSERT_OK(test::WriteFile(folder.File(name), whole));
  }
}

TEST(HostileFilesTest, RandomlyChangedGgufFilesDoNotCrash) {
  const TempFolder folder;
  const std::string path = folder.File("m.gguf");
  int opened = 0;
  for (const StoredType type : {StoredType::kF32, StoredType::kQ8_0, StoredType::kQ4_1}) {
    const std::string whole = test::MakeTinyGguf(SmallestModel(), {.matrix_type = type}).Build();
    const size_t header = whole.size() / 3;
    for (uint64_t seed = 0; seed < 1500; ++seed) {
      SCOPED_TRACE(absl::StrCat("type ", Name(type), ", seed ", seed));
      Random random(seed);
      // Most changes go to the small part that is not numbers.
      const size_t limit = seed % 4 == 0 ? whole.size() : header;
      ASSERT_OK(test::WriteFile(path, Mutate(whole, limit, random)));
      opened += OpenAndReadAll(path);
    }
  }
  EXPECT_GT(opened, 0);
}

TEST(HostileFilesTest, RandomlyChangedFoldersDoNotCrash) {
  const TempFolder folder;
  ASSERT_OK(test::WriteTinyHf(SmallestModel(), {.num_shards = 2}, folder.path()));
  int opened = 0;
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json",
                           "model.safetensors.index.json", "model-00001-of-00002.safetensors"}) {
    const std::string whole = test::ReadFile(folder.File(name));
    for (uint64_t seed = 0; seed < 1000; ++seed) {
      SCOPED_TRACE(absl::StrCat(name, ", seed ", seed));
      Random random(seed);
      ASSERT_OK(test::WriteFile(folder.File(name), Mutate(whole, 4096, random)));
      opened += OpenAndReadAll(folder.path());
    }
    ASSERT_OK(test::WriteFile(folder.File(name), whole));
  }
  EXPECT_GT(opened, 0);
}

}  // namespace
}  // namespace lorc
