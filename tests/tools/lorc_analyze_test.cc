// `lorc analyze` as a program: what it prints and writes, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/compress/held_out_text.h"
#include "tests/service/process.h"
#include "tests/support/files.h"
#include "tests/support/tiny_model.h"
#include "tests/tools/markup.h"

namespace lorc::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

using Arguments = std::vector<std::string>;

class LorcAnalyzeTest : public testing::Test {
 protected:
  void SetUp() override {
    EXPECT_TRUE(WriteTinyGguf(TinyModel(), {}, model_).ok());
    WriteText("prose.txt", kHeldOutText);
    std::string backwards(kHeldOutText);
    std::reverse(backwards.begin(), backwards.end());
    WriteText("backwards.txt", backwards);
  }

  std::string WriteText(const std::string& name, std::string_view text) const {
    EXPECT_TRUE(WriteFile(folder_.File(name), text).ok());
    return folder_.File(name);
  }

  // Quick runs. Options in `more` come last, so that they may replace what is here.
  Ended Analyze(const Arguments& more) const {
    Arguments command = {LORC_BINARY, "analyze", model_, "--threads", "1", "--weights", "f32"};
    for (const auto& [option, value] : {std::pair("--window", "128"),
                                        {"--calibrate-windows", "4"},
                                        {"--measure-windows", "2"},
                                        {"--anchor", "64"}}) {
      if (std::find(more.begin(), more.end(), option) != more.end()) continue;
      command.insert(command.end(), {option, value});
    }
    command.insert(command.end(), more.begin(), more.end());
    return RunToEnd(command);
  }

  // Status 2, one line that has all `parts`, and no page.
  void ExpectRefused(Arguments arguments, const Arguments& parts) const {
    const std::string page = folder_.File("refused.html");
    if (std::find(arguments.begin(), arguments.end(), "--html") == arguments.end()) {
      arguments.insert(arguments.end(), {"--html", page});
    }
    const Ended ended = Analyze(arguments);
    SCOPED_TRACE(testing::PrintToString(arguments) + "\n" + ended.err);
    EXPECT_EQ(ended.status, 2);
    EXPECT_EQ(ended.out, "");
    EXPECT_THAT(ended.err, StartsWith("error: "));
    EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 1);
    for (const std::string& part : parts) EXPECT_THAT(ended.err, HasSubstr(part));
    EXPECT_FALSE(std::filesystem::exists(page));
  }

  TempFolder folder_;
  const std::string model_ = folder_.File("tiny.gguf");
  const std::string prose_ = folder_.File("prose.txt");
  const std::string backwards_ = folder_.File("backwards.txt");
};

TEST_F(LorcAnalyzeTest, PrintsATable) {
  const Ended ended = Analyze({"--text", prose_, "--text", backwards_});
  ASSERT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  EXPECT_THAT(
      ended.out,
      AllOf(StartsWith("layer  cond(W_k)  cond(W_v)  ln cum.  NER K 1  NER K 2  rot. K 1"),
            HasSubstr("\n    1  "), HasSubstr("\n1  prose.txt "), HasSubstr("\n2  backwards.txt "),
            HasSubstr("ND-PPL 25 %"), HasSubstr("our definition"),
            HasSubstr("NER and ND-PPL: no correlation of 2 texts; 5 are needed")));
  EXPECT_THAT(ended.out, Not(HasSubstr("loss K")));
  const Ended alone = Analyze({"--text", prose_, "--gradients", "--per-layer", "0.5"});
  ASSERT_EQ(alone.status, 0) << alone.err;
  EXPECT_THAT(alone.out, AllOf(HasSubstr("loss K   loss V   ND-PPL\n"),
                               HasSubstr("ND-PPL of single layers, prose.txt: no correlation of 2 "
                                         "layers")));
  EXPECT_THAT(alone.out, Not(HasSubstr("NER and ND-PPL:")));  // between texts
}

TEST_F(LorcAnalyzeTest, PrintsOneJsonObject) {
  const Ended ended =
      Analyze({"--text", prose_, "--text", backwards_, "--gradients", "--gradient-windows", "2",
               "--levels", "1,0.5", "--per-layer", "0.25", "--json"});
  ASSERT_EQ(ended.status, 0) << ended.err;
  const json report = json::parse(ended.out);  // and nothing else
  EXPECT_EQ(report["kv_width"], 32);
  EXPECT_EQ(report["window"], 128);
  EXPECT_EQ(report["anchor"], 64);
  EXPECT_EQ(report["weights"], "f32");
  EXPECT_EQ(report["truncated_keys"], "rebuilt");
  EXPECT_THAT(report["nd_ppl_definition"], HasSubstr("our definition"));
  ASSERT_EQ(report["conditions"].size(), 2u);
  EXPECT_GT(report["conditions"][0]["key"], 1);
  EXPECT_GT(report["conditions"][0]["value"], 1);
  EXPECT_NEAR(report["conditions"][1]["cumulative_log"],
              std::log(report["conditions"][1]["key"].get<double>() *
                       report["conditions"][1]["value"].get<double>()),
              1e-9);
  ASSERT_EQ(report["texts"].size(), 2u);
  const json& text = report["texts"][0];
  EXPECT_EQ(text["name"], "prose.txt");
  EXPECT_EQ(report["texts"][1]["name"], "backwards.txt");
  EXPECT_EQ(text["statistics_tokens"], 4 * 128);
  EXPECT_EQ(text["measured_tokens"], 2 * 128);
  ASSERT_EQ(text["layers"].size(), 2u);
  for (const json& layer : text["layers"]) {
    for (const char* tensor : {"keys", "rotated_keys", "values"}) {
      const json& spectrum = layer[tensor];
      EXPECT_EQ(spectrum["singular_values"].size(), 32u);
      EXPECT_DOUBLE_EQ(spectrum["normalised_effective_rank"].get<double>() * 32,
                       spectrum["effective_rank"].get<double>());
      EXPECT_LE(spectrum["energy_ranks"]["0.9"], spectrum["energy_ranks"]["0.99"]);
      EXPECT_LE(spectrum["energy_ranks"]["0.99"], spectrum["energy_ranks"]["0.999"]);
    }
    for (const char* tensor : {"keys", "values"}) {
      EXPECT_EQ(layer["predicted_loss"][tensor].size(), 33u);
      EXPECT_GT(layer["predicted_loss"][tensor][0], 0);
      EXPECT_EQ(layer["predicted_loss"][tensor][32], 0);
    }
    EXPECT_EQ(layer["truncation"]["rank"], 8);
  }
  ASSERT_EQ(text["truncations"].size(), 2u);
  EXPECT_NEAR(text["truncations"][0]["nd_ppl"], 0, 1e-4);
  EXPECT_EQ(text["truncations"][1]["rank"], 16);
  EXPECT_EQ(text["truncations"][1]["nd_ppl_interval"].size(), 2u);
  EXPECT_EQ(text["layer_correlation"]["points"], 2);
  EXPECT_TRUE(text["layer_correlation"]["spearman"].is_null());
  ASSERT_EQ(report["text_correlations"].size(), 2u);
  EXPECT_EQ(report["text_correlations"][1]["level"], 0.5);
  EXPECT_EQ(report["text_correlations"][1]["points"], 2);
}

TEST_F(LorcAnalyzeTest, WritesASelfContainedPage) {
  const std::string page = folder_.File("page.html");
  const std::string nasty = WriteText("<b>&\".txt", kHeldOutText);
  const Ended ended = Analyze(
      {"--text", prose_, "--text", nasty, "--gradients", "--per-layer", "0.5", "--html", page});
  ASSERT_EQ(ended.status, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("wrote " + page));
  const std::string html = ReadFile(page);
  EXPECT_EQ(Malformed(html), "");
  for (const char* part :
       {"Normalised effective rank", "Spectra of keys before RoPE: prose.txt",
        "Spectra, mean over layers", "ND-PPL by share kept",
        "ND-PPL of one layer truncated to 50 %", "Does effective rank tell what truncation costs?",
        "our definition", "Predicted loss of values: prose.txt", "Condition numbers",
        "Every layer: prose.txt", "&lt;b&gt;&amp;&quot;.txt", "prefers-color-scheme: dark"}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
  // No resource from anywhere: the only addresses are SVG's name.
  EXPECT_EQ(Count(html, "http"), Count(html, "xmlns=\"http://www.w3.org/2000/svg\""));
  for (const char* part : {"<b>", "<script", "<link", "<img", "@import", "url(", "src=", "href="}) {
    EXPECT_THAT(html, Not(HasSubstr(part)));
  }
  for (const char* part : {">nan", ">-nan", ">inf", "no data"}) {
    EXPECT_THAT(html, Not(HasSubstr(part)));
  }
}

TEST_F(LorcAnalyzeTest, TheModelWritesWhereThereIsNoText) {
  const Ended ended = Analyze({"--json", "--window", "64", "--calibrate-windows", "2",
                               "--measure-windows", "1", "--levels", "0.5"});
  ASSERT_EQ(ended.status, 0) << ended.err;
  const json report = json::parse(ended.out);
  ASSERT_EQ(report["texts"].size(), 1u);
  EXPECT_EQ(report["texts"][0]["name"], "written by the model");
  EXPECT_EQ(report["texts"][0]["statistics_tokens"], 2 * 64);
  EXPECT_FALSE(report["texts"][0]["truncations"][0].contains("nd_ppl_interval"));  // one window
}

TEST_F(LorcAnalyzeTest, RefusesTextsThatAreNone) {
  const std::string latin1 = WriteText("latin1", "caf\xe9 au lait");
  ExpectRefused({"--text", latin1}, {latin1, "expected a UTF-8 text", "byte 3"});
  ExpectRefused({"--text", folder_.File("none")}, {folder_.File("none"), "No such file"});
  const std::string brief = WriteText("brief.txt", "the world");
  ExpectRefused({"--text", prose_, "--text", brief},
                {"brief.txt has ", "at least 256 are needed", "2 windows of 128"});
}

TEST_F(LorcAnalyzeTest, RefusesOptionsOutOfRange) {
  const auto refused = [&](const Arguments& options, const Arguments& parts) {
    Arguments arguments = {"--text", prose_};
    arguments.insert(arguments.end(), options.begin(), options.end());
    ExpectRefused(arguments, parts);
  };
  refused({"--levels", "0.5,1.5"}, {"--levels: expected shares in (0, 1], got 1.5"});
  refused({"--per-layer", "0"}, {"--per-layer: expected a share in (0, 1], got 0"});
  refused({"--window", "16"}, {"--window: expected 32 to 512 tokens, got 16"});
  refused({"--window", "64", "--gradients"}, {"--window: expected more than the 80", "got 64"});
  refused({"--anchor", "-16"}, {"--anchor", "got -16"});
  refused({"--html", folder_.path()}, {"--html: ", "is a folder"});
  refused({"--html", folder_.File("none/page")}, {"--html: ", "No such file"});
}

TEST_F(LorcAnalyzeTest, NamesTheWeightThatIsNotFiniteAndKeepsAnOldPage) {
  const std::string page = WriteText("page.html", "old");
  GgufBuilder gguf = MakeTinyGguf(TinyModel());
  const float nan = std::nanf("");
  std::memcpy(gguf.FindTensor("blk.1.attn_k.weight").data.data(), &nan, sizeof(nan));
  ASSERT_TRUE(WriteFile(model_, gguf.Build()).ok());
  ExpectRefused({"--text", prose_, "--html", page}, {"layer 1 W_k: ", "damaged"});
  EXPECT_EQ(ReadFile(page), "old");
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    EXPECT_THAT(entry.path().string(), Not(HasSubstr(".tmp")));
  }
}

}  // namespace
}  // namespace lorc::test
