#!/usr/bin/env bash
# From nothing to a served model with a compressed cache (Debian 12, as root or with sudo): installs packages, builds, fetches
# SmolLM2-135M-Instruct, makes a KV plan for it, serves it, asks it something, compares it with the full cache.
# What is already there is not done again.
#   scripts/quickstart.sh [--keep]      --keep leaves the server running
set -euo pipefail
cd "$(dirname "$0")/.."

keep=false
case ${1:-} in
  "") ;;
  --keep) keep=true ;;
  *) echo "usage: $0 [--keep]" >&2; exit 2 ;;
esac

bin=build/release/bin
model=models/SmolLM2-135M-Instruct.Q4_1.gguf
plan=models/SmolLM2-135M-Instruct.plan.safetensors
text=scripts/quickstart.txt
question="What is a KV cache good for? Answer in two sentences."
work=build/quickstart
serve=(--model "$model" --plan "$plan" --kv-budget-bytes 256MiB --max-sequence-tokens 2048)

step() { printf '\n== %s\n' "$*"; }

step "1/7 packages"
scripts/install_packages.sh build

step "2/7 build (minutes the first time)"
quiet=()
[ -t 1 ] || quiet=(--quiet)
cmake --preset release > /dev/null
cmake --build --preset release --target lorc lorc-server -- "${quiet[@]}"

step "3/7 model"
scripts/fetch_model.sh
du -Lh "$model"

step "4/7 KV plan (two to four minutes the first time: the model writes its own calibration text)"
if ! $bin/lorc plan show "$plan" > /dev/null 2>&1; then
  $bin/lorc compress "$model" -o "$plan" > /dev/null
fi
$bin/lorc plan show "$plan" | tail -n 3

step "5/7 server"
mkdir -p "$work"
server=0
stop() {
  [ "$server" -ne 0 ] || return 0
  kill -TERM "$server" 2> /dev/null || true
  wait "$server" || { echo "error: the server did not stop cleanly:" >&2; tail -n 5 "$work/server.log" >&2; exit 1; }
  server=0
}
trap stop EXIT
nohup "$bin/lorc-server" "${serve[@]}" --grpc-address 127.0.0.1:0 --http-address 127.0.0.1:0 \
  > "$work/ready.txt" 2> "$work/server.log" &
server=$!
until grep -q '^ready' "$work/ready.txt"; do
  if ! kill -0 "$server" 2> /dev/null; then
    server=0
    echo "error: the server did not start:" >&2
    tail -n 5 "$work/server.log" >&2
    exit 1
  fi
  sleep 0.1
done
cat "$work/ready.txt"
grpc=$(sed -n 's/^ready grpc=\([^ ]*\) .*/\1/p' "$work/ready.txt")
http=$(sed -n 's/^ready .* http=\([^ ]*\).*/\1/p' "$work/ready.txt")

step "6/7 \"$question\""
$bin/lorc generate --address "$grpc" --chat --max-tokens 96 "$question"

step "7/7 memory, full against compressed"
$bin/lorc-server "${serve[@]}" --dry-run --json > "$work/memory.json"
$bin/lorc eval "$model" --plan "$plan" --text "$text" --window 1024 --json > "$work/quality.json"
python3 - "$work" "$text" << 'EOF'
import json, sys
work, text = sys.argv[1:]
memory = json.load(open(f"{work}/memory.json"))
quality = json.load(open(f"{work}/quality.json"))
full, plan = memory["full_cache"], memory["this_plan"]
rows = [("", "full", "compressed"),
        ("bytes per token", full["bytes_per_token"], plan["bytes_per_token"])]
for a, b in zip(full["concurrent_requests"], plan["concurrent_requests"]):
    rows.append((f"concurrent requests of {a['tokens']} tokens in {memory['kv_budget_bytes'] >> 20} MiB",
                 a["requests"], b["requests"]))
rows.append((f"perplexity of {text}", f"{quality['uncompressed']['perplexity']:.2f}", f"{quality['perplexity']:.2f}"))
for name, a, b in rows:
    print(f"{name:<56}{a:>10}{b:>12}")
EOF
printf '\nhttp://%s/metrics while a request runs:\n' "$http"
$bin/lorc generate --address "$grpc" --max-tokens 400 --ignore-eos "Once upon a time" > /dev/null 2>&1 &
request=$!
for _ in $(seq 300); do
  curl -s "http://$http/metrics" > "$work/metrics.txt"
  grep -qE '^lorc_kv_saved_bytes [0-9]{7}' "$work/metrics.txt" && break
  sleep 0.05
done
grep -E '^lorc_(kv_(budget_bytes|promised_bytes|saved_bytes|savings_ratio)|requests_running|generated_tokens_total) ' "$work/metrics.txt"
wait "$request"

if $keep; then
  trap - EXIT
  disown "$server"
  cat << EOF

the server goes on; ask it, look at it, stop it:
  $bin/lorc generate --address $grpc --chat "Why is the sky blue?"
  curl http://$http/metrics
  kill $server
EOF
else
  stop
  trap - EXIT
  cat << EOF

the server has stopped. To serve and ask again:
  $bin/lorc-server --model $model --plan $plan
  $bin/lorc generate --chat "Why is the sky blue?"
EOF
fi
