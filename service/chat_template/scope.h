// Variables while rendering: a stack of scopes, the innermost last.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "service/chat_template/value.h"

namespace lorc::jinja {

class Scopes {
 public:
  Scopes() { Push(); }

  void Push() { starts_.push_back(variables_.size()); }
  void Pop() {
    variables_.resize(starts_.back());
    starts_.pop_back();
  }

  // Sets a variable of the innermost scope.
  void Set(std::string_view name, Value value) {
    for (size_t i = starts_.back(); i < variables_.size(); ++i) {
      if (variables_[i].first == name) {
        variables_[i].second = std::move(value);
        return;
      }
    }
    variables_.emplace_back(name, std::move(value));
  }

  // The innermost variable of that name that can be seen, or nullptr. The pointer holds until the
  // next Set or Pop.
  const Value* Find(std::string_view name) const {
    for (size_t i = variables_.size(); i > visible_from_; --i) {
      if (variables_[i - 1].first == name) return &variables_[i - 1].second;
    }
    const size_t template_end = starts_.size() > 1 ? starts_[1] : variables_.size();
    for (size_t i = template_end; i > 0; --i) {
      if (variables_[i - 1].first == name) return &variables_[i - 1].second;
    }
    return nullptr;
  }

  // How many variables Find may look at: what a look-up costs.
  int64_t size() const { return static_cast<int64_t>(variables_.size()); }

  // While it lives, a macro runs: it sees the scopes pushed from now on and the template's own.
  class MacroFrame {
   public:
    explicit MacroFrame(Scopes* scopes) : scopes_(scopes), before_(scopes->visible_from_) {
      scopes_->visible_from_ = scopes_->variables_.size();
      scopes_->Push();
    }
    ~MacroFrame() {
      scopes_->Pop();
      scopes_->visible_from_ = before_;
    }
    MacroFrame(const MacroFrame&) = delete;
    MacroFrame& operator=(const MacroFrame&) = delete;

   private:
    Scopes* scopes_;
    size_t before_;
  };

  class Frame {
   public:
    explicit Frame(Scopes* scopes) : scopes_(scopes) { scopes_->Push(); }
    ~Frame() { scopes_->Pop(); }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Scopes* scopes_;
  };

 private:
  std::vector<std::pair<std::string, Value>> variables_;
  std::vector<size_t> starts_;  // where each scope begins
  size_t visible_from_ = 0;
};

}  // namespace lorc::jinja
