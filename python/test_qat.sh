#!/usr/bin/env bash
# The whole proof of qat.py, on the micro checkpoint: every linear in static INT8, embeddings and output projection too; a gate that no choice of
# ranges and smoothing passes; fine-tuning; the same gate passes, on prompts that neither calibration nor training saw.
#
#   npm run build && PYTHON=venv/bin/python python/test_qat.sh [FOLDER]      # an environment with requirements.txt; FOLDER keeps what was made
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
micro=$root/fixtures/micro-wan
. "$here/proof.sh"
if [ $# -gt 0 ]; then
  work=$1
  mkdir -p "$work"
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
export PYTHONDONTWRITEBYTECODE=1
PYTHON=${PYTHON:-python3}
steps=${STEPS:-1500}

# Prompts of the fixture's grammar, none of which is evaluated on: 128 to train on, the first 32 of them to calibrate on.
prompts() {
  "$PYTHON" - "$root/prompts" >"$work/training.txt" <<'PYTHON'
import itertools
import random
import sys

known = {line.strip() for line in open(f"{sys.argv[1]}/eval.txt", encoding="utf-8")}
parts = (
    ("small", "large"),
    ("red", "green", "blue", "yellow", "purple", "orange", "white", "cyan"),
    ("circle", "square", "triangle", "diamond", "ring"),
    ("moving left", "moving right", "moving up", "moving down", "bouncing", "growing", "shrinking", "spinning"),
    ("dark", "gray", "sky", "sand", "grass"),
)
every = [f"a {a} {b} {c} {d} over a {e} background" for a, b, c, d, e in itertools.product(*parts)]
random.Random(0).shuffle(every)
print("\n".join([prompt for prompt in every if prompt not in known][:128]))
PYTHON
  head -n 32 "$work/training.txt" >"$work/calibration.txt"
}

# The plan of all linears: that of the blocks, with those outside added, and ranges chosen for them too.
plan() {
  wanq quantize "$micro/pipeline" --calibration "$work/calibration.safetensors" --scheme blocks --target tensorrt --dry-run --save-plan "$work/blocks.json" >"$work/blocks.txt"
  "$PYTHON" - "$work" <<'PYTHON'
import json
import sys

plan = json.load(open(f"{sys.argv[1]}/blocks.json"))
plan["linears"] = {key: {"precision": "int8"} for key, entry in plan["linears"].items() if entry["precision"] == "int8"}
outside = ("time_embedder.1", "time_embedder.2", "time_proj", "text_embedder.1", "text_embedder.2", "proj_out")
plan["linears"] |= {key: {"precision": "int8"} for key in outside}
json.dump(plan, open(f"{sys.argv[1]}/all.json", "w"))
PYTHON
  wanq quantize "$micro/pipeline" --calibration "$work/calibration.safetensors" --plan "$work/all.json" --save-plan "$work/plan.json" --link -o "$work/ptq"
}

# $1: folder of the quantized pipeline; $2: exit code that is expected.
gate() {
  local code=0
  wanq eval "$micro/pipeline" "$work/$1" --prompts "$work/eval.txt" --steps 20 --guidance 3 --seed 1000 --clips "$micro/clips.safetensors" --gate "$work/rules.json" -o "$work/report-$1" || code=$?
  [ "$code" = "$2" ]
}

train() {
  "$PYTHON" "$here/qat.py" --checkpoint "$micro/checkpoint" --plan "$work/plan.json" --calibration "$work/calibration.safetensors" --prompts "$work/training.txt" --steps "$steps" -o "$work/qat"
}

grep -v '^#' "$root/prompts/eval.txt" | head -n 4 >"$work/eval.txt"
cat >"$work/rules.json" <<'JSON'
{ "rules": [{ "metric": "psnr_drop", "operator": "<=", "limit": 3 }, { "metric": "sqnr", "operator": ">=", "limit": 36.8 }] }
JSON
step "prompts" prompts
step "calibrate" wanq calibrate "$micro/pipeline" --prompts "$work/calibration.txt" --steps 20 --guidance 3 -o "$work/calibration.safetensors"
step "quantize every linear" plan
step "the gate fails" gate ptq 1
step "fine-tune" train
step "quantize the weights that were learned" wanq quantize "$micro/pipeline" --calibration "$work/calibration.safetensors" --plan "$work/qat/plan.json" --weights "$work/qat/weights.safetensors" --link -o "$work/trained"
step "the gate passes" gate trained 0
echo "all of it passed in $SECONDS s"
