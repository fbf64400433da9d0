#!/usr/bin/env bash
# Checks deploy/ without a cluster: YAML style, Kubernetes' schemas, the settings of lorc-server, and that the numbers of
# manifests and settings agree. Says what it skips: all without kubectl and yamllint, the settings without a built
# server, the memory without the model of scripts/fetch_model.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
server=build/release/bin/lorc-server
model=models/SmolLM2-135M-Instruct.Q4_1.gguf

for tool in kubectl yamllint; do
  command -v "$tool" > /dev/null || { echo "skipped: there is no $tool" >&2; exit 0; }
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

yamllint --strict -d '{extends: default, rules: {document-start: disable, line-length: {max: 100}}}' deploy

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kubernetes-validate==1.37.0
kubectl kustomize deploy/kubernetes > "$folder/all.yaml"
# An unknown kind is only a warning to it, with exit status 0.
if ! "$folder/venv/bin/kubernetes-validate" --strict -k 1.32 "$folder/all.yaml" deploy/kubernetes/model_loader.yaml \
    > "$folder/report" 2>&1 || grep -q '^WARN' "$folder/report"; then
  grep -v '^INFO' "$folder/report" >&2
  exit 1
fi

capacity=
if [ ! -x "$server" ]; then
  echo "skipped: settings and memory, there is no $server" >&2
else
  for settings in deploy/server.yaml deploy/kubernetes/server.yaml; do
    status=0
    "$server" --config "$settings" --model "$folder/none" --dry-run 2> "$folder/message" || status=$?
    # 3: there is no such model, but the settings are good.
    [ "$status" -eq 3 ] || { cat "$folder/message" >&2; exit 1; }
  done
  if [ ! -f "$model" ]; then
    echo "skipped: memory, there is no $model" >&2
  else
    capacity=$("$server" --config deploy/kubernetes/server.yaml --model "$model" --dry-run --json)
  fi
fi

"$folder/venv/bin/python" - "$folder/all.yaml" "$capacity" <<'END'
import json, re, sys, yaml

def number(text, units):
    digits, unit = re.fullmatch(r"([\d.]+) ?([a-zA-Z]*)", str(text)).groups()
    return float(digits) * units[unit]

def seconds(text):
    return number(text, {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600})

def amount(text):
    return number(text, {"": 1, "m": 0.001, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40})

def check(good, message):
    if not good:
        sys.exit("error: " + message)

with open(sys.argv[1]) as file:
    objects = {entry["kind"]: entry for entry in yaml.safe_load_all(file)}
settings = yaml.safe_load(objects["ConfigMap"]["data"]["server.yaml"])
template = objects["Deployment"]["spec"]["template"]
pod = template["spec"]
container = pod["containers"][0]
limits = container["resources"]["limits"]

sleep = seconds(container["lifecycle"]["preStop"]["exec"]["command"][1])
drain = seconds(settings["drain_timeout"])
grace = pod["terminationGracePeriodSeconds"]
check(grace > sleep + drain + 1, f"terminationGracePeriodSeconds {grace} is not more than preStop sleep"
      f" {sleep:g} + drain_timeout {drain:g} + 1 s for the last answers")

check(settings["threads"] <= amount(limits["cpu"]), "threads is more than the CPU limit")
check(isinstance(settings["kv_budget_bytes"], int), "kv_budget_bytes is not a plain number of bytes")
if sys.argv[2]:
    capacity = json.loads(sys.argv[2])
    used = sum(capacity[f"{use}_bytes"] for use in ("weights", "activations", "workspace", "kv_budget"))
    check(used + 2**29 <= amount(limits["memory"]),
          f"memory limit {limits['memory']} is less than {used} bytes + 512 MiB")

ports = {port["name"]: port["containerPort"] for port in container["ports"]}
check(settings["grpc_address"] == f"0.0.0.0:{ports['grpc']}", "grpc_address is not the port grpc")
check(settings["http_address"] == f"0.0.0.0:{ports['metrics']}", "http_address is not the port metrics")
labels = template["metadata"]["labels"].items()
for kind in "Service", "PodDisruptionBudget":
    selector = objects[kind]["spec"].get("selector", {})
    selector = selector.get("matchLabels", selector)
    check(selector and selector.items() <= labels, f"{kind} does not select the pods")
END
