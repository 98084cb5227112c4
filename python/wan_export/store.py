"""Writes model.onnx and model.onnx_data, one chunk of one weight in memory at a time."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir
import torch

from .checkpoint import StoredTensor, Weights
from .errors import Exit, ExportError
from .graph import weights_of
from .skeleton import stored_name

MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx_data"
# A page: onnxruntime maps weights that start on one straight from the file.
ALIGNMENT = 4096
TORCH_DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
}


@dataclass(frozen=True)
class Place:
    """Where a weight lies in the data file."""

    offset: int
    length: int


def write_weights(model: ir.Model, weights: Weights, folder: Path) -> dict[str, Place]:
    """Streams every weight of the graph into the data file, in the graph's order, and points the graph there."""
    needed = sum(_length(value) + ALIGNMENT for value in weights_of(model))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ExportError(Exit.FILES, f"{folder.parent} has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB are needed")
    places: dict[str, Place] = {}
    with (folder / DATA_FILE).open("wb") as file:
        for value in weights_of(model):
            assert value.name is not None and value.dtype is not None
            key = stored_name(weights, value.name)
            assert key is not None
            file.write(bytes(-file.tell() % ALIGNMENT))
            offset = file.tell()
            _write_tensor(file, weights[key], TORCH_DTYPES[value.dtype], key)
            places[value.name] = Place(offset, file.tell() - offset)
        file.flush()
        os.fsync(file.fileno())
    point_to_data(model, places, folder)
    return places


def point_to_data(model: ir.Model, places: dict[str, Place], folder: Path) -> None:
    for value in weights_of(model):
        assert value.name is not None and value.dtype is not None and value.shape is not None
        place = places[value.name]
        value.const_value = ir.ExternalTensor(
            DATA_FILE,
            offset=place.offset,
            length=place.length,
            dtype=value.dtype,
            shape=value.shape,
            name=value.name,
            base_dir=folder,
        )


def write_model(model: ir.Model, file: Path) -> None:
    data = ir.to_proto(model).SerializeToString()
    with file.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _length(value: ir.Value) -> int:
    assert value.shape is not None and value.dtype is not None
    count = 1
    for dim in value.shape.numpy():
        count *= dim
    return count * TORCH_DTYPES[value.dtype].itemsize


def _write_tensor(file: BinaryIO, tensor: StoredTensor, dtype: torch.dtype, name: str) -> None:
    for chunk in tensor.chunks():
        converted = chunk.to(dtype)
        # FP16 ends at 65,504. A weight that does not fit would make every output NaN.
        if dtype is torch.float16 and not torch.equal(converted.isfinite(), chunk.isfinite()):
            raise ExportError(Exit.MODEL, f"{name} has values beyond FP16's range", "use --dtype bf16 or fp32")
        file.write(converted.view(torch.uint8).numpy().data)
