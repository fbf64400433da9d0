#!/usr/bin/env bash
# Builds everything and runs every test, after installing what that needs (Debian 12). Ends with ctest's summary; fails when
# anything fails.
#   scripts/test.sh [ctest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install_packages.sh build
scripts/fetch_model.sh
cmake --preset release
cmake --build --preset release
ctest --preset release --parallel 2 "$@"
