#!/usr/bin/env bash
# Installs the Debian 12 packages that the project builds and tests with. Does nothing where all are there.
#   scripts/install_packages.sh [build|run|check]      (default: build)
#   build: compile, run and test; run: what the built programs need; check: formatter, linter and fuzzers as well.
set -euo pipefail

build=(build-essential cmake ninja-build ccache pkg-config git ca-certificates curl python3 python3-pip
  protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libprotoc-dev libgrpc++-dev libabsl-dev
  libc-ares-dev libre2-dev libssl-dev zlib1g-dev prometheus-cpp-dev libyaml-cpp-dev libgtest-dev
  libgmock-dev libbenchmark-dev libdnnl-dev ocl-icd-opencl-dev liblapacke-dev libopenblas-dev libhwy-dev
  libutf8proc-dev libpcre2-dev libxxhash-dev nlohmann-json3-dev libspdlog-dev libcli11-dev
  libcpp-httplib-dev)
run=(libgrpc++1.51 libprotobuf32 libprometheus-cpp-core1.0 libyaml-cpp0.7 libdnnl2 liblapacke
  libopenblas0-pthread libutf8proc2 libpcre2-8-0 libxxhash0 libspdlog1.10 libcpp-httplib0.11 libgomp1 libhwy1)
check=(clang clang-format clang-tidy libclang-rt-14-dev prometheus python3-venv shellcheck yamllint)

packages=("${build[@]}")
case ${1:-build} in
  build) ;;
  run) packages=("${run[@]}") ;;
  check) packages+=("${check[@]}") ;;
  *) echo "usage: $0 [build|run|check]" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get > /dev/null; then
  echo "error: this needs Debian 12 (apt-get); missing packages: ${missing[*]}" >&2
  exit 1
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo > /dev/null || { echo "error: run as root or install sudo" >&2; exit 1; }
  sudo=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -q
"${sudo[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"
