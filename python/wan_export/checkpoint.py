"""The diffusers folder: its configurations, and where each weight lies in its safetensors files."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import torch

from .errors import Exit, ExportError

# Of the formats that safetensors knows, those that a float can be read from without a scale.
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# safetensors' own bound on a header.
MAX_HEADER_BYTES = 100_000_000
CHUNK_BYTES = 16 << 20


def read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExportError(Exit.MODEL, f"{file} is missing", "download the whole checkpoint") from None
    except ValueError as error:
        raise ExportError(Exit.MODEL, f"{file} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ExportError(Exit.MODEL, f"{file} holds no JSON object")
    return value


@dataclass(frozen=True)
class StoredTensor:
    """A tensor's place in a safetensors file."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    length: int

    def chunks(self) -> Iterator[torch.Tensor]:
        """Flat pieces in order. One buffer serves all of them, so each is good until the next is asked for."""
        buffer = bytearray(min(CHUNK_BYTES, self.length))
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.offset)
            left = self.length
            while left:
                view = memoryview(buffer)[: min(left, len(buffer))]
                got = 0
                while got < len(view):
                    count = file.readinto(view[got:])
                    if not count:
                        raise ExportError(Exit.FILES, f"{self.file} ended while it was read")
                    got += count
                yield torch.frombuffer(view, dtype=self.dtype)
                left -= len(view)

    def mapped(self) -> torch.Tensor:
        """The tensor as pages of its file, which take memory only while they are read and can be dropped again."""
        if self.offset % self.dtype.itemsize:
            return torch.cat([chunk.clone() for chunk in self.chunks()]).view(self.shape)
        piece = _mapped_file(self.file)[self.offset : self.offset + self.length]
        return piece.view(self.dtype).view(self.shape)


@lru_cache
def _mapped_file(file: Path) -> torch.Tensor:
    return torch.from_file(str(file), shared=False, size=file.stat().st_size, dtype=torch.uint8)


class Weights(Mapping[str, StoredTensor]):
    """All tensors of one model folder, whether in one safetensors file or in shards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tensors: dict[str, StoredTensor] = {}
        for file in _weight_files(folder):
            self._tensors.update(_read_header(file))

    def __getitem__(self, name: str) -> StoredTensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _weight_files(folder: Path) -> list[Path]:
    for stem in ("diffusion_pytorch_model", "model"):
        index, single = folder / f"{stem}.safetensors.index.json", folder / f"{stem}.safetensors"
        if index.exists():
            shards = sorted(set(read_json(index).get("weight_map", {}).values()))
            if any(Path(shard).name != shard for shard in shards):
                raise ExportError(Exit.MODEL, f"{index} names files outside its folder")
            missing = [shard for shard in shards if not (folder / shard).exists()]
            if missing or not shards:
                what = f"{folder / missing[0]} is missing" if missing else f"{index} names no files"
                raise ExportError(Exit.MODEL, what, "download the whole checkpoint")
            return [folder / shard for shard in shards]
        if single.exists():
            return [single]
    hint = "only safetensors are read, under diffusers' and transformers' default names"
    raise ExportError(Exit.MODEL, f"{folder} has no weights", hint)


def _read_header(file: Path) -> dict[str, StoredTensor]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise ExportError(Exit.MODEL, f"{file} is no safetensors file, or is cut short")
        raw = stream.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        return {name: _stored(file, name, entry, 8 + length, size) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExportError(Exit.MODEL, f"{file} has a damaged header: {error}") from error


def _stored(file: Path, name: str, entry: dict[str, Any], data: int, size: int) -> StoredTensor:
    if entry["dtype"] not in DTYPES:
        hint = "use the checkpoint in BF16, FP16 or FP32"
        raise ExportError(Exit.MODEL, f"{file}: {name} is stored as {entry['dtype']}", hint)
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= size - data or end - begin != prod(shape) * dtype.itemsize:
        raise ExportError(Exit.MODEL, f"{file}: the bytes of {name} do not fit its shape, or the file is cut short")
    return StoredTensor(file, dtype, shape, data + begin, end - begin)


class Checkpoint:
    """A folder as `WanPipeline.save_pretrained` writes it."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            what = "is no folder" if root.exists() else "does not exist"
            hint = "name a local folder; `hf download Wan-AI/Wan2.2-TI2V-5B-Diffusers --local-dir FOLDER` makes one"
            raise ExportError(Exit.FILES, f"{root} {what}", hint)
        hint = "name the folder that has model_index.json, transformer, text_encoder and vae"
        if not (root / "model_index.json").exists():
            raise ExportError(Exit.MODEL, f"{root} is no diffusers checkpoint: it has no model_index.json", hint)
        self.root = root
        kind = read_json(root / "model_index.json").get("_class_name")
        if kind != "WanPipeline":
            raise ExportError(Exit.MODEL, f"{root} is a {kind}, not a WanPipeline", "export Wan2.2-TI2V-5B")
        if (root / "transformer_2").exists():
            hint = "the 14B models run two transformers in turn, which wanq does not"
            raise ExportError(Exit.MODEL, f"{root} has a second transformer", hint)

    def config(self, part: str, expected: str) -> dict[str, Any]:
        """The configuration of a part. Raises ExportError where it is not of the `expected` class."""
        file = self.root / part / "config.json"
        config = read_json(file)
        kind = config.get("_class_name") or next(iter(config.get("architectures") or []), None)
        if kind != expected:
            raise ExportError(Exit.MODEL, f"{file} describes a {kind}, not a {expected}")
        return config

    def weights(self, part: str) -> Weights:
        return Weights(self.root / part)
