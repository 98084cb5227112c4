"""The sampling chains that the calibration ran, with what the unquantized transformer answered at each step."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UniPCMultistepScheduler, WanTransformer3DModel
from torch import Tensor
from transformers import AutoTokenizer, UMT5EncoderModel
from transformers.utils import logging

from wan_export.errors import Exit, ExportError

from .calibration import Calibration

MAX_TEXT = 512


def encode_prompts(checkpoint: Path, prompts: list[str], device: str) -> dict[str, Tensor]:
    """`[1, length, features]` of each prompt; rows of padding are zero, as in diffusers' WanPipeline."""
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint / "tokenizer")
    encoder = UMT5EncoderModel.from_pretrained(checkpoint / "text_encoder", torch_dtype="auto").to(device).eval()
    embeddings = {}
    length = min(tokenizer.model_max_length, MAX_TEXT)
    for prompt in dict.fromkeys(prompts):
        padded = {"padding": "max_length", "max_length": length, "truncation": True, "return_attention_mask": True}
        tokens = tokenizer(prompt, **padded, return_tensors="pt").to(device)
        with torch.no_grad():
            made = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
        embeddings[prompt] = (made * tokens.attention_mask[..., None]).float().cpu()
    return embeddings


@dataclass(frozen=True)
class Sample:
    """One forward of a chain. Its latents and the answer lie in files."""

    prompt: int
    branch: str
    timestep: float
    latents: Path
    velocity: Path


class Trajectories:
    """Samples in a folder for temporary files, which goes with `close`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="wan-qat-")
        self.samples: list[Sample] = []
        self.embeddings: dict[str, list[Tensor]] = {}

    def close(self) -> None:
        self._folder.cleanup()

    def record(
        self,
        transformer: WanTransformer3DModel,
        scheduler: UniPCMultistepScheduler,
        calibration: Calibration,
        embeddings: tuple[list[Tensor], Tensor],
        on_forward: Callable[[int, int], None],
    ) -> None:
        """Runs the chains of all prompts unquantized, prompt i from the noise of the calibration's seed + i."""
        conditional, unconditional = embeddings
        identity = calibration.identity
        guidance, steps = identity["guidance"], identity["steps"]
        branches = ("cond",) if guidance <= 1 else ("cond", "uncond")
        self.embeddings = {"cond": conditional, "uncond": [unconditional] * len(conditional)}
        folder = Path(self._folder.name)
        device, dtype = transformer.device, transformer.dtype
        total, done = len(conditional) * steps * len(branches), 0
        for prompt in range(len(conditional)):
            scheduler.set_timesteps(steps, device=device)
            generator = torch.Generator().manual_seed(identity["seed"] + prompt)
            latents = torch.randn((1, *identity["shape"]), generator=generator).to(device)
            for step, timestep in enumerate(scheduler.timesteps):
                at = folder / f"{prompt}-{step}.pt"
                torch.save(latents.cpu(), at)
                answers = {}
                for branch in branches:
                    text = self.embeddings[branch][prompt].to(device, dtype)
                    with torch.no_grad():
                        answers[branch] = transformer(
                            hidden_states=latents.to(dtype),
                            timestep=timestep.expand(1).to(device),
                            encoder_hidden_states=text,
                            return_dict=False,
                        )[0].float()
                    file = folder / f"{prompt}-{step}-{branch}.pt"
                    torch.save(answers[branch].cpu(), file)
                    self.samples.append(Sample(prompt, branch, float(timestep), at, file))
                    done += 1
                    on_forward(done, total)
                guided = answers["cond"]
                if guidance > 1:
                    guided = answers["uncond"] + guidance * (answers["cond"] - answers["uncond"])
                latents = scheduler.step(guided, timestep, latents, return_dict=False)[0]

    def batches(self, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Latents, timesteps, text and answers of `size` samples at a time, for ever; all once before any again."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(self.samples), generator=generator).tolist()
            for start in range(0, len(order), size):
                yield self.batch([self.samples[i] for i in order[start : start + size]])

    def batch(self, samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return (
            torch.cat([torch.load(sample.latents) for sample in samples]),
            torch.tensor([sample.timestep for sample in samples]),
            torch.cat([self.embeddings[sample.branch][sample.prompt] for sample in samples]),
            torch.cat([torch.load(sample.velocity) for sample in samples]),
        )


def read_prompts(file: Path) -> list[str]:
    """One a line; empty lines and lines that start with # are skipped, as wanq does."""
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise ExportError(Exit.USAGE, f"{file} holds no prompt", "write one prompt a line")
    return prompts
