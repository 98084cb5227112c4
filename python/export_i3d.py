# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "av==18.1.0",
#   "numpy==2.4.6",
#   "onnx-ir==1.1.0",
#   "onnxruntime==1.32.0",
#   "onnxscript==0.7.2",
#   "safetensors==0.8.0",
#   "torch==2.15.0",
# ]
# ///
"""Exports StyleGAN-V's I3D (i3d_torchscript.pt) and the statistics of real videos under it, for FVD and KVD in wanq.

    python export_i3d.py i3d_torchscript.pt --videos FOLDER -o i3d
    wanq eval ... --features i3d

The published weights were never run with it, only a network of the same interface. python/README.md has the options.
"""

import sys

from wan_export.cli import guarded
from wan_features.i3d import run

if __name__ == "__main__":
    sys.exit(guarded("export_i3d", run, sys.argv[1:]))
