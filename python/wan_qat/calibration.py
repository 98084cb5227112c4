"""What QAT needs of wanq's calibration file: which run it is of, and the largest magnitude of every channel."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from wan_export.errors import Exit, ExportError

SCHEMA = "4"


class Calibration:
    """Raises ExportError where the file is no finished calibration of this schema."""

    def __init__(self, file: Path) -> None:
        try:
            self._tensors = safe_open(str(file), framework="pt")
        except Exception as error:
            code = Exit.USAGE if file.exists() else Exit.FILES
            raise ExportError(code, f"{file} cannot be read as safetensors: {error}") from None
        metadata = self._tensors.metadata() or {}
        schema = metadata.get("wanq.calibration.schema")
        if schema != SCHEMA:
            what = "is no calibration file" if schema is None else f"has calibration schema {schema}"
            raise ExportError(Exit.USAGE, f"{file} {what}; this script reads schema {SCHEMA}", "run `wanq calibrate`")
        self.file = file
        header: dict[str, Any] = json.loads(metadata["wanq.calibration"])
        self.identity: dict[str, Any] = header["identity"]
        if len(header["done"]) < self.identity["promptCount"]:
            raise ExportError(Exit.USAGE, f"{file} is not finished", "repeat the `wanq calibrate` that left it")
        self._activations = {
            activation["value"]: (index, [entry["key"] for entry in activation["slices"]])
            for index, activation in enumerate(header["activations"])
        }

    def magnitudes(self, value: str) -> torch.Tensor:
        """`[channels]`, largest magnitude of each channel of an activation over all prompts and steps."""
        if value not in self._activations:
            raise ExportError(Exit.USAGE, f"{self.file} has no statistics of {value!r}", "is the plan of this model?")
        index, keys = self._activations[value]
        ends = [self._tensors.get_tensor(f"{end}/{index}/{key}").abs() for key in keys for end in ("min", "max")]
        return torch.stack(ends).amax(0)

    def assert_prompts(self, prompts: list[str], negative: str) -> None:
        """Raises ExportError where the first of them are not those that the calibration was made of."""
        own = prompts[: self.identity["promptCount"]]
        text = json.dumps([own, negative], ensure_ascii=False, separators=(",", ":"))
        if hashlib.sha256(text.encode()).hexdigest() == self.identity["prompts"]:
            return
        hint = "give the prompts file (and --negative-prompt) that `wanq calibrate` was given"
        raise ExportError(Exit.USAGE, f"{self.file} was made of other prompts than these {len(own)}", hint)
