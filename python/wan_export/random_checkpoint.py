"""Makes a checkpoint of Wan2.2-TI2V-5B's widths with random weights, to measure an export's time and memory on:

    python -m wan_export.random_checkpoint fixtures/micro-wan/checkpoint FOLDER --blocks 2 --parts transformer
    python export_wan.py FOLDER -o PIPELINE --components transformer

The first folder gives the small files: tokenizer, scheduler, model_index.json.
"""

import argparse
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from .skeleton import build

Config = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A model of the published configuration; `blocks` is the key that --blocks overrides."""

    config: Config
    blocks: str | None
    make: Callable[[Config], nn.Module]
    file: str
    dtype: torch.dtype


PARTS = {
    "transformer": Part(
        {
            "_class_name": "WanTransformer3DModel",
            "num_layers": 30,
            "num_attention_heads": 24,
            "attention_head_dim": 128,
            "ffn_dim": 14336,
            "freq_dim": 256,
            "in_channels": 48,
            "out_channels": 48,
            "patch_size": [1, 2, 2],
            "text_dim": 4096,
        },
        "num_layers",
        WanTransformer3DModel.from_config,
        "diffusion_pytorch_model.safetensors",
        torch.float32,
    ),
    "text_encoder": Part(
        {
            "architectures": ["UMT5EncoderModel"],
            "d_model": 4096,
            "d_kv": 64,
            "d_ff": 10240,
            "num_layers": 24,
            "num_heads": 64,
            "vocab_size": 256384,
            "feed_forward_proj": "gated-gelu",
        },
        "num_layers",
        lambda config: UMT5EncoderModel(UMT5Config.from_dict(config)),
        "model.safetensors",
        torch.bfloat16,
    ),
    "vae": Part(
        {
            "_class_name": "AutoencoderKLWan",
            "base_dim": 160,
            "decoder_base_dim": 256,
            "z_dim": 48,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "is_residual": True,
            "scale_factor_spatial": 16,
            "scale_factor_temporal": 4,
            "latents_mean": [0.0] * 48,
            "latents_std": [1.0] * 48,
        },
        None,
        AutoencoderKLWan.from_config,
        "diffusion_pytorch_model.safetensors",
        torch.float32,
    ),
}


def random_values(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Values that keep activations of a deep model within bounds."""
    if len(shape) == 2 or len(shape) == 5:
        return torch.randn(shape) / math.sqrt(math.prod(shape[1:]))
    if "norm" in name and not name.endswith("bias"):
        return 1 + 0.1 * torch.randn(shape)
    return 0.02 * torch.randn(shape)


def write_part(folder: Path, part: Part, blocks: int | None) -> int:
    """Writes one tensor at a time. Returns the bytes."""
    config = part.config | ({part.blocks: blocks} if part.blocks and blocks else {})
    shapes = {
        name: tuple(value.shape)
        for name, value in build(lambda: part.make(config), folder.name).state_dict().items()
        if name != "encoder.embed_tokens.weight"
    }
    kind = {torch.float32: "F32", torch.bfloat16: "BF16"}[part.dtype]
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * part.dtype.itemsize
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    with (folder / part.file).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            file.write(random_values(name, shape).to(part.dtype).view(torch.uint8).numpy().data)
    return end


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a checkpoint of the 5B's widths with random weights.")
    parser.add_argument("small_files", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blocks", type=int, help="blocks of transformer and text encoder (default: the 5B's)")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    options = parser.parse_args()
    torch.manual_seed(0)
    options.folder.mkdir()
    for small in ("tokenizer", "scheduler"):
        shutil.copytree(options.small_files / small, options.folder / small)
    shutil.copy(options.small_files / "model_index.json", options.folder)
    for name in options.parts:
        size = write_part(options.folder / name, PARTS[name], options.blocks)
        print(f"{options.folder / name}: {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
