#!/usr/bin/env bash
# The whole proof of export_wan.py: a fresh virtual environment, an export of the micro checkpoint, and wanq on what came out.
#
#   npm run build && python/test_export.sh            # 6 GB in a temporary folder, removed at the end
#   PYTHON=venv/bin/python python/test_export.sh      # with an environment that has requirements.txt already
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
micro=$root/fixtures/micro-wan
. "$here/proof.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1

fresh_environment() {
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet -r "$here/requirements.txt"
}

same_pins() {
  diff <(grep -o '[a-z-]*==[0-9.]*' "$here/requirements.txt") <(sed -n '/^# dependencies/,/^# \]/p' "$here/export_wan.py" | grep -o '[a-z-]*==[0-9.]*')
}

export_micro() {
  local output=$1
  shift
  "$PYTHON" "$here/export_wan.py" "$micro/checkpoint" -o "$output" --height 128 --width 128 --frames 17 "$@"
}

# Every component, on other inputs than the script's own check, against the pipeline that the fixture ships.
compare() {
  "$PYTHON" - "$work/fp32" "$micro/pipeline" <<'PYTHON'
import sys

import numpy as np
import onnxruntime as ort

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


cases = {
    "transformer": {
        "hidden_states": normal(2, 12, 5, 8, 8),
        "timestep": np.full(2, 731.25, np.float32),
        "encoder_hidden_states": normal(2, 32, 64),
    },
    "text_encoder": {
        "input_ids": rng.integers(1, 200, (2, 32)),
        "attention_mask": (np.arange(32) < [[20], [9]]).astype(np.int64),
    },
    "vae_decoder": {"latent_sample": normal(1, 12, 5, 8, 8)},
    "vae_encoder": {"sample": np.tanh(normal(1, 3, 17, 128, 128))},
}
for name, inputs in cases.items():
    got, wanted = (ort.InferenceSession(f"{folder}/{name}/model.onnx").run(None, inputs)[0] for folder in sys.argv[1:])
    error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
    print(f"{name}: relative difference to the fixture {error:.1e}")
    if not error < 1e-5:
        sys.exit(f"{name} differs")
PYTHON
}

no_traces_of_this_machine() {
  ! grep --text --files-with-matches -E 'site-packages|stack_trace|/python3\.' "$work"/fp32/*/model.onnx
}

refusals() {
  local code=0
  export_micro "$work/fp32" 2>"$work/error" || code=$?
  cat "$work/error"
  [ "$code" = 2 ]
  [ "$(find "$work" -maxdepth 1 -name '*.partial' | wc -l)" = 0 ]
}

first_prompts() {
  grep -v '^#' "$root/prompts/$1.txt" | head -n 2 >"$work/$1.txt"
}

step "the same pins in both places" same_pins
if [ -z "${PYTHON:-}" ]; then
  step "fresh environment" fresh_environment
  PYTHON=$work/venv/bin/python
fi
step "export fp32" export_micro "$work/fp32"
step "compare with the fixture" compare
step "no traces of this machine" no_traces_of_this_machine
step "refuse what exists" refusals
step "inspect" wanq inspect "$work/fp32"
first_prompts calibration
first_prompts eval
step "calibrate" wanq calibrate "$work/fp32" --prompts "$work/calibration.txt" --steps 4 --guidance 3 -o "$work/calibration.safetensors"
step "quantize" wanq quantize "$work/fp32" --calibration "$work/calibration.safetensors" -o "$work/int8"
step "eval" wanq eval "$work/fp32" "$work/int8" --prompts "$work/eval.txt" --steps 4 --guidance 3 -o "$work/report"
step "export fp16" export_micro "$work/fp16" --dtype fp16 --components transformer
step "inspect fp16" wanq inspect "$work/fp16"
step "export bf16" export_micro "$work/bf16" --dtype bf16 --components transformer
step "inspect bf16" wanq inspect "$work/bf16"
step "export with a timestep a token" export_micro "$work/tokens" --timestep tokens --components transformer
step "inspect it" wanq inspect "$work/tokens"
echo "all of it passed in $SECONDS s"
