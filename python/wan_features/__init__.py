"""Networks that wanq measures videos with: from torch to ONNX."""
