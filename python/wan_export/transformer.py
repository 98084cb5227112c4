"""WanTransformer3DModel."""

from dataclasses import dataclass

import torch
from diffusers import WanTransformer3DModel
from torch import nn

from .component import Axes, Case, Component, Inputs
from .errors import Exit, ExportError


class WrappedTransformer(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, hidden_states: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor
    ) -> torch.Tensor:
        output: torch.Tensor = self.model(hidden_states, timestep, encoder_hidden_states, return_dict=False)[0]
        return output


@dataclass
class Transformer(Component):
    timestep_per_token: bool = False

    name = "transformer"
    source = "transformer"
    class_name = "WanTransformer3DModel"
    output = "out_sample"

    def make(self) -> nn.Module:
        if self.config.get("image_dim") is not None or self.config.get("added_kv_proj_dim") is not None:
            raise ExportError(Exit.MODEL, "the transformer takes image embeddings", "export a text-to-video model")
        model: nn.Module = WanTransformer3DModel.from_config(self.config)  # type: ignore[no-untyped-call]
        return model

    def wrap(self, model: nn.Module) -> nn.Module:
        return WrappedTransformer(model)

    def inputs(self, latents: torch.Tensor, step: float, text: torch.Tensor) -> Inputs:
        batch, _, *sizes = latents.shape
        tokens = 1
        for size, patch in zip(sizes, self.config["patch_size"], strict=True):
            tokens *= size // patch
        shape = (batch, tokens) if self.timestep_per_token else (batch,)
        return {
            "hidden_states": latents.to(self.activations),
            # Schedulers count in fractions, so the timestep is a float, and in FP16 too: diffusers embeds it in FP32.
            "timestep": torch.full(shape, step),
            "encoder_hidden_states": text.to(self.activations),
        }

    def example(self) -> Inputs:
        channels, features = self.config["in_channels"], self.config["text_dim"]
        return self.inputs(torch.zeros(2, channels, 3, 8, 12), 500.0, torch.zeros(2, 7, features))

    def axes(self) -> Axes:
        timestep = {0: "batch", 1: "tokens"} if self.timestep_per_token else {0: "batch"}
        return {
            "hidden_states": {0: "batch", 2: "frames", 3: "height", 4: "width"},
            "timestep": timestep,
            "encoder_hidden_states": {0: "batch", 1: "text_length"},
        }

    def cases(self, generator: torch.Generator, earlier: dict[str, torch.Tensor]) -> list[Case]:
        channels, features = self.config["in_channels"], self.config["text_dim"]

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator)

        text, kind = noise(1, 64, features), "random text"
        if "text_encoder" in earlier:
            text, kind = earlier["text_encoder"][:1].float(), "a prompt"
        # No axis is as long as in the example: a graph that has one of those sizes built in fails.
        return [
            Case(f"1 video, {kind}", self.inputs(noise(1, channels, 2, 6, 10), 937.5, text)),
            Case("3 videos", self.inputs(noise(3, channels, 4, 4, 14), 250.0, noise(3, 11, features))),
        ]
