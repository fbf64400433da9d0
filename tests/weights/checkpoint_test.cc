// Both formats of one model through the Checkpoint interface.
#include "runtime/weights/checkpoint.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/weights/tensor_role.h"
#include "tests/support/files.h"
#include "tests/support/quantize.h"
#include "tests/support/tiny_model.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using test::FailsWith;
using test::IsInvalid;
using test::TempFolder;
using test::TinyHfOptions;
using test::TinyModel;
using Parts = std::vector<std::string>;

template <typename Function>
void ForEveryTensor(const ModelConfig& config, Function function) {
  for (const TensorRole role : kAllTensorRoles)
    for (int32_t layer = 0; layer < (IsPerLayer(role) ? config.num_layers : 1); ++layer)
      function(role, layer);
}

std::vector<float> ReadAll(const Checkpoint& checkpoint, TensorRole role, int32_t layer) {
  const TensorShape shape = checkpoint.Shape(role, layer);
  std::vector<float> values(static_cast<size_t>(shape.rows * shape.columns));
  checkpoint.ReadRows(role, layer, 0, shape.rows, values.data());
  return values;
}

// What a file of this type makes of the model's values.
std::vector<float> Rounded(StoredType type, const std::vector<float>& values) {
  const std::vector<double> exact = test::NaiveDequantize(type, test::Quantize(type, values));
  return {exact.begin(), exact.end()};
}

void ExpectConfig(const ModelConfig& actual, const ModelConfig& expected) {
  EXPECT_EQ(actual.name, expected.name);
  EXPECT_EQ(actual.architecture, "llama");
  EXPECT_EQ(actual.num_layers, expected.num_layers);
  EXPECT_EQ(actual.hidden_size, expected.hidden_size);
  EXPECT_EQ(actual.num_heads, expected.num_heads);
  EXPECT_EQ(actual.num_kv_heads, expected.num_kv_heads);
  EXPECT_EQ(actual.head_dim, expected.head_dim);
  EXPECT_EQ(actual.ffn_size, expected.ffn_size);
  EXPECT_EQ(actual.vocabulary_size, expected.vocabulary_size);
  EXPECT_EQ(actual.context_length, expected.context_length);
  EXPECT_EQ(actual.rms_norm_epsilon, expected.rms_norm_epsilon);
  EXPECT_EQ(actual.rope_base, expected.rope_base);
  EXPECT_EQ(actual.tied_embeddings, expected.tied_embeddings);
}

void ExpectModel(const Checkpoint& checkpoint, const TinyModel& model, StoredType matrix_type,
                 StoredType norm_type) {
  ExpectConfig(checkpoint.config(), model.config());
  ForEveryTensor(model.config(), [&](TensorRole role, int32_t layer) {
    SCOPED_TRACE(absl::StrCat("role ", static_cast<int>(role), ", layer ", layer));
    const TensorShape expected_shape = ExpectedShape(model.config(), role);
    EXPECT_EQ(checkpoint.Shape(role, layer).rows, expected_shape.rows);
    EXPECT_EQ(checkpoint.Shape(role, layer).columns, expected_shape.columns);
    const StoredType type = IsNorm(role) ? norm_type : matrix_type;
    EXPECT_EQ(checkpoint.StoredType(role, layer), Name(type));
    // Blocks lie within rows, so reordering rows and quantising commute.
    EXPECT_EQ(ReadAll(checkpoint, role, layer), Rounded(type, model.Values(role, layer)));
  });
}

class GgufTypesTest : public testing::TestWithParam<StoredType> {};

TEST_P(GgufTypesTest, HoldsTheModel) {
  const TempFolder folder;
  for (const bool tied : {false, true}) {
    const TinyModel model({.tied_embeddings = tied});
    ASSERT_OK(test::WriteTinyGguf(model, {.matrix_type = GetParam()}, folder.File("m.gguf")));
    const auto checkpoint = Checkpoint::Open(folder.File("m.gguf"));
    ASSERT_OK(checkpoint);
    ExpectModel(**checkpoint, model, GetParam(), StoredType::kF32);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GgufTypesTest,
                         testing::Values(StoredType::kF32, StoredType::kF16, StoredType::kBf16,
                                         StoredType::kQ8_0, StoredType::kQ4_0, StoredType::kQ4_1),
                         [](const auto& test) { return std::string(Name(test.param)); });

struct HfCase {
  const char* name;
  TinyHfOptions options;
};

class HfFoldersTest : public testing::TestWithParam<HfCase> {};

TEST_P(HfFoldersTest, HoldsTheModel) {
  const TempFolder folder;
  const TinyHfOptions& options = GetParam().options;
  for (const bool tied : {false, true}) {
    const TinyModel model({.tied_embeddings = tied});
    ASSERT_OK(test::WriteTinyHf(model, options, folder.path()));
    const auto checkpoint = Checkpoint::Open(folder.path());
    ASSERT_OK(checkpoint);
    ExpectModel(**checkpoint, model, options.type, options.type);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Folders, HfFoldersTest,
    testing::Values(HfCase{"F32", {}}, HfCase{"F16", {.type = StoredType::kF16}},
                    HfCase{"BF16", {.type = StoredType::kBf16}},
                    HfCase{"OldConfig", {.rope_parameters = false}},
                    HfCase{"OneShard", {.num_shards = 1}},
                    HfCase{"Shards", {.type = StoredType::kBf16, .num_shards = 3}}),
    [](const auto& test) { return std::string(test.param.name); });

// The rule spelt out: a GGUF file keeps row 2j + s of a head where Hugging Face has row s * d/2 +
// j.
TEST(CheckpointTest, GgufRowsOfQueriesAndKeysAreReordered) {
  const TempFolder folder;
  const TinyModel model;
  const std::string path = folder.File("m.gguf");
  test::GgufBuilder gguf = test::MakeTinyGguf(model);
  const int64_t columns = model.config().hidden_size;
  const int64_t d = model.config().head_dim;
  for (const char* name : {"blk.1.attn_q.weight", "blk.1.attn_k.weight", "blk.1.attn_v.weight"}) {
    test::GgufBuilder::Tensor& tensor = gguf.FindTensor(name);
    std::vector<float> row_numbers;
    for (int64_t row = 0; row < tensor.extents[1]; ++row)
      row_numbers.insert(row_numbers.end(), static_cast<size_t>(columns), static_cast<float>(row));
    tensor.data = test::Quantize(StoredType::kF32, row_numbers);
  }
  ASSERT_OK(test::WriteFile(path, gguf.Build()));
  const auto checkpoint = Checkpoint::Open(path);
  ASSERT_OK(checkpoint);
  std::vector<float> row(static_cast<size_t>(columns));
  for (const TensorRole role : {TensorRole::kQuery, TensorRole::kKey}) {
    const int64_t heads = (*checkpoint)->Shape(role, 1).rows / d;
    for (int64_t head = 0; head < heads; ++head)
      for (int64_t s = 0; s < 2; ++s)
        for (int64_t j = 0; j < d / 2; ++j) {
          const int64_t index = head * d + s * d / 2 + j;
          (*checkpoint)->ReadRows(role, 1, index, index + 1, row.data());
          EXPECT_EQ(row[0], static_cast<float>(head * d + 2 * j + s));
        }
  }
  (*checkpoint)->ReadRows(TensorRole::kValue, 1, 5, 6, row.data());
  EXPECT_EQ(row[0], 5.0f) << "values are not rotated and stay in order";
}

TEST(CheckpointTest, PartsOfATensorAreTheWholesRows) {
  const TempFolder folder;
  const TinyModel model;
  ASSERT_OK(test::WriteTinyGguf(model, {.matrix_type = StoredType::kQ4_1}, folder.File("m.gguf")));
  const auto checkpoint = Checkpoint::Open(folder.File("m.gguf"));
  ASSERT_OK(checkpoint);
  for (const TensorRole role : {TensorRole::kQuery, TensorRole::kDown}) {
    const std::vector<float> whole = ReadAll(**checkpoint, role, 1);
    const int64_t columns = (*checkpoint)->Shape(role, 1).columns;
    std::vector<float> part(static_cast<size_t>(7 * columns));
    (*checkpoint)->ReadRows(role, 1, 13, 20, part.data());
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 13 * columns));
    (*checkpoint)->ReadRows(role, 1, 13, 13, nullptr);
  }
}

TEST(CheckpointTest, ReleasedPagesAreReadAgain) {
  const TempFolder folder;
  const TinyModel model;
  ASSERT_OK(test::WriteTinyGguf(model, {}, folder.File("m.gguf")));
  ASSERT_OK(test::WriteTinyHf(model, {.num_shards = 2}, folder.path()));
  for (const std::string& path : {folder.File("m.gguf"), folder.path()}) {
    const auto checkpoint = Checkpoint::Open(path);
    ASSERT_OK(checkpoint);
    (*checkpoint)->ReleasePages();
    EXPECT_EQ(ReadAll(**checkpoint, TensorRole::kUp, 0), model.Values(TensorRole::kUp, 0));
  }
}

TEST(CheckpointTest, ATrailingSlashAndSymbolicLinksAreFine) {
  const TempFolder folder;
  const TinyModel model;
  const std::string target = folder.File("target");
  std::filesystem::create_directory(target);
  ASSERT_OK(test::WriteTinyHf(model, {}, target));
  std::filesystem::create_directory_symlink(target, folder.File("link"));
  EXPECT_OK(Checkpoint::Open(folder.File("link")));
  EXPECT_OK(Checkpoint::Open(target + "/"));
}

TEST(CheckpointTest, ErrorsSayWhatToName) {
  const TempFolder folder;
  EXPECT_THAT(Checkpoint::Open(folder.File("none")),
              FailsWith(absl::StatusCode::kNotFound, Parts{"none", "No such file"}));
  EXPECT_THAT(Checkpoint::Open(folder.path()),
              FailsWith(absl::StatusCode::kNotFound, Parts{"no config.json", "GGUF"}));
  ASSERT_OK(test::WriteTinyHf(TinyModel(), {}, folder.path()));
  EXPECT_THAT(Checkpoint::Open(folder.File("model.safetensors")), IsInvalid({"name its folder"}));
  ASSERT_OK(test::WriteFile(folder.File("text.gguf"), "hello"));
  EXPECT_THAT(Checkpoint::Open(folder.File("text.gguf")), IsInvalid({"not a GGUF file"}));
}

}  // namespace
}  // namespace lorc
