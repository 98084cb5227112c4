"""Models without their weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .checkpoint import Weights
from .errors import Exit, ExportError

# Names that transformers' encoder knows one tensor by.
ALIASES = {"encoder.embed_tokens.weight": "shared.weight", "shared.weight": "encoder.embed_tokens.weight"}


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Constructs models whose parameters have no storage. Buffers keep theirs: RoPE's tables are computed at once."""
    register = nn.Module.register_parameter

    def register_on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        register(module, name, parameter)

    nn.Module.register_parameter = register_on_meta  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def build(make: Callable[[], nn.Module], what: str) -> nn.Module:
    """Raises ExportError where the class refuses its configuration."""
    try:
        with parameters_on_meta():
            return make().eval()
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise ExportError(Exit.MODEL, f"{what} has a configuration that its class refuses: {error}") from error


def stored_name(weights: Weights, name: str) -> str | None:
    """The name that a parameter has in the checkpoint."""
    return next((key for key in (name, ALIASES.get(name)) if key in weights), None)


def require_weights(model: nn.Module, weights: Weights, what: str) -> list[str]:
    """Raises ExportError where a tensor is missing or of another shape. Returns those that the class does not know."""
    known = set()
    for name, parameter in model.state_dict().items():
        key = stored_name(weights, name)
        if key is None:
            raise ExportError(Exit.MODEL, f"{what} has no tensor {name}", "its configuration belongs to another model")
        if weights[key].shape != tuple(parameter.shape):
            raise ExportError(
                Exit.MODEL,
                f"{what}: {name} has shape {list(weights[key].shape)}, wanted {list(parameter.shape)}",
            )
        known.add(key)
    return sorted(set(weights) - known)


def replace_parameters(model: nn.Module, make: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    """Gives every parameter another tensor: `make(name, parameter)`. Modules that share one go on sharing it."""
    made: dict[int, nn.Parameter] = {}
    for prefix, module in model.named_modules():
        for local, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            name = f"{prefix}.{local}" if prefix else local
            key = id(parameter)
            if key not in made:
                made[key] = nn.Parameter(make(name, parameter), requires_grad=False)
            module._parameters[local] = made[key]
