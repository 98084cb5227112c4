"""Distillation: the quantized transformer learns to answer as the unquantized one did on the calibration's chains."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from wan_export.errors import Exit, ExportError

from .calibration import Calibration
from .fake_quant import DynamicQuantizer, QuantizedLinear, StaticQuantizer, smoothing_factors
from .plan import Entry, Plan, module_of
from .trajectories import Trajectories

# Of a range, the share by which a step moves it, over the learning rate: Adam does not know how large what it moves is.
RANGE_RATE = 1
WARM_UP = 0.05
SEED = 0


@dataclass(frozen=True)
class Settings:
    steps: int
    batch: int
    learning_rate: float
    # 0: ranges and biases alone.
    rank: int


@dataclass(frozen=True)
class Student:
    """The transformer with its linears replaced, by the plan's names."""

    linears: dict[str, QuantizedLinear]
    quantizers: dict[str, StaticQuantizer]


def quantize(model: WanTransformer3DModel, plan: Plan, calibration: Calibration, rank: int) -> Student:
    """Puts quantized linears in place of those the plan names; those that read one value share what is done to it."""
    torch.manual_seed(SEED)
    linears: dict[str, QuantizedLinear] = {}
    quantizers: dict[str, StaticQuantizer] = {}
    for group in groups_of(plan.entries):
        found = [(entry, linear_of(model, entry.key)) for entry in group]
        first = group[0]
        device = found[0][1].weight.device
        factors = None
        if first.smooth is not None and first.precision != "int8-weights":
            largest = torch.stack([linear.weight.detach().float().abs().amax(0) for _, linear in found]).amax(0)
            factors = smoothing_factors(calibration.magnitudes(first.input).to(device), largest, first.smooth)
        quantizer: nn.Module | None = None
        if first.precision == "int8":
            quantizer = StaticQuantizer(first.low, first.high, plan.unsigned).to(device)
            quantizers |= {entry.key: quantizer for entry in group}
        elif first.precision == "int8-dynamic":
            quantizer = DynamicQuantizer()
        for entry, linear in found:
            quantized = QuantizedLinear(linear, quantizer, factors, rank)
            model.set_submodule(module_of(entry.key), quantized)
            linears[entry.key] = quantized
    return Student(linears, quantizers)


def groups_of(entries: list[Entry]) -> list[list[Entry]]:
    groups: dict[object, list[Entry]] = {}
    for entry in entries:
        alone = entry.precision == "int8-weights" or entry.input is None
        key = entry.key if alone else (entry.input, entry.precision, entry.smooth, entry.low, entry.high)
        groups.setdefault(key, []).append(entry)
    return list(groups.values())


def linear_of(model: WanTransformer3DModel, key: str) -> nn.Linear:
    try:
        found = model.get_submodule(module_of(key))
    except AttributeError:
        found = None
    if isinstance(found, nn.Linear):
        return found
    raise ExportError(Exit.MODEL, f"the checkpoint has no linear {key}", "is the plan of this model?")


def noise_of(model: WanTransformer3DModel, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """`[samples]`, squared error over the squared answer."""
    device, dtype = model.device, model.dtype
    latents, timesteps, text, wanted = (tensor.to(device) for tensor in batch)
    made = model(
        hidden_states=latents.to(dtype),
        timestep=timesteps,
        encoder_hidden_states=text.to(dtype),
        return_dict=False,
    )[0].float()
    return (made - wanted).square().flatten(1).sum(1) / wanted.square().flatten(1).sum(1)


def train(
    model: WanTransformer3DModel,
    student: Student,
    trajectories: Trajectories,
    settings: Settings,
    on_step: Callable[[int, float], None],
) -> None:
    """Lowers the mean of log noise, which SQNR in dB averages too, so that no step of the chain outweighs the others.

    Raises ExportError where the loss stops being a number.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    ranges = {id(quantizer): quantizer.ends.requires_grad_(True) for quantizer in student.quantizers.values()}
    rest = []
    for linear in student.linears.values():
        learned = [tensor for tensor in (linear.up, linear.down, linear.bias) if tensor is not None]
        rest += [tensor.requires_grad_(True) for tensor in learned]
    if model.device.type == "cuda":
        # Memory is what a GPU lacks.
        model.enable_gradient_checkpointing()
    model.train()
    rates = [RANGE_RATE * settings.learning_rate * float(ends.detach().abs().max()) for ends in ranges.values()]
    groups = [{"params": [ends], "lr": rate} for ends, rate in zip(ranges.values(), rates, strict=True)]
    optimizer = torch.optim.Adam([{"params": rest, "lr": settings.learning_rate}, *groups], betas=(0.9, 0.99))
    warm = max(1, round(WARM_UP * settings.steps))

    def schedule_of(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, settings.steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule_of)
    batches = trajectories.batches(settings.batch, SEED)
    for step in range(settings.steps):
        noise = noise_of(model, next(batches))
        loss = noise.clamp_min(1e-12).log().mean()
        if not torch.isfinite(loss):
            raise ExportError(Exit.RUNTIME, f"step {step + 1}: the loss is {float(loss)}", "lower --learning-rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        optimizer.step()
        schedule.step()
        on_step(step + 1, -10 * float(loss.detach()) / math.log(10))
    model.eval()


@torch.no_grad()
def sqnr_of(model: WanTransformer3DModel, trajectories: Trajectories, batch: int) -> float:
    """dB, mean over all samples."""
    model.eval()
    samples = trajectories.samples
    noise = [noise_of(model, trajectories.batch(samples[i : i + batch])) for i in range(0, len(samples), batch)]
    return float((-10 * torch.cat(noise).log10()).mean())
