"""UMT5's encoder, for prompts of the length that the tokenizer cuts them to."""

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from .checkpoint import read_json
from .component import Axes, Case, Component, Inputs
from .errors import Exit, ExportError

# diffusers' Wan pipeline cuts prompts here.
MAX_LENGTH = 512
PROMPTS = [
    "a large red circle moving right over a dark background",
    "two cats boxing on a stage, soft light",
    "",
]


class WrappedTextEncoder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.model(input_ids, attention_mask).last_hidden_state
        return output


@dataclass
class TextEncoder(Component):
    name = "text_encoder"
    source = "text_encoder"
    class_name = "UMT5EncoderModel"
    output = "last_hidden_state"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tokenizer_file = self.checkpoint.root / "tokenizer" / "tokenizer.json"
        if not self.tokenizer_file.exists():
            raise ExportError(
                Exit.MODEL,
                f"{self.tokenizer_file} is missing, and wanq reads no other tokenizer file",
                "transformers writes one: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
            )
        config_file = self.tokenizer_file.with_name("tokenizer_config.json")
        self.tokenizer_config = read_json(config_file) if config_file.exists() else {}
        self.length = int(min(self.tokenizer_config.get("model_max_length") or MAX_LENGTH, MAX_LENGTH))

    def make(self) -> nn.Module:
        return UMT5EncoderModel(UMT5Config.from_dict(self.config))

    def wrap(self, model: nn.Module) -> nn.Module:
        return WrappedTextEncoder(model)

    def example(self) -> Inputs:
        shape = (2, self.length)
        return {
            "input_ids": torch.ones(shape, dtype=torch.int64),
            "attention_mask": torch.ones(shape, dtype=torch.int64),
        }

    def axes(self) -> Axes:
        return {"input_ids": {0: "batch"}, "attention_mask": {0: "batch"}}

    def tokenize(self, prompts: list[str]) -> Inputs:
        tokenizer = Tokenizer.from_file(str(self.tokenizer_file))
        pad = self.tokenizer_config.get("pad_token") or "<pad>"
        pad_id = tokenizer.token_to_id(pad["content"] if isinstance(pad, dict) else pad) or 0
        tokenizer.no_padding()
        tokenizer.no_truncation()
        ids = torch.full((len(prompts), self.length), pad_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            tokens = torch.tensor(tokenizer.encode(prompt).ids[: self.length], dtype=torch.int64)
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def cases(self, generator: torch.Generator, earlier: dict[str, torch.Tensor]) -> list[Case]:
        return [Case("1 prompt", self.tokenize(PROMPTS[:1])), Case("3 prompts", self.tokenize(PROMPTS))]
