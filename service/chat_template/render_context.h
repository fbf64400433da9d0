// One render: what it has cost, what went wrong, and the objects that live as long as it does.
//
// The first failure sticks. From then on values no longer matter: whoever loops checks ok().
#pragma once

#include <cstdint>
#include <ctime>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "service/chat_template/value.h"

namespace lorc::jinja {

class RenderContext {
 public:
  // `clock` gives seconds since 1970; it outlives the context.
  explicit RenderContext(const std::function<std::time_t()>* clock) : clock_(clock) {}
  RenderContext(const RenderContext&) = delete;
  RenderContext& operator=(const RenderContext&) = delete;

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  int32_t line() const { return line_; }  // of the template, being rendered
  void set_line(int32_t line) { line_ = line; }
  std::time_t Now() const { return (*clock_)(); }

  // Each fails the render and returns an undefined value.
  Value Fail(const std::string& message);             // INVALID_ARGUMENT
  Value Unimplemented(const std::string& construct);  // UNIMPLEMENTED
  Value FailUndefined(const Value& undefined) { return Fail(undefined.undefined_reason()); }

  // Pay before the work; false, and the render has failed, if the budget (limits.h) is used up.
  bool Spend(int64_t steps);
  bool SpendBytes(int64_t bytes);

  // The only makers of strings, lists and dictionaries while rendering: they pay for their bytes.
  Value String(std::string text);
  Value List(std::vector<Value> items, bool is_tuple = false);
  // Of equal keys the last value counts, in the first one's place. Keys are hashable as Python has
  // it, else the render fails.
  Value Dict(std::vector<std::pair<Value, Value>>&& items);
  NamespaceObject* NewNamespace();
  LoopObject* NewLoop(Value list);

  // Counts evaluations inside each other; not ok() beyond the limit.
  class Level {
   public:
    explicit Level(RenderContext* context);
    ~Level() { --context_->depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    RenderContext* context_;
  };

 private:
  bool CheckDepth(int32_t depth);

  const std::function<std::time_t()>* clock_;
  absl::Status status_;
  int32_t line_ = 1;
  int32_t depth_ = 0;
  int64_t steps_ = 0;
  int64_t bytes_ = 0;
  std::deque<NamespaceObject> namespaces_;
  std::deque<LoopObject> loops_;
};

}  // namespace lorc::jinja
