#include "runtime/compress/statistics.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "runtime/compress/head_pass.h"
#include "runtime/compress/layer_pass.h"
#include "runtime/compress/model_weights.h"
#include "runtime/compress/moment_sums.h"
#include "runtime/compress/products.h"
#include "runtime/compress/row_math.h"
#include "runtime/compress/statistics_file.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/sampling/sampler.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

using Windows = std::vector<std::vector<TokenId>>;

// A layer backward is about three layers forward: its products again, and two for each.
constexpr double kBackwardCost = 3;

absl::Status CheckOptions(const StatisticsOptions& options) {
  LORC_RETURN_IF_ERROR(CheckTokens("anchor", options.anchor));
  LORC_RETURN_IF_ERROR(CheckTokens("exact prefix", options.exact_prefix));
  LORC_RETURN_IF_ERROR(CheckTokens("exact window", options.exact_window));
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

StatisticsSource SourceOf(const Checkpoint& checkpoint, const Windows& windows,
                          const StatisticsOptions& options) {
  StatisticsSource source;
  source.num_windows = std::ssize(windows);
  source.anchor = options.anchor;
  source.exact_prefix = options.exact_prefix;
  source.exact_window = options.exact_window;
  source.gradient_windows = options.gradient_windows;
  source.seed = options.seed;
  if (!options.resume_path.empty()) {
    source.fingerprint = checkpoint.Fingerprint();
    source.windows_hash = HashWindows(windows);
  }
  return source;
}

bool DifferInAnchorAlone(StatisticsOptions a, const StatisticsOptions& b) {
  a.anchor = b.anchor;
  a.resume_path = b.resume_path;
  return a == b;
}

bool FileIsThere(const StatisticsOptions& options) {
  std::error_code unknown;
  return !options.resume_path.empty() && std::filesystem::exists(options.resume_path, unknown);
}

std::string Difference(const StatisticsSource& found, const StatisticsSource& wanted) {
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

absl::Status CheckSource(const StatisticsSource& found, const StatisticsSource& wanted,
                         const std::string& path) {
  if (found == wanted) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      path, ": expected statistics of this model, these windows and these options to continue, ",
      "got those of ", Difference(found, wanted), "; remove the file or name another"));
}

class Collector {
 public:
  // `all` differ in anchors and files alone.
  Collector(const Checkpoint& checkpoint, const Windows& windows,
            const std::vector<StatisticsOptions>& all, const std::function<void(double)>& progress)
      : checkpoint_(checkpoint),
        config_(checkpoint.config()),
        windows_(windows),
        all_(all),
        options_(all.front()),
        progress_(progress),
        pool_(options_.num_threads > 0 ? options_.num_threads : AvailableCores()),
        rotation_(config_, Longest(windows)),
        layer_pass_(config_, {options_.exact_prefix, options_.exact_window}, rotation_, pool_),
        head_pass_(config_, pool_),
        with_gradients_(WithGradients(std::ssize(windows), options_.gradient_windows)) {}

  absl::StatusOr<std::vector<Statistics>> Run() {
    const int64_t num_windows = std::ssize(windows_);
    int64_t done = num_windows;  // by all of them
    for (const StatisticsOptions& options : all_) {
      LORC_ASSIGN_OR_RETURN(StatisticsProgress progress, Start(options));
      done = std::min(done, progress.windows_done);
      gathered_.push_back(
          {{config_, options.anchor, options.exact_prefix, rotation_, pool_}, std::move(progress)});
    }
    total_work_ = WorkOf(done, num_windows);
    while (done < num_windows) {
      const int64_t end = BatchEnd(done);
      LORC_RETURN_IF_ERROR(RunBatch(done, end));
      done = end;
      for (size_t i = 0; i < gathered_.size(); ++i) {
        StatisticsProgress& progress = gathered_[i].done;
        if (progress.windows_done >= end) continue;
        progress.windows_done = end;
        if (all_[i].resume_path.empty()) continue;
        LORC_RETURN_IF_ERROR(WriteStatistics(progress, all_[i].resume_path));
      }
    }
    checkpoint_.ReleasePages();
    std::vector<Statistics> statistics;
    for (Gathered& gathered : gathered_) statistics.push_back(std::move(gathered.done.statistics));
    return statistics;
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

  // Sums of one of the options.
  struct Gathered {
    MomentSums sums;
    StatisticsProgress done;
  };

  // Continues what the file holds, or starts anew.
  absl::StatusOr<StatisticsProgress> Start(const StatisticsOptions& options) const {
    StatisticsProgress done;
    done.source = SourceOf(checkpoint_, windows_, options);
    if (FileIsThere(options)) {
      const StatisticsSource wanted = std::move(done.source);
      LORC_ASSIGN_OR_RETURN(done, ReadStatistics(options.resume_path, config_));
      LORC_RETURN_IF_ERROR(CheckSource(done.source, wanted, options.resume_path));
      return done;
    }
    Statistics& statistics = done.statistics;
    statistics.anchor = options.anchor;
    statistics.exact_prefix = options.exact_prefix;
    statistics.exact_window = options.exact_window;
    statistics.layers = EmptyLayerStatistics(config_, options.gradient_windows > 0);
    return done;
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
      for (Gathered& gathered : gathered_) {
        if (i < gathered.done.windows_done) continue;
        Statistics& statistics = gathered.done.statistics;
        statistics.num_tokens += window.num_tokens;
        statistics.num_far_tokens += far;
        if (window.with_gradients) statistics.num_gradient_tokens += far;
      }
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
          for (Gathered& gathered : gathered_) {
            if (window.index < gathered.done.windows_done) continue;
            gathered.sums.AddActivations(activations, &gathered.done.statistics.layers[l]);
          }
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
        for (Gathered& gathered : gathered_) {
          if (window.index < gathered.done.windows_done) continue;
          gathered.sums.AddGradients(window.num_tokens, keys.data(), values.data(),
                                     &gathered.done.statistics.layers[l].gradients);
        }
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
  const std::vector<StatisticsOptions>& all_;
  const StatisticsOptions& options_;  // where they are the same
  const std::function<void(double)>& progress_;
  const SingleThreadedBlas blas_;
  ThreadPool pool_;
  const Rotation rotation_;
  LayerPass layer_pass_;
  HeadPass head_pass_;
  const std::vector<bool> with_gradients_;
  std::vector<Gathered> gathered_;
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
  LORC_ASSIGN_OR_RETURN(std::vector<Statistics> statistics,
                        CollectStatisticsTogether(checkpoint, windows, {options}, progress));
  return std::move(statistics.front());
}

absl::StatusOr<std::vector<Statistics>> CollectStatisticsTogether(
    const Checkpoint& checkpoint, const std::vector<std::vector<TokenId>>& windows,
    const std::vector<StatisticsOptions>& options, const std::function<void(double)>& progress) {
  LORC_CHECK(!options.empty());
  for (const StatisticsOptions& one : options) {
    LORC_CHECK(DifferInAnchorAlone(one, options.front()));
    LORC_RETURN_IF_ERROR(CheckOptions(one));
  }
  LORC_RETURN_IF_ERROR(CheckWindows(checkpoint.config(), windows));
  return Collector(checkpoint, windows, options, progress).Run();
}

absl::Status CheckResume(const Checkpoint& checkpoint,
                         const std::vector<std::vector<TokenId>>& windows,
                         const StatisticsOptions& options) {
  if (!FileIsThere(options)) return absl::OkStatus();
  LORC_ASSIGN_OR_RETURN(const StatisticsSource found, ReadStatisticsSource(options.resume_path));
  return CheckSource(found, SourceOf(checkpoint, windows, options), options.resume_path);
}

}  // namespace lorc
