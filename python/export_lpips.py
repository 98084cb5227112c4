# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "lpips==0.1.4",
#   "numpy==2.4.6",
#   "onnx-ir==1.1.0",
#   "onnxruntime==1.32.0",
#   "onnxscript==0.7.2",
#   "torch==2.15.0",
#   "torchvision==0.29.2",
# ]
# ///
"""Exports LPIPS, as the lpips package has it, to the ONNX file that `wanq eval --perceptual` takes.

    python export_lpips.py -o lpips.onnx
    wanq eval ... --perceptual lpips.onnx

The published weights were never run with it, only untrained networks. python/README.md has the options.
"""

import sys

from wan_export.cli import guarded
from wan_features.lpips import run

if __name__ == "__main__":
    sys.exit(guarded("export_lpips", run, sys.argv[1:]))
