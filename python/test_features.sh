#!/usr/bin/env bash
# The whole proof of export_i3d.py and export_lpips.py: stand-ins of the same interface, since published weights cannot be shipped, and
# `wanq eval` on what came out.
#
#   npm run build && PYTHON=venv/bin/python python/test_features.sh      # an environment with requirements-features.txt
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
micro=$root/fixtures/micro-wan
. "$here/proof.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1
PYTHON=${PYTHON:-python3}

same_pins() {
  local script
  for script in export_i3d export_lpips; do
    sed -n '/^# dependencies/,/^# \]/p' "$here/$script.py" | grep -o '[a-z-]*==[0-9.]*' >"$work/pins"
    if grep --line-regexp --invert-match --fixed-strings --file "$here/requirements-features.txt" "$work/pins"; then return 1; fi
  done
}

# A small 3D network with I3D's interface and its kind of padding, 6 features instead of 400; videos of the micro pipeline's domain, as MP4 at
# another size and rate and as NumPy clips.
stand_ins() {
  # TorchScript reads the source of what it compiles, so it has to be a file.
  cat >"$work/stand_ins.py" <<'PYTHON'
import sys
from pathlib import Path

import av
import numpy as np
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.nn import functional as F


class SameConv(nn.Module):
    def __init__(self, inside: int, outside: int, kernel: int, stride: int):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv3d(inside, outside, kernel, stride, bias=False)
        self.norm = nn.BatchNorm3d(outside)

    def forward(self, x):
        pads = [0] * 6
        for i in range(3):
            size = x.shape[4 - i]
            rest = self.stride if size % self.stride == 0 else size % self.stride
            missing = max(self.kernel - rest, 0)
            pads[2 * i] = missing // 2
            pads[2 * i + 1] = missing - missing // 2
        return F.relu(self.norm(self.conv(F.pad(x, pads))))


class StandIn(nn.Module):
    def __init__(self, features: int):
        super().__init__()
        self.stem = SameConv(3, 8, 5, 2)
        self.body = SameConv(8, 16, 3, 2)
        self.head = nn.Conv3d(16, features, 1)

    def forward(self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False):
        if rescale:
            x = 2 * x / 255 - 1
        if resize:
            frames = x.shape[2]
            x = F.interpolate(x, size=(frames, 96, 96), mode="trilinear", align_corners=False)
        x = F.max_pool3d(self.body(self.stem(x)), [1, 3, 3], [1, 2, 2], [0, 1, 1])
        x = self.head(F.avg_pool3d(x, [2, 12, 12], stride=1)).squeeze(3).squeeze(3).mean(2)
        return x if return_features else F.softmax(x, dim=1)


work = Path(sys.argv[1])
torch.manual_seed(0)
torch.jit.save(torch.jit.script(StandIn(6).eval()), work / "i3d_torchscript.pt")
torch.jit.save(torch.jit.script(nn.ReLU()), work / "other.pt")

clips = load_file(sys.argv[2])["clips"]
rng = np.random.default_rng(0)
videos = work / "videos"
videos.mkdir()
for i in range(8):
    clip = np.roll(clips[i % len(clips)], int(rng.integers(0, 128)), axis=2)[:, :, :: -1 if i % 2 else 1]
    with av.open(str(videos / f"{i}.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=16)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for frame in np.pad(np.repeat(clip, 2, axis=0), ((0, 0), (0, 0), (16, 16), (0, 0))):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    if i == 0:
        np.save(work / "first.npy", clip)
np.save(videos / "clips.npy", clips)
(work / "few").mkdir()
np.save(work / "few" / "clips.npy", clips)
PYTHON
  "$PYTHON" -W ignore "$work/stand_ins.py" "$work" "$micro/clips.safetensors"
}

export_i3d() {
  "$PYTHON" "$here/export_i3d.py" "$@" --frames 17 --height 128 --width 128 --fps 8
}

export_lpips() {
  "$PYTHON" "$here/export_lpips.py" -o "$work/lpips.onnx" --random
}

# $1: exit code that is expected; the rest: a command. One line, and nothing is left behind.
refuse() {
  local wanted=$1 code=0
  shift
  "$@" 2>"$work/error" || code=$?
  cat "$work/error"
  [ "$code" = "$wanted" ]
  [ "$(wc -l <"$work/error")" = 1 ]
  [ "$(find "$work" -maxdepth 1 -name '*.partial' | wc -l)" = 0 ]
}

no_traces_of_this_machine() {
  ! grep --text --files-with-matches -E 'site-packages|stack_trace|/python3\.' "$work/i3d/model.onnx" "$work/lpips.onnx"
}

# Decoding, rate and size, against the clips that the videos were made of; and the statistics.
check_reference() {
  "$PYTHON" - "$work" "$here" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

sys.path.insert(0, sys.argv[2])
from wan_features.videos import ClipSize, clips_of

work = Path(sys.argv[1])
size = ClipSize(17, 128, 128, 8)
stored = list(clips_of(work / "videos" / "clips.npy", size, 1))
decoded = list(clips_of(work / "videos" / "0.mp4", size, 9))
assert len(stored) == 4 and len(decoded) == 1, (len(stored), len(decoded))
# What was stored twice and padded at the sides is there once, and without them; mpeg4 loses a little.
error = np.abs(decoded[0].astype(float) - np.load(work / "first.npy")).mean()
print(f"decoded beside what was encoded: {error:.1f} grey levels")
assert error < 8, error
reference = safe_open(work / "i3d" / "reference.safetensors", "np")
features = reference.get_tensor("features").astype(np.float64)
print(reference.metadata(), features.shape)
assert features.shape == (12, 6) and reference.metadata()["count"] == "12"
np.testing.assert_allclose(reference.get_tensor("mean"), features.mean(0), rtol=1e-6, atol=1e-9)
np.testing.assert_allclose(reference.get_tensor("covariance"), np.cov(features.T), rtol=1e-5, atol=1e-12)
PYTHON
}

first_prompts() {
  grep -v '^#' "$root/prompts/$1.txt" | head -n "$2" >"$work/$1.txt"
}

evaluate() {
  wanq eval "$micro/pipeline" "$work/int8" --prompts "$work/eval.txt" --steps 2 --guidance 1 --features "$work/i3d" --perceptual "$work/lpips.onnx" --noise-floor none -o "$work/report"
  node - "$work/report/results.json" <<'JS'
const { metrics } = JSON.parse(require('node:fs').readFileSync(process.argv[2], 'utf8'));
for (const name of ['fvd_reference', 'fvd_quantized', 'fvd_growth', 'kvd_reference', 'kvd_quantized', 'lpips']) {
  const { value, n } = metrics[name] ?? {};
  console.log(name, value, `n = ${n}`);
  if (!Number.isFinite(value)) throw new Error(`${name} was not measured`);
}
JS
}

step "the same pins in both places" same_pins
step "stand-ins" stand_ins
step "export I3D" export_i3d "$work/i3d_torchscript.pt" --videos "$work/videos" -o "$work/i3d"
step "its reference" check_reference
step "export LPIPS" export_lpips
step "no traces of this machine" no_traces_of_this_machine
step "refuse too few clips" refuse 5 export_i3d "$work/i3d_torchscript.pt" --videos "$work/few" -o "$work/none"
step "unless they are allowed" export_i3d "$work/i3d_torchscript.pt" --videos "$work/few" -o "$work/allowed" --allow-few --no-features
step "refuse another network" refuse 3 export_i3d "$work/other.pt" --videos "$work/videos" -o "$work/none"
step "refuse what is no network" refuse 3 export_i3d "$work/few/clips.npy" --videos "$work/videos" -o "$work/none"
step "refuse what exists" refuse 2 export_i3d "$work/i3d_torchscript.pt" --videos "$work/videos" -o "$work/i3d"
step "refuse what exists" refuse 2 export_lpips
first_prompts calibration 2
first_prompts eval 8
step "calibrate" wanq calibrate "$micro/pipeline" --prompts "$work/calibration.txt" --steps 4 --guidance 1 -o "$work/calibration.safetensors"
step "quantize" wanq quantize "$micro/pipeline" --calibration "$work/calibration.safetensors" -o "$work/int8"
step "eval" evaluate
echo "all of it passed in $SECONDS s"
