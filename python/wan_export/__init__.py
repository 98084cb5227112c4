"""Export of a Wan diffusers checkpoint to ONNX, one weight in memory at a time."""
