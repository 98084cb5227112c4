"""Writes variants, and proves that what was written computes what torch computes."""

import gzip
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, ValueInfoProto, helper
from safetensors.numpy import save_file

from .bench import Built, Recipe
from .graph import MODULES, strip_traces
from .wan import Arrays

MAX_FOLDER = 1_000_000


def write_variant(built: Built, folder: Path) -> None:
    strip_traces(built.model)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    content = {"model.onnx": built.model.SerializeToString(deterministic=True), **built.files}
    for name, data in content.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(data, 9, mtime=0))
    size = sum(file.stat().st_size for file in folder.iterdir())
    if size > MAX_FOLDER:
        raise ValueError(f"{folder.name} takes {size} bytes")


def write_references(references: dict[str, dict[str, Arrays]], file: Path) -> None:
    """Tensors named [GROUP/]CASE/TENSOR."""
    tensors = {
        "/".join(filter(None, (group, case, name))): value
        for group, cases in references.items()
        for case, arrays in cases.items()
        for name, value in arrays.items()
    }
    save_file(tensors, file)


def check_variant(recipe: Recipe, folder: Path, cases: dict[str, Arrays]) -> tuple[dict[str, float], ModelProto]:
    """The relative error of every case the graph can be given; raises where one is too large."""
    with tempfile.TemporaryDirectory() as scratch:
        for file in folder.glob("*.gz"):
            (Path(scratch) / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        path = Path(scratch) / "model.onnx"
        model = onnx.load(path, load_external_data=False)
        if portable(model):
            onnx.checker.check_model(path)
        errors = run_cases(path, model, cases)
    for case, error in errors.items():
        if not error <= recipe.tolerance:
            raise ValueError(f"{recipe.name}: error {error:.2e} on case {case}, wanted at most {recipe.tolerance:.0e}")
    if not errors:
        raise ValueError(f"{recipe.name} was not checked on any case")
    return errors, model


def portable(model: ModelProto) -> bool:
    """ORT's own operators and versions are unknown to ONNX's checker."""
    return all(entry.domain in ("", MODULES) for entry in model.opset_import)


def run_cases(path: Path, model: ModelProto, cases: dict[str, Arrays]) -> dict[str, float]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    types = [dtype_of(value) for value in model.graph.input]
    names = [value.name for value in model.graph.input]
    errors = {}
    for case, arrays in cases.items():
        inputs = [value for name, value in arrays.items() if name != "output"]
        if any(dtype.kind == "i" and (value % 1).any() for dtype, value in zip(types, inputs, strict=True)):
            continue
        feed = {name: value.astype(dtype) for name, dtype, value in zip(names, types, inputs, strict=True)}
        (output,) = session.run(None, feed)
        expected = arrays["output"]
        errors[case] = float(np.abs(output.astype(np.float32) - expected).max() / np.abs(expected).max())
    return errors


def dtype_of(value: ValueInfoProto) -> np.dtype:
    return helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


def describe(recipe: Recipe, model: ModelProto, cases: list[str]) -> dict[str, object]:
    inputs = {value.name: str(dtype_of(value)) for value in model.graph.input}
    domains = {entry.domain: entry.version for entry in model.opset_import}
    return {
        "name": recipe.name,
        "what": recipe.what,
        "producer": recipe.producer,
        "opset": domains.get("", domains.get("ai.onnx")),
        "irVersion": model.ir_version,
        "inputs": inputs,
        "timestep": f"{list(inputs.values())[1]} [{recipe.timestep}]" if recipe.timestep else None,
        "nodes": len(model.graph.node),
        "functions": len(model.functions),
        "reference": recipe.reference,
        "cases": cases,
        "tolerance": recipe.tolerance,
    }


def update_index(file: Path, entry: dict[str, object], order: list[str]) -> None:
    entries = {old["name"]: old for old in json.loads(file.read_text())} if file.exists() else {}
    entries[str(entry["name"])] = entry
    known = sorted((e for e in entries.values() if e["name"] in order), key=lambda e: order.index(e["name"]))
    file.write_text(json.dumps(known, indent=2) + "\n")


def find_paths(folder: Path) -> Iterator[str]:
    """Files in which a path of this machine is left."""
    here = {str(Path(__file__).resolve().parents[2]), sys.prefix, str(Path.home()), tempfile.gettempdir()}
    wanted = [text.encode() for text in {"site-packages", "/tmp/", "/root/", "/home/", *here} if len(text) > 3]
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            yield from (f"{file}: {text.decode()}" for text in wanted if text in data)
