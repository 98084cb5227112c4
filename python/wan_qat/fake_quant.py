"""Linears that compute as the quantized graph will, with gradients.

Rounding passes its gradient straight through (Bengio et al., arXiv 1308.3432); ranges learn as in LSQ (Esser et al.,
arXiv 1902.08153).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# As wanq's: src/numerics/smoothing.ts.
MAX_LOG = 12.0
LEAST = 1e-6
# Scales of what is always zero.
TINY = 1e-30


def rounded(x: Tensor) -> Tensor:
    return x + (x.round() - x).detach()


def smoothing_factors(activation: Tensor, weight: Tensor, alpha: float) -> Tensor:
    """`[channels]`, max|x|^alpha / max|w|^(1 - alpha), of geometric mean 1 (SmoothQuant, arXiv 2211.10438)."""
    logs = alpha * activation.clamp_min(LEAST).log2() - (1 - alpha) * weight.clamp_min(LEAST).log2()
    return torch.exp2((logs - logs.mean()).clamp(-MAX_LOG, MAX_LOG))


class StaticQuantizer(nn.Module):
    """A range for an activation, shared by all linears that read it: [low, high] for UINT8, +-threshold for INT8."""

    def __init__(self, low: float, high: float, unsigned: bool) -> None:
        super().__init__()
        self.unsigned = unsigned
        self.ends = nn.Parameter(torch.tensor([low, high] if unsigned else [max(abs(low), abs(high))]))

    def range(self) -> tuple[float, float]:
        ends = self.ends.detach().double().tolist()
        return (min(ends[0], 0.0), max(ends[1], 0.0)) if self.unsigned else (-abs(ends[0]), abs(ends[0]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes with the zero point taken off, and the scale."""
        if not self.unsigned:
            scale = self.ends[0].abs().clamp_min(TINY) / 127
            return rounded((x / scale).clamp(-127, 127)), scale
        low, high = self.ends[0].clamp_max(0), self.ends[1].clamp_min(0)
        scale = (high - low).clamp_min(TINY) / 255
        zero = rounded((-low / scale).clamp(0, 255))
        return rounded((x / scale + zero).clamp(0, 255)) - zero, scale


class DynamicQuantizer(nn.Module):
    """One symmetric INT8 scale for each token, of its largest magnitude."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes, and the scales `[..., 1]`."""
        scale = x.detach().abs().amax(-1, keepdim=True).clamp_min(TINY) / 127
        return rounded(x / scale), scale


class QuantizedLinear(nn.Module):
    """A linear with INT8 weights, one scale for each output channel, over a quantized input.

    Its own weight stays as it is: what is learned is a low-rank change of it (LoRA, arXiv 2106.09685), its bias, and
    the range of its input.
    """

    def __init__(self, linear: nn.Linear, quantizer: nn.Module | None, factors: Tensor | None, rank: int) -> None:
        super().__init__()
        device = linear.weight.device
        self.weight = nn.Parameter(linear.weight.detach(), requires_grad=False)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().float())
        # In a list, so that it is no submodule: several linears may share it.
        self._quantizer = [quantizer]
        self.register_buffer("factors", factors)
        self.down = self.up = None
        if rank > 0:
            out_features, in_features = linear.weight.shape
            rank = min(rank, in_features, out_features)
            self.down = nn.Parameter(torch.randn(rank, in_features, device=device) / in_features**0.5)
            self.up = nn.Parameter(torch.zeros(out_features, rank, device=device))

    def merged(self) -> Tensor:
        """`[out, in]`, FP32."""
        weight = self.weight.float()
        return weight if self.up is None else weight + self.up @ self.down

    def forward(self, x: Tensor) -> Tensor:
        dtype = self.weight.dtype
        weight, values = self.merged(), x.float()
        if self.factors is not None:
            weight, values = weight * self.factors, values / self.factors
        scale = weight.detach().abs().amax(1).clamp_min(TINY) / 127
        codes = rounded((weight / scale[:, None]).clamp(-127, 127))
        if (quantizer := self._quantizer[0]) is not None:
            values, step = quantizer(values)
            scale = scale * step
        # Codes are exact in every type of checkpoint; what they stand for would not be in BF16.
        made = F.linear(values.to(dtype), codes.to(dtype)).float() * scale
        return (made if self.bias is None else made + self.bias).to(dtype)
