#pragma once

namespace lorc {

inline constexpr char kServerVersion[] = LORC_VERSION;

}  // namespace lorc
