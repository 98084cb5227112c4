# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "diffusers==0.42.1",
#   "numpy==2.4.6",
#   "onnx==1.23.2",
#   "onnx-ir==1.1.0",
#   "onnxruntime==1.32.0",
#   "onnxscript==0.7.2",
#   "safetensors==0.8.0",
#   "tokenizers==0.23.3",
#   "torch==2.15.0",
#   "transformers==5.24.0",
# ]
# ///
"""Exports a diffusers checkpoint of Wan2.2-TI2V-5B's classes to the ONNX pipeline folder that wanq reads.

    python export_wan.py CHECKPOINT -o FOLDER

python/README.md has the options, the memory it takes and what was never run.
"""

import sys

from wan_export.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
