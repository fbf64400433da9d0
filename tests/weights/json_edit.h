// Changes JSON files of a test.
#pragma once

#include <functional>
#include <string>
#include <nlohmann/json.hpp>

#include "tests/support/files.h"
#include "tests/weights/status_matchers.h"

namespace lorc::test {

inline void EditJson(const std::string& path, const std::function<void(nlohmann::json&)>& change) {
  nlohmann::json json = nlohmann::json::parse(ReadFile(path));
  change(json);
  ASSERT_OK(WriteFile(path, json.dump()));
}

}  // namespace lorc::test
