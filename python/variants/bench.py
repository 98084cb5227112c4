"""What a variant is, and the order in which variants are made of one another."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from diffusers import WanTransformer3DModel
from onnx import ModelProto

from .wan import Arrays

FP32_TOLERANCE = 1e-4
FP16_TOLERANCE = 2e-2


@dataclass
class Built:
    model: ModelProto
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    name: str
    what: str
    producer: str
    make: "Callable[[Bench], ModelProto | Built]"
    tolerance: float = FP32_TOLERANCE
    reference: str = ""
    timestep: str = "batch"


RECIPES: dict[str, Recipe] = {}


def variant(
    name: str, what: str, producer: str, **options: float | str
) -> "Callable[[Callable[[Bench], ModelProto | Built]], Callable[[Bench], ModelProto | Built]]":
    """Registers the function below it; later ones may take earlier ones as their base."""

    def register(make: "Callable[[Bench], ModelProto | Built]") -> "Callable[[Bench], ModelProto | Built]":
        RECIPES[name] = Recipe(name, what, producer, make, **options)
        return make

    return register


class Bench:
    """The torch model, its checkpoint, scratch space, and the graphs made so far."""

    def __init__(self, model: WanTransformer3DModel, checkpoint: Path, scratch: Path) -> None:
        self.model = model
        self.checkpoint = checkpoint
        self.scratch = scratch
        self.references: dict[str, dict[str, Arrays]] = {}
        self._built: dict[str, Built] = {}

    def build(self, name: str) -> Built:
        if name not in self._built:
            result = RECIPES[name].make(self)
            self._built[name] = result if isinstance(result, Built) else Built(result)
        return self._built[name]

    def copy_of(self, name: str) -> ModelProto:
        model = ModelProto()
        model.CopyFrom(self.build(name).model)
        return model
