// `lorc` as a program: exit status, output, and what it says of input that it can't use.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "runtime/kv/plan_file.h"
#include "runtime/weights/checkpoint.h"
#include "tests/compress/held_out_text.h"
#include "tests/service/process.h"
#include "tests/support/files.h"
#include "tests/support/tiny_model.h"

namespace lorc::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::EndsWith;
using testing::Ge;
using testing::HasSubstr;
using testing::Le;
using testing::StartsWith;

using Arguments = std::vector<std::string>;

Ended Lorc(const Arguments& arguments) {
  Arguments command = {LORC_BINARY};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return RunToEnd(command);
}

std::string Fingerprint(const std::string& model) {
  const auto checkpoint = Checkpoint::Open(model);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return (*checkpoint)->Fingerprint();
}

class LorcTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(folder_.File("out"));
    WriteModel("tiny.gguf", {});
    WriteText("text", kHeldOutText);
  }

  std::string WriteModel(const std::string& name, const TinyModelOptions& options) const {
    EXPECT_TRUE(WriteTinyGguf(TinyModel(options), {}, folder_.File(name)).ok());
    return folder_.File(name);
  }

  std::string WriteText(const std::string& name, std::string_view text) const {
    EXPECT_TRUE(WriteFile(folder_.File(name), text).ok());
    return folder_.File(name);
  }

  // Quick runs. Options in `more` come last, so that they may replace what is here.
  Arguments Compress(const Arguments& more) const {
    return Command({"compress", model_, "-o", plan_}, Exact(more));
  }
  Arguments CompressText(const Arguments& more) const {
    return Command({"compress", model_, "-o", plan_, "--calibrate", text_}, Exact(more));
  }
  Arguments Eval(const Arguments& more) const {
    return Command({"eval", model_, "--max-windows", "4"}, more);
  }

  void MakePlan(const Arguments& more = {}) const {
    const Ended ended = Lorc(CompressText(more));
    ASSERT_EQ(ended.status, 0) << ended.err;
  }

  // Bad input: status 2, one line that has all `parts`, and no file.
  void ExpectRefused(const Arguments& arguments, const Arguments& parts) const {
    const Ended ended = Lorc(arguments);
    SCOPED_TRACE(testing::PrintToString(arguments) + "\n" + ended.err);
    EXPECT_EQ(ended.status, 2);
    EXPECT_EQ(ended.out, "");
    EXPECT_THAT(ended.err, AllOf(StartsWith("error: "), EndsWith("\n")));
    EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 1);
    for (const std::string& part : parts) EXPECT_THAT(ended.err, HasSubstr(part));
    EXPECT_TRUE(std::filesystem::is_empty(folder_.File("out")));
  }

  // The same for what the parser of options finds: its status, one line and where help is.
  void ExpectUsage(const Arguments& arguments, const Arguments& parts) const {
    const Ended ended = Lorc(arguments);
    SCOPED_TRACE(testing::PrintToString(arguments) + "\n" + ended.err);
    EXPECT_THAT(ended.status, AllOf(Ge(100), Le(115)));
    EXPECT_EQ(ended.out, "");
    EXPECT_THAT(ended.err, EndsWith("\nRun with --help for more information.\n"));
    EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 2);
    for (const std::string& part : parts) EXPECT_THAT(ended.err, HasSubstr(part));
    EXPECT_TRUE(std::filesystem::is_empty(folder_.File("out")));
  }

  TempFolder folder_;
  const std::string model_ = folder_.File("tiny.gguf");
  const std::string text_ = folder_.File("text");
  const std::string plan_ = folder_.File("out/plan");

 private:
  // The default window is longer than the tests' windows of text.
  static Arguments Exact(Arguments more) {
    const auto given = [&more](const char* option) {
      return std::find(more.begin(), more.end(), option) != more.end();
    };
    if (!given("--exact-window") && !given("--method")) {
      more.insert(more.end(), {"--exact-window", "16"});
    }
    return more;
  }

  static Arguments Command(Arguments arguments, const Arguments& more) {
    const Arguments quick = {"--threads", "1", "--weights", "f32"};
    arguments.insert(arguments.end(), quick.begin(), quick.end());
    if (std::find(more.begin(), more.end(), "--window") == more.end()) {
      arguments.insert(arguments.end(), {"--window", "64"});
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

// ---- What it does

TEST_F(LorcTest, CompressesByKvCore) {
  const Ended ended = Lorc(CompressText({"--method", "kv-core"}));
  ASSERT_EQ(ended.status, 0) << ended.err;
  EXPECT_THAT(ended.out, AllOf(HasSubstr("96 of 128 ranks kept (75.0 %)"),
                               HasSubstr("anchor 256, exact prefix 16 and window 64 tokens"),
                               HasSubstr("wrote " + plan_)));
  EXPECT_THAT(ended.out + ended.err, HasSubstr("perplexity "));  // or a warning
  const auto plan = ReadPlan(plan_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_TRUE(plan->Validate(TinyModel().config()).ok());
  EXPECT_EQ(plan->base_fingerprint, Fingerprint(model_));
  EXPECT_EQ(plan->layers[0].key.layout, KvLayoutKind::kDirect);
  EXPECT_EQ(plan->layers[0].key.segments[0].type, SegmentType::kInt8);
  EXPECT_GT(plan->measured.num_tokens, 0);
}

TEST_F(LorcTest, CompressesByLossIntoSoManyBytes) {
  const Ended ended = Lorc(CompressText({"--bytes-per-token", "100", "--segment-width", "8"}));
  ASSERT_EQ(ended.status, 0) << ended.err;
  EXPECT_THAT(ended.out, AllOf(HasSubstr("method loss"), HasSubstr("int4")));
  EXPECT_THAT(ended.out + ended.err, HasSubstr("predicted +"));
  const auto plan = ReadPlan(plan_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_LE(plan->BytesPerToken(), 100);
  EXPECT_GT(plan->BytesPerToken(), 90);
  EXPECT_GT(plan->measured.predicted_loss, 0);
  EXPECT_EQ(plan->name, "loss-direct-" + std::to_string(plan->BytesPerToken()) + "B");
}

TEST_F(LorcTest, FindsTheSmallestPlanWithinALimit) {
  const Arguments limit = {"--max-ppl-increase", "5%", "--segment-width", "8"};
  MakePlan(limit);
  const auto plan = ReadPlan(plan_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_LE(plan->measured.perplexity, 1.05 * plan->measured.perplexity_full);
  EXPECT_EQ(plan->options.at("max_ppl_increase"), "0.05");
}

TEST_F(LorcTest, RefusesSizesThatCannotBe) {
  ExpectRefused(CompressText({"--bytes-per-token", "10"}),
                {"--bytes-per-token: expected at least 48", "got 10"});
  ExpectRefused(CompressText({"--bytes-per-token", "90", "--target-kept", "0.5"}),
                {"expected one of", "more than one"});
  ExpectRefused(CompressText({"--max-ppl-increase", "much"}), {"--max-ppl-increase", "got much"});
  ExpectRefused(CompressText({"--max-recall-increase", "0.1"}), {"belongs to --max-ppl-increase"});
  ExpectRefused(CompressText({"--exact-window", "64"}), {"--window: expected more than the 80"});
  ExpectRefused(CompressText({"--method", "full", "--moments", "text"}), {"--moments", "full"});
}

TEST_F(LorcTest, CompressesByLorc) {
  MakePlan({"--method", "lorc", "--min-rank", "8"});
  const auto plan = ReadPlan(plan_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->name, "lorc-rebuilt-min8-bf16");
  EXPECT_EQ(plan->layers[0].key.rank, 32);
  EXPECT_EQ(plan->layers[1].key.rank, 8);
  EXPECT_EQ(plan->layers[1].key.layout, KvLayoutKind::kRebuilt);
  EXPECT_EQ(plan->layers[1].key.segments[0].type, SegmentType::kBf16);
  EXPECT_EQ(plan->exact_window, 0);
}

TEST_F(LorcTest, CompressesWithoutAText) {
  const Ended ended = Lorc(Compress({"--window", "48", "--calibrate-windows", "2", "--json"}));
  ASSERT_EQ(ended.status, 0) << ended.err;
  const json header = json::parse(ended.out);  // and nothing else
  EXPECT_EQ(header["options"]["calibration"],
            "2 windows of 48 tokens that end as they begin, written by the model, seed 0");
  EXPECT_THAT(ended.err, HasSubstr("perplexity "));
}

TEST_F(LorcTest, SearchesOverWindowsAnchorsAndLayouts) {
  const Arguments search = {"--search", "--keys",
                            "any",      "--bytes-per-token",
                            "100",      "--segment-width",
                            "8",        "--window",
                            "288",      "--context",
                            "400",      "--exact-window",
                            "64",       "--calibrate-windows",
                            "2"};
  const Ended ended = Lorc(CompressText(search));
  ASSERT_EQ(ended.status, 0) << ended.err;
  EXPECT_THAT(ended.out,
              AllOf(HasSubstr("\nrebuilt  "), HasSubstr("chosen\n"), HasSubstr("excluded: "),
                    HasSubstr("bytes per sequence of 400 tokens"), HasSubstr("MMAC/token")));
  Arguments with_json = search;
  with_json.emplace_back("--json");
  const Ended again = Lorc(CompressText(with_json));
  ASSERT_EQ(again.status, 0) << again.err;
  const json report = json::parse(again.out);
  EXPECT_EQ(report["search"]["context"], 400);
  EXPECT_EQ(report["search"]["decode_full"]["multiply_adds"], 2 * 2 * 4 * 16 * 400);
  int chosen = 0;
  for (const json& candidate : report["search"]["candidates"]) {
    if (candidate.contains("excluded")) continue;
    EXPECT_GT(candidate["decode"]["cache_bytes_read"], 0);
    if (!candidate["chosen"]) continue;
    ++chosen;
    EXPECT_EQ(candidate["exact_window"], report["exact_window"]);
    EXPECT_EQ(candidate["bytes_per_token"], report["bytes_per_token"]);
    EXPECT_EQ(candidate["perplexity"], report["measured"]["perplexity"]);
  }
  EXPECT_EQ(chosen, 1);
}

TEST_F(LorcTest, RefusesSearchesThatCannotBe) {
  ExpectRefused(CompressText({"--context", "400"}), {"--context belongs to --search"});
  ExpectRefused(CompressText({"--max-decode-macs", "1"}),
                {"--max-decode-macs belongs to --search"});
  ExpectRefused(CompressText({"--keys", "any"}), {"--keys any belongs to --search"});
  ExpectRefused(CompressText({"--search", "--context", "513"}), {"--context: expected", "got 513"});
  ExpectRefused(CompressText({"--search", "--ranks", "uniform"}),
                {"--search: expected --bytes-per-token", "rank options"});
  ExpectRefused(CompressText({"--search", "--max-ppl-increase", "1%"}),
                {"--search", "--max-ppl-increase"});
  for (const char* method : {"kv-core", "full"}) {
    ExpectRefused(CompressText({"--search", "--method", method, "--exact-window", "16"}),
                  {"--search: expected method loss", method});
  }
}

TEST_F(LorcTest, KeepsStatisticsForTheNextRun) {
  const std::string statistics = folder_.File("statistics");
  const Arguments size = {"--bytes-per-token", "90", "--segment-width", "8"};
  MakePlan(size);
  const std::string alone = ReadFile(plan_);
  MakePlan({"--statistics", statistics});
  const std::string kept = ReadFile(statistics);
  EXPECT_NE(kept, "");
  Arguments again = size;
  again.insert(again.end(), {"--statistics", statistics});
  MakePlan(again);
  EXPECT_EQ(ReadFile(plan_), alone);
  EXPECT_EQ(ReadFile(statistics), kept);
  std::filesystem::remove(plan_);
  ExpectRefused(CompressText({"--statistics", statistics, "--anchor", "32"}),
                {statistics, "anchor 256", "remove the file"});
  ExpectRefused(CompressText({"--statistics", text_}), {text_, "no safetensors file"});
  ExpectRefused(CompressText({"--statistics", folder_.path()}), {"--statistics: ", "is a folder"});
}

// At once, without a text and without statistics; with one it is measured.
TEST_F(LorcTest, KeepsAllNumbersInAnyType) {
  const Ended ended = Lorc(Compress({"--method", "full", "--latent-type", "int4", "--segment-width",
                                     "8", "--exact-window", "32"}));
  ASSERT_EQ(ended.status, 0) << ended.err;
  EXPECT_THAT(ended.out, AllOf(HasSubstr("method full, 128 of 128 ranks kept (100.0 %)"),
                               HasSubstr("32 int4"), HasSubstr("exact prefix 16 and window 32")));
  EXPECT_THAT(ended.err, HasSubstr("has not been measured"));
  auto plan = ReadPlan(plan_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->name, "full-int4");
  EXPECT_EQ(plan->anchor, 0);
  EXPECT_EQ(plan->BytesPerToken(), 2 * 2 * 2 * (8 + 2 * 4));
  for (const SegmentType type : kSegmentTypes) {
    const Ended measured = Lorc(CompressText({"--method", "full", "--latent-type", Name(type)}));
    ASSERT_EQ(measured.status, 0) << measured.err;
    plan = ReadPlan(plan_);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const TensorPlan& key = plan->layers[1].key;
    EXPECT_EQ(key.layout, KvLayoutKind::kFull);
    EXPECT_EQ(key.groups, 2);
    EXPECT_EQ(key.segments, (std::vector<CacheSegment>{{type, 16}}));
    EXPECT_GT(plan->measured.num_tokens, 0);
    // The tiny model is near chance: what its cache holds hardly matters.
    EXPECT_NEAR(plan->measured.perplexity / plan->measured.perplexity_full, 1, 0.05) << Name(type);
  }
}

TEST_F(LorcTest, ShowsPlans) {
  MakePlan({"--method", "kv-core"});
  const Ended table = Lorc({"plan", "show", plan_});
  ASSERT_EQ(table.status, 0) << table.err;
  EXPECT_THAT(table.out,
              AllOf(HasSubstr("kv-core-direct-75%-int8 for tiny"),
                    HasSubstr("fingerprint " + Fingerprint(model_)), HasSubstr("ranks: uniform"),
                    HasSubstr("target_kept: 0.75"), HasSubstr("given text"), HasSubstr("cond(W)"),
                    HasSubstr("112 bytes per token of 256 (43.8 %)"), HasSubstr("measured: "),
                    HasSubstr("perplexity")));
  const Ended shown = Lorc({"plan", "show", plan_, "--json"});
  ASSERT_EQ(shown.status, 0) << shown.err;
  const json header = json::parse(shown.out);
  EXPECT_EQ(header["format"], "lorc-kv-plan");
  EXPECT_EQ(header["method"], "kv-core");
  EXPECT_EQ(header["base"]["fingerprint"], Fingerprint(model_));
  EXPECT_EQ(header["bytes_per_token"], 4 * (24 + 4));  // a scale per 32 numbers
  ASSERT_EQ(header["layers"].size(), 2);
  EXPECT_EQ(header["layers"][1]["value"]["rank"], 24);
  EXPECT_EQ(header["layers"][1]["value"]["facts"]["singular_values"].size(), 9);
  EXPECT_GT(header["measured"]["perplexity_full"], 1);
}

TEST_F(LorcTest, Evaluates) {
  const Ended alone = Lorc(Eval({"--text", text_, "--json"}));
  ASSERT_EQ(alone.status, 0) << alone.err;
  const json full = json::parse(alone.out);
  EXPECT_EQ(full["windows"], 4);
  EXPECT_EQ(full["bytes_per_token"], 2 * 2 * 32 * 4);
  EXPECT_EQ(full["exact_bytes_per_sequence"], 0);
  EXPECT_EQ(full["position_nll"].size(), 8);
  EXPECT_GT(full["recall"], 0);
  EXPECT_NEAR(full["perplexity"], std::exp(full["nll"].get<double>()), 1e-9);

  // All ranks in float32: another way to write the same model.
  MakePlan({"--target-kept", "1", "--latent-type", "f32", "--exact-window", "16"});
  const Ended with_plan = Lorc(Eval({"--text", text_, "--plan", plan_, "--json"}));
  ASSERT_EQ(with_plan.status, 0) << with_plan.err;
  const json both = json::parse(with_plan.out);
  EXPECT_EQ(both["uncompressed"], full);
  EXPECT_NEAR(both["nll"], full["nll"].get<double>(), 1e-4);
  EXPECT_NEAR(both["recall"], full["recall"].get<double>(), 1e-3);
  EXPECT_NEAR(both["perplexity_change"], 0, 1e-4);
  EXPECT_EQ(both["bytes_per_token"], 2 * 2 * 32 * 4);
  EXPECT_GT(both["exact_bytes_per_sequence"], 0);

  const Ended table = Lorc(Eval({"--text", text_, "--plan", plan_}));
  ASSERT_EQ(table.status, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("uncompressed"), HasSubstr("\nplan "),
                               HasSubstr("loss by position, eighths of the window")));
}

// Everything at once, on two plans: one that is the model in other words, one that is not.
TEST_F(LorcTest, EvaluatesPlansSideBySide) {
  const std::string close = folder_.File("close.plan");
  const std::string far = folder_.File("far <&>.plan");
  MakePlan({"--target-kept", "1", "--latent-type", "f32", "--exact-window", "16"});
  std::filesystem::rename(plan_, close);
  MakePlan({"--target-kept", "0.25", "--exact-window", "16"});
  std::filesystem::rename(plan_, far);
  const std::string questions = WriteText(
      "questions.jsonl",
      R"({"question": "the world", "choices": [" hello", " is what it was"], "answer": 1})"
      "\n"
      R"({"question": "hello", "choices": [" there", " the the", " world"], "answer": 0})");
  const std::string page = folder_.File("page.html");
  const Arguments all = {"--text",    text_,         "--plan",
                         close,       "--plan",      far,
                         "--choices", questions,     "--recall-distances",
                         "40,300",    "--agreement", "20"};
  Arguments with_json = all;
  with_json.insert(with_json.end(), {"--json", "--html", page});
  const Ended ended = Lorc(Eval(with_json));
  ASSERT_EQ(ended.status, 0) << ended.err;
  const json report = json::parse(ended.out);
  const json& full = report["uncompressed"];
  ASSERT_EQ(report["plans"].size(), 2);
  EXPECT_EQ(full["agreement"]["identical"], 1);
  EXPECT_EQ(full["agreement"]["common_prefix"], 20);
  EXPECT_EQ(full["agreement"]["sequences"], 4);
  EXPECT_EQ(full["choices"]["questions"], 2);
  EXPECT_EQ(full["recall_distances"][1]["distance"], 300);
  EXPECT_FALSE(full.contains("perplexity_change"));
  for (const json& plan : report["plans"]) {
    const double change = plan["perplexity_change"];
    EXPECT_NEAR(change, plan["perplexity"].get<double>() / full["perplexity"].get<double>() - 1,
                1e-9);
    for (const json& at : {plan, plan["recall_distances"][0], plan["recall_distances"][1]}) {
      const char* key = at.contains("distance") ? "change" : "perplexity_change";
      const json& interval = at[std::string(key) + "_interval"];
      EXPECT_LE(interval[0], at[key]);
      EXPECT_GE(interval[1], at[key]);
    }
    EXPECT_TRUE(plan["choices"].contains("normalised_accuracy_change_interval"));
    EXPECT_TRUE(plan.contains("recall_change_interval"));
    EXPECT_EQ(plan["position_nll"].size(), 8);
  }
  const json& same = report["plans"][0];
  const json& other = report["plans"][1];
  EXPECT_EQ(same["plan"], close);
  EXPECT_EQ(other["name"], "loss-direct-25%-int8");
  EXPECT_NEAR(same["perplexity_change"], 0, 1e-4);
  EXPECT_NEAR(same["recall_distances"][1]["change"], 0, 1e-3);
  EXPECT_EQ(same["choices"]["same_pick"], 1);
  EXPECT_GT(std::abs(other["perplexity_change"].get<double>()), 1e-3);
  EXPECT_LT(other["agreement"]["same_choice"], 1);

  const std::string html = ReadFile(page);
  for (const char* part :
       {"<!DOCTYPE html>", "Perplexity against memory", "Recall against memory",
        "Multiple choice against memory", "Agreement against memory", "Loss by position",
        "Recall by distance", ">close<", ">far &lt;&amp;&gt;<", "recall at 300", "same choice"}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
  EXPECT_THAT(html, testing::Not(HasSubstr("far <&>")));

  const Ended table = Lorc(Eval(all));
  ASSERT_EQ(table.status, 0) << table.err;
  EXPECT_THAT(table.out,
              AllOf(HasSubstr("\nclose "), HasSubstr("\nfar <&> "), HasSubstr("recall by distance"),
                    HasSubstr("multiple choice, 2 questions"), HasSubstr("same picks"),
                    HasSubstr("4 of 20 tokens"), HasSubstr("same choice")));
}

TEST_F(LorcTest, EvaluatesTheModelAloneOnAPage) {
  const std::string page = folder_.File("page.html");
  const Ended ended = Lorc(Eval({"--text", text_, "--html", page}));
  ASSERT_EQ(ended.status, 0) << ended.err;
  EXPECT_THAT(ReadFile(page), AllOf(HasSubstr("uncompressed"), HasSubstr("Loss by position")));
  // Plans of the same file name are told apart by their paths.
  MakePlan();
  const std::string again = folder_.File("plan");
  std::filesystem::copy_file(plan_, again);
  const Ended two = Lorc(Eval({"--text", text_, "--plan", plan_, "--plan", again}));
  ASSERT_EQ(two.status, 0) << two.err;
  EXPECT_THAT(two.out, AllOf(HasSubstr("\n" + plan_), HasSubstr("\n" + again)));
}

// ---- What it refuses

TEST_F(LorcTest, RefusesTextsThatAreNone) {
  const std::string empty = WriteText("empty", "");
  const std::string latin1 = WriteText("latin1", "caf\xe9 au lait");
  const std::string binary = WriteText("binary", std::string("a\0b", 3));
  const std::string brief = WriteText("short", "the world");
  const auto refused = [&](const std::string& text, const Arguments& parts) {
    ExpectRefused(Eval({"--text", text}), parts);
    ExpectRefused(Compress({"--calibrate", text}), parts);
  };
  refused(folder_.File("none"), {folder_.File("none"), "No such file"});
  refused(folder_.path(), {folder_.path(), "expected a text file, got a folder"});
  refused(empty, {empty, "empty"});
  refused(latin1, {latin1, "expected a UTF-8 text", "byte 3", "iconv"});
  refused(binary, {binary, "expected a UTF-8 text", "NUL"});
  refused(brief, {"64", "longer text", "smaller --window"});
}

TEST_F(LorcTest, RefusesModelsThatAreNone) {
  const std::string none = folder_.File("none.gguf");
  ExpectRefused({"compress", none, "-o", plan_}, {none, "No such file"});
  ExpectRefused({"eval", none, "--text", text_}, {none, "No such file"});
  ExpectRefused({"compress", text_, "-o", plan_}, {text_, "GGUF"});
  ExpectRefused({"compress", folder_.path(), "-o", plan_}, {folder_.path(), "config.json"});
}

TEST_F(LorcTest, RefusesPlansThatAreNone) {
  const std::string made = folder_.File("plan");
  MakePlan();
  std::filesystem::rename(plan_, made);
  const std::string bytes = ReadFile(made);
  const auto refused = [&](const std::string& plan, const Arguments& parts) {
    ExpectRefused({"plan", "show", plan}, parts);
    ExpectRefused(Eval({"--text", text_, "--plan", plan}), parts);
  };
  refused(folder_.File("none"), {folder_.File("none"), "No such file"});
  refused(folder_.path(), {folder_.path(), "folder", "file is needed"});
  refused(text_, {text_, "no safetensors file"});
  const std::string empty = WriteText("empty", "");
  refused(empty, {empty, "no safetensors file", "0 bytes"});
  for (const size_t size : {size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    const std::string cut = WriteText("cut", bytes.substr(0, size));
    refused(cut, {cut, "incomplete or damaged"});
  }
}

TEST_F(LorcTest, RefusesPlansOfOtherModels) {
  const std::string made = folder_.File("plan");
  MakePlan();
  std::filesystem::rename(plan_, made);
  TinyModelOptions other, larger;
  other.seed = 2;
  larger.num_layers = 3;
  for (const TinyModelOptions& options : {other, larger}) {
    const std::string model = WriteModel("other.gguf", options);
    ExpectRefused({"eval", model, "--text", text_, "--plan", made, "--window", "64"},
                  {"another model", Fingerprint(model_), Fingerprint(model), "lorc compress"});
  }
}

TEST_F(LorcTest, RefusesOptionsOutOfRange) {
  for (const char* kept : {"0", "1.5", "-0.5", "nan"}) {
    ExpectRefused(CompressText({"--target-kept", kept}),
                  {"--target-kept: expected a share in (0, 1], got ", kept});
  }
  ExpectRefused(CompressText({"--anchor", "7"}), {"--anchor: expected a multiple of 16", "got 7"});
  ExpectRefused(CompressText({"--exact-window", "5"}),
                {"--exact-window: expected a multiple of 16", "got 5"});
  ExpectRefused(CompressText({"--exact-prefix", "-16"}), {"--exact-prefix", "got -16"});
  ExpectRefused(CompressText({"--groups", "3"}),
                {"--groups: expected a divisor of 2 KV heads, got 3"});
  ExpectRefused(CompressText({"--window", "513"}),
                {"--window: expected 32 to 512 tokens", "got 513"});
  ExpectRefused(CompressText({"--method", "lorc", "--min-rank", "33"}),
                {"--min-rank: expected 1 to 32, got 33"});
  ExpectRefused(CompressText({"--method", "lorc", "--target-kept", "0.3"}),
                {"--target-kept: expected at least 0.516", "--ranks uniform", "got 0.3"});
  ExpectRefused(CompressText({"--method", "lorc", "--threshold", "nan"}),
                {"--threshold: expected a finite number, got nan"});
  ExpectRefused(CompressText({"--min-rank", "8"}), {"--min-rank", "--ranks progressive"});
  ExpectRefused(CompressText({"--segment-width", "20"}),
                {"--segment-width: expected a multiple of 8", "got 20"});
  for (const char* option : {"--groups", "--target-kept", "--anchor"}) {
    ExpectRefused(CompressText({"--method", "full", option, "1"}), {option, "method full"});
  }
  for (const char* window : {"513", "1", "0", "-5"}) {
    ExpectRefused(Eval({"--text", text_, "--window", window}),
                  {"--window: expected 2 to 512 tokens", std::string("got ") + window});
  }
}

TEST_F(LorcTest, RefusesEvaluationsThatDoNotFit) {
  const auto refused = [&](const Arguments& more, const Arguments& parts) {
    Arguments arguments = {"--text", text_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    ExpectRefused(Eval(arguments), parts);
  };
  // A window of 64 has passages of 20 tokens, and prompts of 32.
  for (const char* distances : {"493", "40,493", "19", "-3"}) {
    refused({"--recall-distances", distances},
            {"--recall-distances: expected 20 to 492 tokens", "context of 512"});
  }
  for (const char* tokens : {"481", "-1"}) {
    refused({"--agreement", tokens}, {"--agreement: expected 0 to 480 tokens", tokens});
  }
  const std::string brief = WriteText("brief", std::string(kHeldOutText.substr(0, 200)));
  ExpectRefused(Eval({"--text", brief, "--recall-distances", "300"}),
                {"--recall-distances: expected 20 to ", "got 300"});
  const auto questions = [&](const std::string& line, const Arguments& parts) {
    const std::string path = WriteText("questions.jsonl", line);
    refused({"--choices", path}, parts);
  };
  questions("{}", {"questions.jsonl, line 1", "question is missing"});
  questions("\n{\"question\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": 2}",
            {"questions.jsonl, line 2", "answer is 2"});
  questions("{\"question\": \"" + std::string(600, '#') +
                "\", \"choices\": [\"a\", \"b\"], \"answer\": 1}",
            {"questions.jsonl, line 1", "expected at most 512 tokens", "601"});
  refused({"--choices", folder_.File("none")}, {folder_.File("none"), "No such file"});
  refused({"--html", folder_.path()}, {"--html: ", "is a folder"});
  refused({"--html", folder_.File("none/page")}, {"--html: ", "No such file"});
}

TEST_F(LorcTest, RefusesOptionsThatItDoesNotKnow) {
  ExpectUsage(CompressText({"--method", "pca"}),
              {"--method: pca not in {full,lorc,kv-core,kq-svd,think,loss}"});
  ExpectUsage(CompressText({"--keys", "sideways"}),
              {"--keys: sideways not in {direct,rebuilt,any}"});
  ExpectUsage(CompressText({"--latent-type", "int5"}), {"--latent-type: int5 not in {f32,bf16,"});
  ExpectUsage(CompressText({"--target-kept", "most"}), {"--target-kept", "most"});
  ExpectUsage(CompressText({"--calibrate-windows", "0"}), {"--calibrate-windows", "0"});
  ExpectUsage(CompressText({"--nonsense"}), {"--nonsense"});
  ExpectUsage({"compress", model_}, {"--output is required"});
  ExpectUsage({"eval", model_}, {"--text is required"});
  ExpectUsage(Eval({"--text", text_, "--max-windows", "-1"}), {"--max-windows", "-1"});
  ExpectUsage(Eval({"--text", text_, "--recall-distances", "far"}), {"--recall-distances", "far"});
  ExpectUsage({}, {"subcommand"});
}

// Said at once: without a text, compressing takes minutes.
TEST_F(LorcTest, RefusesOutputsThatItCannotWrite) {
  const auto refused = [&](const std::string& out, const std::string& part) {
    ExpectRefused({"compress", model_, "-o", out}, {"--output: ", out, part});
  };
  refused(folder_.File("none/plan"), "No such file");
  refused(folder_.path(), "is a folder");
  refused(text_ + "/plan", "Not a directory");
}

// A limit of the file size stands for a full disk.
TEST_F(LorcTest, AFullDiskLeavesNothing) {
  const auto run = [](const Arguments& arguments) {
    // 4 KiB: more than the plan's first bytes, less than the plan.
    Arguments command = {"/bin/sh", "-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"",
                         LORC_BINARY};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return RunToEnd(command);
  };
  for (const Arguments& more : {Arguments{}, {"--statistics", folder_.File("out/statistics")}}) {
    const Ended ended = run(CompressText(more));
    EXPECT_EQ(ended.status, 1);
    EXPECT_EQ(ended.out, "");
    EXPECT_THAT(ended.err, AllOf(StartsWith("error: cannot write \"" + folder_.File("out/")),
                                 HasSubstr("File too large"), HasSubstr("free some space")));
    EXPECT_TRUE(std::filesystem::is_empty(folder_.File("out")));
  }
  MakePlan();
  const std::string old = ReadFile(plan_);
  EXPECT_EQ(run(CompressText({"--bytes-per-token", "100"})).status, 1);
  EXPECT_EQ(ReadFile(plan_), old);
}

TEST_F(LorcTest, AnOldPlanStaysWhereTheNewOneFails) {
  MakePlan();
  const std::string old = ReadFile(plan_);
  const Ended ended = Lorc(CompressText({"--groups", "3"}));
  EXPECT_EQ(ended.status, 2);
  EXPECT_EQ(ReadFile(plan_), old);
  MakePlan({"--target-kept", "0.5"});
  EXPECT_NE(ReadFile(plan_), old);
}

}  // namespace
}  // namespace lorc::test
