"""Runs an exported graph in onnxruntime beside the checkpoint in torch, both within bounded memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from .checkpoint import Weights
from .component import Component, Inputs
from .errors import Exit, ExportError
from .skeleton import replace_parameters, stored_name

SEED = 0


@dataclass(frozen=True)
class Checked:
    """The largest relative error over a component's cases, and the first case's output."""

    error: float
    labels: str
    first: torch.Tensor


def check(component: Component, model_file: Path, earlier: dict[str, torch.Tensor]) -> Checked:
    """Raises ExportError where the graph and torch differ by more than the type explains."""
    cases = component.cases(torch.Generator().manual_seed(SEED), earlier)
    tolerance = component.precision(component.skeleton()).tolerance
    ours = _run_onnxruntime(component, model_file, [case.inputs for case in cases])
    theirs = _run_torch(component, [case.inputs for case in cases])
    worst = 0.0
    for case, got, wanted in zip(cases, ours, theirs, strict=True):
        if got.shape != wanted.shape:
            message = f"{component.name} ({case.label}) gives {list(got.shape)}, torch {list(wanted.shape)}"
            raise ExportError(Exit.RUNTIME, message, "report it, with the versions that are installed")
        error = relative_error(got, wanted)
        if not error <= tolerance:
            message = f"{component.name} ({case.label}) differs from torch by {error:.1e}, wanted {tolerance:.0e}"
            hint = "--no-check writes it all the same" if component.dtype == "fp32" else "try --dtype fp32"
            raise ExportError(Exit.RUNTIME, message, hint)
        worst = max(worst, error)
    return Checked(worst, ", ".join(case.label for case in cases), ours[0])


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    wanted = wanted.double()
    return float((got.double() - wanted).norm() / wanted.norm().clamp_min(1e-30))


def _run_onnxruntime(component: Component, model_file: Path, cases: list[Inputs]) -> list[torch.Tensor]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Optimizing and packing copy weights: a second model in memory. As it stands the graph reads them from their file,
    # and in the graph's own order it widens no weight before its turn.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    try:
        session = ort.InferenceSession(str(model_file), options, providers=["CPUExecutionProvider"])
        return [
            torch.from_numpy(np.asarray(session.run(None, {key: x.numpy() for key, x in inputs.items()})[0]))
            for inputs in cases
        ]
    except Exception as error:  # onnxruntime's exceptions share no base class
        text = " ".join(str(error).split())
        raise ExportError(Exit.RUNTIME, f"onnxruntime cannot run {component.name}: {text}") from error


def _run_torch(component: Component, cases: list[Inputs]) -> list[torch.Tensor]:
    model = component.skeleton()
    with torch.inference_mode(), _weights_on_demand(model, component.weights):
        module = component.wrap(model).eval()
        return [
            module(*(x.float() if x.is_floating_point() else x for x in inputs.values())).clone() for inputs in cases
        ]


@contextmanager
def _weights_on_demand(model: nn.Module, weights: Weights) -> Iterator[None]:
    """Runs `model` in FP32 while holding only the running module's weights; FP32 ones are not even copied."""
    # Placeholders of the right type and device, which code that only asks for these finds outside the forward.
    replace_parameters(model, lambda _, old: torch.empty(1).expand(old.shape))
    hooks = []
    for prefix, module in model.named_modules():
        own = {
            local: f"{prefix}.{local}" if prefix else local for local, p in module._parameters.items() if p is not None
        }
        if not own:
            continue
        placeholders = {local: module._parameters[local] for local in own}

        def load(module: nn.Module, _: object, own: dict[str, str] = own) -> None:
            for local, name in own.items():
                key = stored_name(weights, name)
                assert key is not None
                tensor = weights[key].mapped()
                # A table's rows are widened after the look-up.
                widen = not isinstance(module, nn.Embedding)
                module._parameters[local] = nn.Parameter(tensor.float() if widen else tensor, requires_grad=False)

        def drop(
            module: nn.Module,
            _: object,
            output: torch.Tensor,
            placeholders: dict[str, nn.Parameter | None] = placeholders,
        ) -> torch.Tensor:
            module._parameters.update(placeholders)
            return output.float() if isinstance(module, nn.Embedding) else output

        hooks += [module.register_forward_pre_hook(load), module.register_forward_hook(drop)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
