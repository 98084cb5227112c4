"""What the four models of a pipeline have in common."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import nn

from .checkpoint import Checkpoint, Weights
from .precision import Dtype, Precision
from .skeleton import build, require_weights

Inputs = dict[str, torch.Tensor]
Axes = dict[str, dict[int, str]]


@dataclass
class Case:
    """Inputs that a graph is tried on."""

    label: str
    inputs: Inputs


@dataclass
class Component(ABC):
    """One folder of the pipeline."""

    checkpoint: Checkpoint
    dtype: Dtype
    name: ClassVar[str]
    """Its folder in the pipeline."""
    source: ClassVar[str]
    """Its folder in the checkpoint."""
    class_name: ClassVar[str]
    output: ClassVar[str]

    def __post_init__(self) -> None:
        self.config = self.checkpoint.config(self.source, self.class_name)
        self.weights: Weights = self.checkpoint.weights(self.source)
        self.unknown = require_weights(self.skeleton(), self.weights, str(self.checkpoint.root / self.source))

    def skeleton(self) -> nn.Module:
        return build(self.make, str(self.checkpoint.root / self.source))

    def precision(self, model: nn.Module) -> Precision:
        keep: Any = model._keep_in_fp32_modules
        return Precision(self.dtype, frozenset(keep or ()))

    @property
    def activations(self) -> torch.dtype:
        return Precision(self.dtype).activations

    @abstractmethod
    def make(self) -> nn.Module: ...

    @abstractmethod
    def wrap(self, model: nn.Module) -> nn.Module:
        """A module whose only child is `model` and whose arguments are the graph's inputs."""

    @abstractmethod
    def example(self) -> Inputs:
        """Shapes and types that the graph is traced with; no two free axes are of one size."""

    def axes(self) -> Axes:
        """Axes that stay free."""
        return {}

    @abstractmethod
    def cases(self, generator: torch.Generator, earlier: dict[str, torch.Tensor]) -> list[Case]:
        """Inputs of other sizes than the example's. `earlier`: the first output of every component tried before."""

    def trial(self) -> "Component":
        """The component whose graph is tried: itself, or one of the same weights at a size that a CPU can run."""
        return self

    @cached_property
    def pipeline_config(self) -> dict[str, Any]:
        """What goes into the pipeline's config.json."""
        return self.config
