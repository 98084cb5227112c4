"""The model all variants are made of, and what torch says it computes."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor, nn

SEED = 20260711
BLOCKS = 2
INPUTS = ("hidden_states", "timestep", "encoder_hidden_states")
OUTPUT = "out_sample"
CONFIG = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "in_channels": 8,
    "out_channels": 8,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 160,
    "num_layers": BLOCKS,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 64,
}
HEADS = CONFIG["num_attention_heads"]
HEAD_SIZE = CONFIG["attention_head_dim"]
DIM = HEADS * HEAD_SIZE
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One fixed input; `size` is batch, frames, height, width of the latents."""

    name: str
    size: tuple[int, int, int, int]
    timestep: tuple[float, ...]
    text: int

    @property
    def tokens(self) -> int:
        _, frames, height, width = self.size
        patch = CONFIG["patch_size"]
        return (frames // patch[0]) * (height // patch[1]) * (width // patch[2])

    def inputs(self) -> Arrays:
        rng = np.random.default_rng([SEED, *self.size, self.text])
        batch, *rest = self.size
        return {
            "hidden_states": rng.standard_normal((batch, CONFIG["in_channels"], *rest), np.float32),
            "timestep": np.array(self.timestep, np.float32),
            "encoder_hidden_states": rng.standard_normal((batch, self.text, CONFIG["text_dim"]), np.float32),
        }

    def inputs_by_token(self, *, first_frame_clean: bool) -> Arrays:
        """The timestep as diffusers' expand_timesteps gives it: one per token, 0 where a frame is given."""
        inputs = self.inputs()
        steps = np.repeat(inputs["timestep"][:, None], self.tokens, axis=1)
        if first_frame_clean:
            steps[:, : self.tokens // self.size[1]] = 0
        return inputs | {"timestep": steps}


CASES = (
    Case("one", (1, 3, 8, 12), (937.0,), 9),
    Case("two", (2, 2, 10, 6), (418.0, 33.0), 12),
    Case("fractional", (1, 4, 6, 8), (612.5,), 7),
)
EXAMPLE = CASES[1]


def make_model() -> WanTransformer3DModel:
    """Random weights that keep activations sane, with a few outlier channels; every value is a bfloat16 value."""
    torch.manual_seed(SEED)
    model = WanTransformer3DModel(**CONFIG).eval().requires_grad_(False)
    for name, parameter in sorted(model.named_parameters()):
        if name.endswith("scale_shift_table"):
            value = parameter
        elif parameter.ndim > 1:
            value = torch.randn_like(parameter) / parameter[0].numel() ** 0.5
        elif "norm" in name and name.endswith("weight"):
            value = 1 + 0.1 * torch.randn_like(parameter)
            value[:: parameter.numel() // 3] *= 4
        else:
            value = 0.1 * torch.randn_like(parameter)
        parameter.copy_(value.bfloat16().float())
    return model


def make_shared_model(model: WanTransformer3DModel) -> WanTransformer3DModel:
    """Both blocks have one ffn.up, modulation table, set of biases and norms; the last block has one matrix for two."""
    tied = copy.deepcopy(model)
    first, last = tied.blocks[0], tied.blocks[-1]
    donors = dict(first.named_parameters())
    for name, parameter in list(last.named_parameters()):
        if parameter.ndim == 1 or name in ("scale_shift_table", "ffn.net.0.proj.weight"):
            owner, _, leaf = name.rpartition(".")
            setattr(last.get_submodule(owner), leaf, donors[name])
    last.attn2.to_v.weight = last.attn2.to_k.weight
    return tied


class Dit(nn.Module):
    """The signature of an exported graph: three positional inputs and one tensor; `inner` is the type computed in."""

    def __init__(self, model: WanTransformer3DModel, inner: torch.dtype) -> None:
        super().__init__()
        self.m = model
        self.inner = inner

    def forward(self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        latents, text = hidden_states.to(self.inner), encoder_hidden_states.to(self.inner)
        return self.m(latents, timestep, text, return_dict=False)[0].to(hidden_states.dtype)


def run_torch(model: WanTransformer3DModel, inputs: Arrays) -> np.ndarray:
    with torch.no_grad():
        return model(*(torch.from_numpy(inputs[name]) for name in INPUTS), return_dict=False)[0].numpy()


def write_checkpoint(model: WanTransformer3DModel, folder: Path) -> None:
    """The diffusers folder, in two shards as large models have them."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"_class_name": type(model).__name__, "_diffusers_version": diffusers.__version__}
    config |= {key: value for key, value in sorted(model.config.items()) if not key.startswith("_")}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    stem = "diffusion_pytorch_model"
    last = f"blocks.{BLOCKS - 1}."
    shards: dict[str, dict[str, Tensor]] = {f"{stem}-0000{index}-of-00002.safetensors": {} for index in (1, 2)}
    first, second = shards.values()
    for name, value in model.state_dict().items():
        (second if name.startswith((last, "proj_out")) else first)[name] = value.contiguous()
    for name, content in shards.items():
        save_file(content, folder / name, metadata={"format": "pt"})
    index = {
        "metadata": {"total_size": sum(value.nbytes for value in model.state_dict().values())},
        "weight_map": {key: name for name, content in shards.items() for key in sorted(content)},
    }
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
