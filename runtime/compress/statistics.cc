#include "runtime/compress/statistics.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/compress/head_pass.h"
#include "runtime/compress/layer_pass.h"
#include "runtime/compress/model_weights.h"
#include "runtime/compress/moment_sums.h"
#include "runtime/compress/products.h"
#include "runtime/compress/row_math.h"
#include "runtime/compress/statistics_file.h"
#include "runtime/sampling/sampler.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

using Windows = std::vector<std::vector<TokenId>>;

// A layer backward is about three layers forward: its products again, and two for each.
constexpr double kBackwardCost = 3;

absl::Status CheckOptions(const StatisticsOptions& options) {
  constexpr int32_t kMost = 1 << 20;  // as KvPlan::Validate
  for (const auto& [name, tokens] : {std::pair("anchor", options.anchor),
                                     {"exact prefix", options.exact_prefix},
                                     {"exact window", options.exact_window}}) {
    if (tokens < 0 || tokens > kMost || tokens % FarRule::kBlockTokens != 0) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": expected a multiple of ",
                                                     FarRule::kBlockTokens, " tokens up to ", kMost,
                                                     ", or 0, got ", tokens));
    }
  }
  if (options.gradient_windows < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("windows with gradients: expected 0 or more, got ", options.gradient_windows));
  }
  if (options.num_threads < 0 || options.num_threads > 1024) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads: expected 0 (all cores) to 1024, got ", options.num_threads));
  }
  return absl::OkStatus();
}

absl::Status CheckWindows(const ModelConfig& config, const Windows& windows) {
  for (size_t i = 0; i < windows.size(); ++i) {
    const int64_t length = std::ssize(windows[i]);
    if (length < 1 || length > config.context_length) {
      return absl::InvalidArgumentError(absl::StrCat(
          "window ", i, ": expected 1 to ", config.context_length, " tokens, got ", length));
    }
    for (const TokenId token : windows[i]) {
      if (token < 0 || token >= config.vocabulary_size) {
        return absl::InvalidArgumentError(absl::StrCat("window ", i, ": token ", token,
                                                       " is not in the vocabulary of ",
                                                       config.vocabulary_size));
      }
    }
  }
  return absl::OkStatus();
}

int64_t Longest(const Windows& windows) {
  int64_t longest = 1;
  for (const auto& window : windows) longest = std::max<int64_t>(longest, std::ssize(window));
  return longest;
}

std::vector<bool> WithGradients(int64_t num_windows, int64_t count) {
  std::vector<bool> with(num_windows, false);
  count = std::min(count, num_windows);
  for (int64_t i = 0; i < count; ++i) with[i * num_windows / count] = true;
  return with;
}

class Collector {
 public:
  Collector(const Checkpoint& checkpoint, const Windows& windows, const StatisticsOptions& options,
            const std::function<void(double)>& progress)
      : checkpoint_(checkpoint),
        config_(checkpoint.config()),
        windows_(windows),
        options_(options),
        progress_(progress),
        pool_(options.num_threads > 0 ? options.num_threads : AvailableCores()),
        rotation_(config_, Longest(windows)),
        layer_pass_(config_, {options.exact_prefix, options.exact_window}, rotation_, pool_),
        head_pass_(config_, pool_),
        sums_(config_, options.anchor, options.exact_prefix, rotation_, pool_),
        with_gradients_(WithGradients(std::ssize(windows), options.gradient_windows)) {}

  absl::StatusOr<Statistics> Run() {
    LORC_RETURN_IF_ERROR(Start());
    total_work_ = WorkOf(done_.windows_done, std::ssize(windows_));
    while (done_.windows_done < std::ssize(windows_)) {
      const int64_t end = BatchEnd(done_.windows_done);
      LORC_RETURN_IF_ERROR(RunBatch(done_.windows_done, end));
      done_.windows_done = end;
      if (!options_.resume_path.empty()) {
        LORC_RETURN_IF_ERROR(WriteStatistics(done_, options_.resume_path));
      }
    }
    checkpoint_.ReleasePages();
    return std::move(done_.statistics);
  }

 private:
  // A window of the batch that runs.
  struct Window {
    int64_t index = 0;
    int64_t num_tokens = 0;
    bool with_gradients = false;
    std::vector<float> x;  // [T, D]: the residual, then its gradient
    // For gradients, of every layer [T, D]: its input and what its FFN gets.
    std::vector<std::vector<float>> inputs, middles;
  };

  // Continues what the file holds, or starts anew.
  absl::Status Start() {
    StatisticsSource source;
    source.num_windows = std::ssize(windows_);
    source.anchor = options_.anchor;
    source.exact_prefix = options_.exact_prefix;
    source.exact_window = options_.exact_window;
    source.gradient_windows = options_.gradient_windows;
    source.seed = options_.seed;
    std::error_code unknown;
    if (!options_.resume_path.empty()) {
      source.fingerprint = checkpoint_.Fingerprint();
      source.windows_hash = HashWindows(windows_);
      if (std::filesystem::exists(options_.resume_path, unknown)) {
        LORC_ASSIGN_OR_RETURN(done_, ReadStatistics(options_.resume_path, config_));
        if (done_.source == source) return absl::OkStatus();
        return absl::FailedPreconditionError(absl::StrCat(
            options_.resume_path, ": expected statistics of this model, these windows and these ",
            "options to continue, got those of ", Difference(done_.source, source),
            "; remove the file or name another"));
      }
    }
    done_.source = std::move(source);
    Statistics& statistics = done_.statistics;
    statistics.anchor = options_.anchor;
    statistics.exact_prefix = options_.exact_prefix;
    statistics.exact_window = options_.exact_window;
    statistics.layers = EmptyLayerStatistics(config_, options_.gradient_windows > 0);
    return absl::OkStatus();
  }

  static std::string Difference(const StatisticsSource& found, const StatisticsSource& wanted) {
    if (found.fingerprint != wanted.fingerprint) return "another model";
    if (found.windows_hash != wanted.windows_hash) return "another text";
    if (found.anchor != wanted.anchor) return absl::StrCat("anchor ", found.anchor);
    if (found.exact_prefix != wanted.exact_prefix) {
      return absl::StrCat("exact prefix ", found.exact_prefix);
    }
    if (found.exact_window != wanted.exact_window) {
      return absl::StrCat("exact window ", found.exact_window);
    }
    if (found.gradient_windows != wanted.gradient_windows) {
      return absl::StrCat(found.gradient_windows, " windows with gradients");
    }
    return absl::StrCat("seed ", found.seed);
  }

  int64_t BatchEnd(int64_t begin) const {
    int64_t bytes = 0;
    int64_t end = begin;
    for (; end < std::ssize(windows_); ++end) {
      const int64_t copies = with_gradients_[end] ? 2 * config_.num_layers + 1 : 1;
      bytes += copies * std::ssize(windows_[end]) * config_.hidden_size *
               static_cast<int64_t>(sizeof(float));
      if (bytes > options_.batch_bytes && end > begin) break;
    }
    return end;
  }

  double WorkOf(int64_t begin, int64_t end) const {
    double work = 0;
    for (int64_t i = begin; i < end; ++i) {
      work += static_cast<double>(std::ssize(windows_[i])) * config_.num_layers *
              (with_gradients_[i] ? 1 + kBackwardCost : 1);
    }
    return work;
  }

  void Report(double work) {
    work_ += work;
    if (progress_) progress_(std::min(1.0, work_ / total_work_));
  }

  absl::Status NotFinite(int32_t layer, const char* what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(config_.name, ": layer ", layer, ": ", what,
                     " are not finite (NaN or infinity); the checkpoint is damaged, or its "
                     "activations exceed float32"));
  }

  absl::Status RunBatch(int64_t begin, int64_t end) {
    std::vector<Window> batch(end - begin);
    for (int64_t i = begin; i < end; ++i) {
      Window& window = batch[i - begin];
      window.index = i;
      window.num_tokens = std::ssize(windows_[i]);
      window.with_gradients = with_gradients_[i];
      window.x.resize(window.num_tokens * config_.hidden_size);
      LORC_RETURN_IF_ERROR(ReadEmbeddings(checkpoint_, windows_[i], window.x.data()));
      const int64_t far = std::max<int64_t>(0, window.num_tokens - options_.exact_prefix);
      done_.statistics.num_tokens += window.num_tokens;
      done_.statistics.num_far_tokens += far;
      if (window.with_gradients) done_.statistics.num_gradient_tokens += far;
    }
    LORC_RETURN_IF_ERROR(Forward(batch));
    std::erase_if(batch, [](const Window& window) { return !window.with_gradients; });
    if (batch.empty()) return absl::OkStatus();
    LORC_RETURN_IF_ERROR(StartGradients(batch));
    return Backward(batch);
  }

  absl::Status Forward(std::vector<Window>& batch) {
    LayerWeights weights;
    for (int32_t l = 0; l < config_.num_layers; ++l) {
      LORC_RETURN_IF_ERROR(ReadLayer(checkpoint_, l, pool_, &weights));
      for (Window& window : batch) {
        float* middle = nullptr;
        if (window.with_gradients) {
          window.inputs.push_back(window.x);
          middle = window.middles.emplace_back(window.x.size()).data();
        }
        bool finite = true;
        const auto see = [&](const LayerActivations& activations) {
          const int64_t width = config_.query_width() + 2 * int64_t{config_.kv_width()};
          finite = AllFinite(activations.qkv, window.num_tokens * width);
          sums_.AddActivations(activations, &done_.statistics.layers[l]);
        };
        layer_pass_.Forward(weights, window.num_tokens, see, window.x.data(), middle);
        if (!finite || !AllFinite(window.x.data(), std::ssize(window.x))) {
          return NotFinite(l, "activations");
        }
        Report(static_cast<double>(window.num_tokens));
      }
    }
    return absl::OkStatus();
  }

  absl::Status StartGradients(std::vector<Window>& batch) {
    HeadWeights head;
    LORC_RETURN_IF_ERROR(ReadHead(checkpoint_, pool_, &head));
    for (Window& window : batch) {
      const uint64_t first = static_cast<uint64_t>(window.index) << 32;
      const std::vector<float> log_probabilities = head_pass_.Backward(
          head, window.num_tokens,
          [&](int64_t position, std::span<const float> weights, double total) {
            return DrawLabel(weights, total, UniformAt(options_.seed, first + position));
          },
          window.x.data());
      if (!AllFinite(log_probabilities.data(), std::ssize(log_probabilities))) {
        return absl::InvalidArgumentError(
            absl::StrCat(config_.name, ": the model's output is not finite (NaN or infinity)"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Backward(std::vector<Window>& batch) {
    LayerWeights weights;
    std::vector<float> keys, values;
    for (int32_t l = config_.num_layers - 1; l >= 0; --l) {
      LORC_RETURN_IF_ERROR(ReadLayer(checkpoint_, l, pool_, &weights));
      for (Window& window : batch) {
        keys.resize(window.num_tokens * config_.kv_width());
        values.resize(keys.size());
        layer_pass_.Backward(weights, window.num_tokens, window.inputs[l].data(),
                             window.middles[l].data(), window.x.data(), keys.data(), values.data());
        for (const std::vector<float>* gradient : {&window.x, &keys, &values}) {
          if (!AllFinite(gradient->data(), std::ssize(*gradient))) return NotFinite(l, "gradients");
        }
        sums_.AddGradients(window.num_tokens, keys.data(), values.data(),
                           &done_.statistics.layers[l].gradients);
        window.inputs.pop_back();
        window.middles.pop_back();
        Report(kBackwardCost * static_cast<double>(window.num_tokens));
      }
    }
    return absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const Windows& windows_;
  const StatisticsOptions& options_;
  const std::function<void(double)>& progress_;
  const SingleThreadedBlas blas_;
  ThreadPool pool_;
  const Rotation rotation_;
  LayerPass layer_pass_;
  HeadPass head_pass_;
  MomentSums sums_;
  const std::vector<bool> with_gradients_;
  StatisticsProgress done_;
  double work_ = 0;
  double total_work_ = 0;
};

}  // namespace

std::vector<LayerStatistics> EmptyLayerStatistics(const ModelConfig& config, bool gradients) {
  const int64_t n = config.kv_width();
  const int64_t d = config.head_dim;
  const std::vector<double> square(n * n);
  LayerStatistics layer;
  layer.inputs.resize(config.hidden_size);
  layer.queries.resize(config.num_heads * d * d);
  layer.all = layer.far = {square, square, square};
  if (gradients) layer.gradients = layer.all;
  return std::vector<LayerStatistics>(config.num_layers, layer);
}

absl::StatusOr<Statistics> CollectStatistics(const Checkpoint& checkpoint,
                                             const std::vector<std::vector<TokenId>>& windows,
                                             const StatisticsOptions& options,
                                             const std::function<void(double)>& progress) {
  LORC_RETURN_IF_ERROR(CheckOptions(options));
  LORC_RETURN_IF_ERROR(CheckWindows(checkpoint.config(), windows));
  return Collector(checkpoint, windows, options, progress).Run();
}

}  // namespace lorc
