"""Exports the components one after the other into a folder that appears only when all of it is there."""

import gc
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .check import Checked, check
from .checkpoint import Checkpoint
from .component import Component
from .errors import Exit, ExportError
from .geometry import Scale, VideoSize
from .graph import trace
from .precision import Dtype
from .progress import Progress
from .store import DATA_FILE, MODEL_FILE, Place, write_model, write_weights
from .text_encoder import TextEncoder
from .transformer import Transformer
from .trial import trial_model
from .vae import Vae, VaeDecoder, VaeEncoder

# The text encoder goes first: its embedding of a prompt is what the transformer is tried on.
COMPONENTS: dict[str, type[Component]] = {
    component.name: component for component in (TextEncoder, Transformer, VaeDecoder, VaeEncoder)
}


@dataclass(frozen=True)
class Options:
    checkpoint: Path
    output: Path
    size: VideoSize
    components: tuple[str, ...]
    dtype: Dtype = Dtype.FP32
    vae_dtype: Dtype = Dtype.FP32
    timestep_per_token: bool = False
    opset: int = 20
    check: bool = True


@dataclass(frozen=True)
class Exported:
    """One component as it was written."""

    name: str
    dtype: Dtype
    nodes: int
    weights: int
    bytes: int
    checked: Checked | None


@dataclass
class Run:
    """What components that come later need of earlier ones."""

    options: Options
    progress: Progress
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)


def export_pipeline(options: Options, progress: Progress) -> list[Exported]:
    _require_free(options.output)
    checkpoint = Checkpoint(options.checkpoint)
    components = list(_components(checkpoint, options))
    for component in components:
        if component.unknown:
            count, first = len(component.unknown), component.unknown[0]
            progress.line(
                f"warning: {component.source} has {count} tensors that {component.class_name} lacks: {first} ..."
            )
    run = Run(options, progress)
    with _appearing(options.output) as folder:
        exported = [_export(component, folder / component.name, run) for component in components]
        for part in ("tokenizer", "scheduler"):
            if (checkpoint.root / part).is_dir():
                shutil.copytree(checkpoint.root / part, folder / part)
        shutil.copy(checkpoint.root / "model_index.json", folder)
    return exported


def _components(checkpoint: Checkpoint, options: Options) -> Iterator[Component]:
    """Cheap checks of all of them come before the first is exported."""
    for name, kind in COMPONENTS.items():
        if name not in options.components:
            continue
        if kind is Transformer:
            yield Transformer(checkpoint, options.dtype, options.timestep_per_token)
        elif kind is TextEncoder:
            yield TextEncoder(checkpoint, options.dtype)
        elif issubclass(kind, Vae):
            yield kind(checkpoint, options.vae_dtype, _latent_size(checkpoint, options))


def _latent_size(checkpoint: Checkpoint, options: Options) -> VideoSize:
    vae = checkpoint.config(Vae.source, Vae.class_name)
    patch = checkpoint.config(Transformer.source, Transformer.class_name).get("patch_size", (1, 2, 2))
    scale = Scale(vae.get("scale_factor_temporal", 4), vae.get("scale_factor_spatial", 8), tuple(patch))
    return scale.latents(options.size)


def _export(component: Component, folder: Path, run: Run) -> Exported:
    folder.mkdir()
    with run.progress.stage(f"{component.name}: graph") as stage:
        model = trace(component, run.options.opset)
        nodes = model.graph.num_nodes()
        stage.note = f"{nodes:,} nodes"
    with run.progress.stage(f"{component.name}: weights") as stage:
        places = write_weights(model, component.weights, folder)
        write_model(model, folder / MODEL_FILE)
        config = json.dumps(component.pipeline_config, indent=2, sort_keys=True)
        (folder / "config.json").write_text(config + "\n", encoding="utf-8")
        size = sum((folder / file).stat().st_size for file in (MODEL_FILE, DATA_FILE))
        stage.note = f"{len(places)} tensors, {size / 1e6:,.2f} MB"
    del model
    # Graphs are full of cycles, and the next component's would come on top.
    gc.collect()
    checked = _check(component, folder, places, run) if run.options.check else None
    return Exported(component.name, component.dtype, nodes, len(places), size, checked)


def _check(component: Component, folder: Path, places: dict[str, Place], run: Run) -> Checked:
    with run.progress.stage(f"{component.name}: check") as stage:
        with trial_model(component, folder, places, run.options.opset) as (trial, file):
            checked = check(trial, file, run.outputs)
        run.outputs[component.name] = checked.first
        stage.note = f"relative error {checked.error:.1e} ({checked.labels})"
    return checked


def _require_free(output: Path) -> None:
    if os.path.lexists(output):
        raise ExportError(Exit.USAGE, f"{output} exists", "choose another folder, or remove it first")
    if not output.parent.is_dir():
        raise ExportError(Exit.FILES, f"{output.parent} is no folder", "create it first")


@contextmanager
def _appearing(output: Path) -> Iterator[Path]:
    """A folder beside `output` that takes its name at the end, and is removed where anything fails."""
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        yield partial
        _require_free(output)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
