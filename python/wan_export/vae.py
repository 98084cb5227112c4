"""AutoencoderKLWan's two halves."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import nn

from .component import Case, Component, Inputs
from .geometry import Scale, VideoSize

# Above this many pixels a VAE is tried at TRIAL in place of its own size: a CPU decodes 720p for hours.
TRIAL_PIXELS = 1 << 19
# Three latent frames: the VAE treats the first, the second and all later ones differently.
TRIAL = VideoSize(frames=3, height=4, width=6)


class WrappedDecoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent_sample: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.model._decode(latent_sample, return_dict=False)[0]
        return output


class WrappedEncoder(nn.Module):
    """The mean of the latents' distribution: diffusers' `latent_dist.mode()`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.model._encode(sample).chunk(2, dim=1)[0]
        return output


@dataclass
class Vae(Component):
    """Half of the autoencoder, for one size: its loop over frames is unrolled in the graph."""

    size: VideoSize
    """In latents."""

    source = "vae"
    class_name = "AutoencoderKLWan"

    def make(self) -> nn.Module:
        model: nn.Module = AutoencoderKLWan.from_config(self.config)  # type: ignore[no-untyped-call]
        return model

    def scale(self, patch: tuple[int, int, int]) -> Scale:
        config = self.pipeline_config
        return Scale(config["scale_factor_temporal"], config["scale_factor_spatial"], patch)

    @cached_property
    def pipeline_config(self) -> dict[str, Any]:
        """wanq reads the latents' statistics and scale factors here; a checkpoint may leave them to the defaults."""
        defaults: Any = self.skeleton().config
        names = ("latents_mean", "latents_std", "scale_factor_temporal", "scale_factor_spatial")
        return self.config | {name: defaults[name] for name in names}

    def shape(self, pixels: bool) -> tuple[int, ...]:
        size = self.scale((1, 1, 1)).pixels(self.size) if pixels else self.size
        channels = 3 if pixels else len(self.pipeline_config["latents_mean"])
        return (1, channels, size.frames, size.height, size.width)

    def trial(self) -> "Vae":
        if self.scale((1, 1, 1)).pixels(self.size).elements <= TRIAL_PIXELS:
            return self
        return type(self)(self.checkpoint, self.dtype, TRIAL)


class VaeDecoder(Vae):
    name = "vae_decoder"
    output = "sample"

    def wrap(self, model: nn.Module) -> nn.Module:
        return WrappedDecoder(model)

    def example(self) -> Inputs:
        return {"latent_sample": torch.empty(self.shape(pixels=False), dtype=self.activations, device="meta")}

    def cases(self, generator: torch.Generator, earlier: dict[str, torch.Tensor]) -> list[Case]:
        config = self.pipeline_config
        mean, std = (torch.tensor(config[key]).view(1, -1, 1, 1, 1) for key in ("latents_mean", "latents_std"))
        latents = torch.randn(self.shape(pixels=False), generator=generator) * std + mean
        return [Case(f"noise, {self.size} latents", {"latent_sample": latents.to(self.activations)})]


class VaeEncoder(Vae):
    name = "vae_encoder"
    output = "latent_sample"

    def wrap(self, model: nn.Module) -> nn.Module:
        return WrappedEncoder(model)

    def example(self) -> Inputs:
        return {"sample": torch.empty(self.shape(pixels=True), dtype=self.activations, device="meta")}

    def cases(self, generator: torch.Generator, earlier: dict[str, torch.Tensor]) -> list[Case]:
        _, channels, frames, height, width = self.shape(pixels=True)
        x, y = torch.linspace(-1, 1, width), torch.linspace(-1, 1, height).view(-1, 1)
        time = torch.arange(frames).view(-1, 1, 1) * 0.2
        waves = [torch.sin(6 * x + 4 * y * (channel + 1) + time) for channel in range(channels)]
        video = torch.stack(waves).unsqueeze(0)
        return [Case(f"moving waves, {self.size} latents", {"sample": video.to(self.activations)})]
