#!/usr/bin/env bash
# Builds the fuzzers (clang) and runs each for a while; stops at the first crash.
#   scripts/fuzz.sh [SECONDS_EACH]      (default: 60)
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}

scripts/install_packages.sh check
targets=(weights_gguf_fuzzer weights_safetensors_fuzzer weights_hf_json_fuzzer plan_fuzzer tokenizer_fuzzer
  chat_template_fuzzer text_stream_fuzzer)
cmake --preset fuzz > /dev/null
cmake --build --preset fuzz --target "${targets[@]}" weights_write_fuzz_seeds
bin=build/fuzz/bin
corpus=build/fuzz/corpus
mkdir -p "$corpus"
"$bin/weights_write_fuzz_seeds" "$corpus"
for target in "${targets[@]}"; do
  folder=$corpus/${target#weights_}
  folder=${folder%_fuzzer}
  mkdir -p "$folder"
  echo "== $target, $seconds s"
  "$bin/$target" -max_total_time="$seconds" -rss_limit_mb=4096 -print_final_stats=1 "$folder" 2>&1 | tail -n 12
done
