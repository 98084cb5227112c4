"""What --dtype means for a weight: the type it is stored as, and the type it is computed in."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

import torch


class Dtype(StrEnum):
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


@dataclass(frozen=True)
class Precision:
    """`keep_fp32`: names of modules that stay in FP32, as the class's `_keep_in_fp32_modules` has them."""

    dtype: Dtype
    keep_fp32: Collection[str] = ()

    def kept(self, weight: str) -> bool:
        """diffusers and transformers match whole parts of a weight's path."""
        return any(part in self.keep_fp32 for part in weight.split("."))

    def computed(self, weight: str) -> torch.dtype:
        """FP16 computes as `torch_dtype=float16` does, BF16 in FP32: onnxruntime's CPU kernels lack it."""
        return torch.float16 if self.dtype is Dtype.FP16 and not self.kept(weight) else torch.float32

    def stored_as_bf16(self, weight: str, dimensions: int) -> bool:
        """Vectors stay in FP32: they weigh nothing, and each would cost a Cast."""
        return self.dtype is Dtype.BF16 and dimensions > 1 and not self.kept(weight)

    @property
    def activations(self) -> torch.dtype:
        return self.computed("")

    @property
    def tolerance(self) -> float:
        """Relative error against the checkpoint in FP32 that a check lets pass."""
        return 1e-3 if self.dtype is Dtype.FP32 else 3e-2
