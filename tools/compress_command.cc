#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "runtime/compress/compress.h"
#include "runtime/kv/plan_file.h"
#include "runtime/weights/status_macros.h"
#include "tools/candidate_table.h"
#include "tools/commands.h"
#include "tools/model_options.h"
#include "tools/output_file.h"
#include "tools/plan_table.h"
#include "tools/terminal.h"

namespace lorc {
namespace {

// What the papers' methods are published with: no exact tokens, no quantised latents.
bool AsPublished(const std::string& method) {
  return method == "lorc" || method == "kq-svd" || method == "think";
}

// Share of the full cache's bytes where nothing says how small the plan shall be.
constexpr double kDefaultShare = 0.16;

struct CompressCommand {
  ModelOptions model;
  std::string out;
  std::string method = "loss";
  std::string calibrate;
  std::string statistics;
  std::string keys;
  std::string ranks;
  std::string moments;
  std::string latent_type;
  bool uniform = false;
  bool group_similar_heads = false;
  bool json = false;
  bool search = false;
  int context = 0;
  double max_decode_macs = 0;
  int64_t bytes_per_token = 0;
  std::string max_ppl_increase;
  double max_recall_increase = 0;
  double target_kept = 0.75;
  double tail_energy = 0.1;
  int min_rank = 0;
  double threshold = 0;
  int groups = 1;
  int segment_width = 32;
  int exact_prefix = 16;
  int exact_window = 64;
  int anchor = 256;
  int window = 0;
  int calibration_windows = 15;
  int gradient_windows = 8;
  uint64_t seed = 0;
  CLI::App* app = nullptr;

  bool Given(const char* option) const { return app->count(option) > 0; }

  absl::StatusOr<CompressRequest> Request(const ModelConfig& config) const {
    CompressRequest request;
    request.window = window;
    request.calibration_windows = calibration_windows;
    request.gradient_windows = gradient_windows;
    request.seed = seed;
    CompressionOptions& options = request.options;
    const bool published = AsPublished(method);
    options.method = method;
    options.keys = keys == "rebuilt" || (keys.empty() && method == "lorc") ? KvLayoutKind::kRebuilt
                                                                           : KvLayoutKind::kDirect;
    for (const MomentSource source : {MomentSource::kText, MomentSource::kWeights,
                                      MomentSource::kGain, MomentSource::kInputs}) {
      if (moments == Name(source)) options.moments = source;
    }
    const bool per_head = method == "kq-svd" || method == "think";
    options.groups = !Given("--groups") && per_head ? config.num_kv_heads : groups;
    options.group_similar_heads = group_similar_heads;
    options.segment_width = segment_width;
    options.target_kept = target_kept;
    options.tail_energy = tail_energy;
    if (Given("--min-rank")) options.min_rank = min_rank;
    if (Given("--threshold")) options.threshold = threshold;
    options.latent_type = SegmentType::kInt8;
    if (published) options.latent_type = SegmentType::kBf16;
    if (!latent_type.empty()) options.latent_type = *SegmentTypeFromName(latent_type);
    options.exact_prefix = published && !Given("--exact-prefix") ? 0 : exact_prefix;
    options.exact_window = published && !Given("--exact-window") ? 0 : exact_window;
    options.anchor = anchor;
    LORC_RETURN_IF_ERROR(ChooseSize(config, &request));
    LORC_RETURN_IF_ERROR(ChooseSearch(config, &request));
    return request;
  }

  absl::Status ChooseSearch(const ModelConfig& config, CompressRequest* request) const {
    if (!search) {
      for (const char* option : {"--context", "--max-decode-macs"}) {
        if (!Given(option)) continue;
        return absl::InvalidArgumentError(absl::StrCat(option, " belongs to --search"));
      }
      if (keys != "any") return absl::OkStatus();
      return absl::InvalidArgumentError("--keys any belongs to --search");
    }
    CandidateSearch& of = request->search.emplace();
    of.context = Given("--context") ? context : config.context_length;
    of.keys = {request->options.keys};
    if (keys == "any") of.keys = {KvLayoutKind::kDirect, KvLayoutKind::kRebuilt};
    if (Given("--max-decode-macs")) of.max_decode_macs = max_decode_macs;
    return absl::OkStatus();
  }

  // How small: bytes, a limit of quality, or ranks of one type.
  absl::Status ChooseSize(const ModelConfig& config, CompressRequest* request) const {
    CompressionOptions& options = request->options;
    const bool by_limit = Given("--max-ppl-increase");
    const bool by_bytes = Given("--bytes-per-token");
    const bool by_ranks = uniform || !ranks.empty() || Given("--target-kept") ||
                          Given("--min-rank") || Given("--threshold") || Given("--tail-energy") ||
                          !latent_type.empty();
    if (by_limit + by_bytes + by_ranks > 1) {
      return absl::InvalidArgumentError(
          "expected one of --bytes-per-token, --max-ppl-increase and rank options (--ranks, "
          "--target-kept, --latent-type, ...), got more than one of them");
    }
    if (Given("--max-recall-increase") && !by_limit) {
      return absl::InvalidArgumentError("--max-recall-increase belongs to --max-ppl-increase");
    }
    if (by_limit) {
      QualityLimit limit;
      LORC_ASSIGN_OR_RETURN(limit.max_perplexity_increase, ParseShare(max_ppl_increase));
      if (Given("--max-recall-increase")) limit.max_recall_increase = max_recall_increase;
      request->limit = limit;
    } else if (by_bytes) {
      options.bytes_per_token = bytes_per_token;
    } else if (!by_ranks && method == "loss") {
      LORC_RETURN_IF_ERROR(options.Validate(config));
      const int64_t full = KvPlan::Full(config, SegmentType::kBf16).BytesPerToken();
      options.bytes_per_token =
          std::max<int64_t>(std::llround(kDefaultShare * static_cast<double>(full)),
                            MixedByteRange(config, options).least);
    }
    const std::string rule = uniform                                         ? "uniform"
                             : !ranks.empty()                                ? ranks
                             : method == "lorc"                              ? "progressive"
                             : method == "kq-svd" && !Given("--target-kept") ? "tail"
                                                                             : "uniform";
    for (const RankRule known :
         {RankRule::kUniform, RankRule::kProgressive, RankRule::kEnergy, RankRule::kTail}) {
      if (rule == Name(known)) options.rank_rule = known;
    }
    return absl::OkStatus();
  }

  // "1%" or "0.01".
  static absl::StatusOr<double> ParseShare(std::string_view text) {
    const bool percent = text.ends_with('%');
    if (percent) text.remove_suffix(1);
    double value = 0;
    if (!absl::SimpleAtod(absl::string_view(text.data(), text.size()), &value) ||
        !std::isfinite(value) || value <= 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--max-ppl-increase: expected a share such as 1% or 0.01, got ",
                       absl::string_view(text.data(), text.size()), percent ? "%" : ""));
    }
    return percent ? value / 100 : value;
  }

  // Method full has no bases: options that shape them are mistakes.
  absl::Status CheckFull() const {
    if (method != "full") return absl::OkStatus();
    for (const char* option :
         {"--keys", "--groups", "--group-similar-heads", "--moments", "--bytes-per-token",
          "--max-ppl-increase", "--ranks", "--uniform", "--target-kept", "--tail-energy",
          "--min-rank", "--threshold", "--anchor", "--gradient-windows", "--statistics"}) {
      if (!Given(option)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(option,
                       ": expected nothing with method full, which keeps all keys and "
                       "values; use --latent-type and --segment-width"));
    }
    return absl::OkStatus();
  }

  absl::Status Run() const {
    LORC_RETURN_IF_ERROR(CheckFull());
    LORC_RETURN_IF_ERROR(CheckOutputFile("--output", out));
    if (Given("--statistics")) LORC_RETURN_IF_ERROR(CheckOutputFile("--statistics", statistics));
    std::string text;
    if (!calibrate.empty()) {
      LORC_ASSIGN_OR_RETURN(text, ReadTextFile(calibrate));
    }
    auto opened = OpenModel(model);
    if (!opened.ok()) return opened.status();
    LORC_ASSIGN_OR_RETURN(CompressRequest request, Request(opened->checkpoint->config()));
    request.text = std::move(text);
    request.weight_type = opened->weight_type;
    request.statistics_path = statistics;
    ProgressLine progress;
    const auto result =
        Compress(*opened->backend, *opened->checkpoint, *opened->tokenizer, request,
                 [&](const std::string& stage, double share) { progress.Show(stage, share); });
    progress.Clear();
    if (!result.ok()) return result.status();
    LORC_RETURN_IF_ERROR(WritePlan(result->plan, out));
    const Verdict verdict = JudgePlan(result->plan.measured);
    FILE* judgement = stdout;
    DecodeCost full;
    if (search) {
      const ModelConfig& config = opened->checkpoint->config();
      LORC_ASSIGN_OR_RETURN(full, FindDecodeCost(KvPlan::Full(config, SegmentType::kBf16), config,
                                                 DType::kBf16, request.search->context));
    }
    if (json) {
      std::string header = PlanHeaderJson(result->plan);
      if (search) {
        auto with_candidates = nlohmann::json::parse(header);
        with_candidates["search"] = CandidatesJson(*result, request.search->context, full);
        header = with_candidates.dump(2);
      }
      std::printf("%s\n", header.c_str());
      judgement = stderr;
    } else {
      if (search) {
        std::printf("%s\n", CandidateTable(*result, request.search->context, full).c_str());
      }
      std::printf("%s", PlanTable(result->plan).c_str());
      std::printf("wrote %s\n", out.c_str());
    }
    if (verdict.warning) judgement = stderr;
    std::fprintf(judgement, "%s%s\n", verdict.warning ? "warning: " : "", verdict.text.c_str());
    return absl::OkStatus();
  }
};

std::vector<std::string> TypeNames() {
  std::vector<std::string> names;
  for (const SegmentType type : kSegmentTypes) names.emplace_back(Name(type));
  return names;
}

}  // namespace

void AddCompressCommand(CLI::App& app, int* status) {
  auto command = std::make_shared<CompressCommand>();
  CLI::App* sub = app.add_subcommand("compress", "Make a KV plan for a model and measure it");
  command->app = sub;
  command->model.AddTo(*sub);
  sub->add_option("-o,--output", command->out, "The plan's file")->required();
  std::vector<std::string> methods = {"full"};
  std::string summaries = "How bases are found: full, none, all keys and values;";
  for (const Method& method : Methods()) {
    methods.emplace_back(method.name);
    absl::StrAppend(&summaries, " ", std::string(method.name), ", ", std::string(method.summary),
                    ";");
  }
  summaries.back() = '.';
  sub->add_option("--method", command->method, summaries)
      ->check(CLI::IsMember(methods))
      ->capture_default_str();
  sub->add_option("--bytes-per-token", command->bytes_per_token,
                  "Size of the plan, of a token beyond the exact ones: ranks and bits are chosen "
                  "together (default of method loss: 16 % of the full cache)")
      ->check(CLI::PositiveNumber);
  sub->add_option("--max-ppl-increase", command->max_ppl_increase,
                  "The smallest plan whose measured perplexity is at most this above the "
                  "uncompressed model's, 1% say");
  sub->add_option("--max-recall-increase", command->max_recall_increase,
                  "With it: and whose recall is at most so many nats above")
      ->check(CLI::PositiveNumber);
  sub->add_flag("--search", command->search,
                "Tries exact windows and anchors (with --keys any, rebuilt keys too) that take the "
                "same bytes for a sequence, measures the best by prediction and keeps the best");
  sub->add_option("--context", command->context,
                  "With it: tokens of that sequence (default: the model's context)");
  sub->add_option("--max-decode-macs", command->max_decode_macs,
                  "With it: plans whose attention computes more than this times the full cache's "
                  "multiply-adds are excluded");
  sub->add_option("--calibrate", command->calibrate,
                  "Text file for statistics and measuring; without it the model writes its own");
  sub->add_option("--statistics", command->statistics,
                  "File that statistics are saved to: an interrupted run goes on from it, and one "
                  "of another size uses it again. A text that the model writes is kept beside it");
  sub->add_option("--keys", command->keys,
                  "Layout of keys (lorc: rebuilt; others: direct); any: both, with --search")
      ->check(CLI::IsMember({"direct", "rebuilt", "any"}));
  sub->add_option(
         "--groups", command->groups,
         "Groups of KV heads that share a latent; 1 = joint (kq-svd, think: a group per head)")
      ->capture_default_str();
  sub->add_flag("--group-similar-heads", command->group_similar_heads,
                "Groups of KV heads that are alike, instead of neighbours");
  sub->add_option("--moments", command->moments,
                  "Where second moments come from: the text's keys and values, the weights, the "
                  "weights with the norm's gain, or with the text's inputs channel by channel")
      ->check(CLI::IsMember({"text", "weights", "gain", "inputs"}));
  sub->add_option("--ranks", command->ranks,
                  "One type for all numbers, and how ranks differ over layers (lorc: progressive; "
                  "kq-svd: tail; others: uniform)")
      ->check(CLI::IsMember({"uniform", "progressive", "energy", "tail"}));
  sub->add_flag("--uniform", command->uniform, "The same as --ranks uniform");
  sub->add_option("--target-kept", command->target_kept, "Share of all ranks that is kept")
      ->capture_default_str();
  sub->add_option("--tail-energy", command->tail_energy,
                  "Tail ranks: what may be left out, as a share of the norm")
      ->capture_default_str();
  sub->add_option("--min-rank", command->min_rank,
                  "Progressive ranks from this one to the full rank, instead of --target-kept");
  sub->add_option("--threshold", command->threshold,
                  "Layers whose cumulative condition number has a natural logarithm above this "
                  "keep their full cache");
  sub->add_option("--latent-type", command->latent_type,
                  "With rank options or method full, the type of all numbers (lorc, kq-svd, think: "
                  "bf16; others: int8)")
      ->check(CLI::IsMember(TypeNames()));
  sub->add_option("--segment-width", command->segment_width, "Numbers that share a scale")
      ->capture_default_str();
  sub->add_option("--exact-prefix", command->exact_prefix,
                  "First tokens that stay exact (lorc, kq-svd, think: 0)")
      ->capture_default_str();
  sub->add_option("--exact-window", command->exact_window,
                  "Latest tokens that are exact (lorc, kq-svd, think: 0)")
      ->capture_default_str();
  sub->add_option("--anchor", command->anchor,
                  "Tokens of a chunk inside which direct keys are rotated; 0: absolute positions")
      ->capture_default_str();
  sub->add_option("--window", command->window,
                  "Tokens of a calibration window (default: 1,024; method loss: the longest of "
                  "4,096, 2,048 and 1,024 that the text has enough of); no longer than the model's "
                  "context");
  sub->add_option("--calibrate-windows", command->calibration_windows,
                  "Calibration windows at most; one longer than 1,024 tokens counts for several")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  sub->add_option("--gradient-windows", command->gradient_windows,
                  "Of those, windows for gradients at most (method loss)")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  sub->add_option("--seed", command->seed, "Of the text that the model writes")
      ->capture_default_str();
  sub->add_flag("--json", command->json, "Print the plan's header as JSON");
  sub->callback([command, status] {
    const absl::Status result = command->Run();
    if (!result.ok()) *status = ReportError(result);
  });
}

}  // namespace lorc
