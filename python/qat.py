# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "diffusers==0.42.1",
#   "numpy==2.4.6",
#   "safetensors==0.8.0",
#   "tokenizers==0.23.3",
#   "torch==2.15.0",
#   "transformers==5.24.0",
# ]
# ///
"""Fine-tunes a Wan transformer for the INT8 plan it is to be quantized by, and writes weights that `wanq quantize --weights` takes.

    python qat.py --checkpoint CHECKPOINT --plan plan.json --calibration calibration.safetensors --prompts prompts.txt -o FOLDER

docs/qat.md has the method, the options and what was never run.
"""

import sys

from wan_qat.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
