"""The command line: options in, one line out where something is wrong."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from wan_export.cli import Parser, guarded, quiet_libraries
from wan_export.errors import Exit, ExportError

# torch takes seconds to import: wrong options should not wait for it.
if TYPE_CHECKING:
    from .plan import Plan
    from .train import Student

SCHEMA = "1"


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="qat.py",
        description="Fine-tune a Wan transformer for an INT8 plan, by distillation on the calibration's trajectories.",
    )
    need = {"type": Path, "required": True}
    file = {**need, "metavar": "FILE"}
    folder = {**need, "metavar": "FOLDER"}
    parser.add_argument("--checkpoint", **folder, help="diffusers folder that the pipeline was exported from")
    parser.add_argument("--plan", **file, help="plan of wanq, with ranges (`wanq quantize --save-plan`)")
    parser.add_argument("--calibration", **file, help="calibration file of the pipeline")
    parser.add_argument("--prompts", **file, help="prompts of the calibration; more may follow them")
    parser.add_argument("--negative-prompt", default="", metavar="TEXT", help="as in the calibration (default: empty)")
    parser.add_argument("-o", "--output", **folder, help="folder to write plan.json and weights.safetensors to")
    parser.add_argument(
        "--train",
        choices=("lora", "ranges"),
        default="lora",
        help="low-rank changes of the weights, biases and ranges; or biases and ranges alone (default: lora)",
    )
    parser.add_argument("--rank", type=int, default=32, help="of the changes (default: 32)")
    parser.add_argument("--steps", type=int, default=1000, help="of training (default: 1000)")
    parser.add_argument("--batch", type=int, default=8, help="samples a step (default: 8)")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="(default: 0.0003)")
    parser.add_argument(
        "--dtype", choices=("fp32", "bf16"), default="fp32", help="what the transformer computes in (default: fp32)"
    )
    parser.add_argument("--device", default=None, help="cuda or cpu (default: cuda where there is one)")
    options = parser.parse_args(argv)
    for name in ("rank", "steps", "batch"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} has to be 1 at least")
    if not 0 < options.learning_rate < 1:
        parser.error("--learning-rate has to be between 0 and 1")
    return options


def run(argv: list[str]) -> None:
    options = parse(argv)
    if options.output.exists():
        raise ExportError(Exit.USAGE, f"{options.output} exists", "name another folder, or remove it")
    if not (options.checkpoint / "transformer" / "config.json").exists():
        what = f"{options.checkpoint} is no diffusers checkpoint: it has no transformer/config.json"
        raise ExportError(Exit.MODEL, what, "name the folder that has transformer/ and text_encoder/ in it")
    quiet_libraries()
    from .calibration import Calibration
    from .plan import read_plan

    plan = read_plan(options.plan)
    calibration = Calibration(options.calibration)
    source = calibration.identity["model"]
    if plan.json["model"] not in (None, source):
        raise ExportError(Exit.USAGE, f"{options.plan} and {options.calibration} are of different models")

    import torch
    from diffusers import UniPCMultistepScheduler, WanTransformer3DModel

    from .train import Settings, quantize, sqnr_of, train
    from .trajectories import Trajectories, encode_prompts, read_prompts

    prompts = read_prompts(options.prompts)
    calibration.assert_prompts(prompts, options.negative_prompt)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    embeddings = encode_prompts(options.checkpoint, [*prompts, options.negative_prompt], device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
    model = WanTransformer3DModel.from_pretrained(options.checkpoint / "transformer", torch_dtype=dtype)
    model = model.to(device).eval()
    scheduler = UniPCMultistepScheduler.from_pretrained(options.checkpoint / "scheduler")
    trajectories = Trajectories()
    try:
        texts = ([embeddings[prompt] for prompt in prompts], embeddings[options.negative_prompt])
        trajectories.record(model, scheduler, calibration, texts, progress("recording"))
        rank = options.rank if options.train == "lora" else 0
        student = quantize(model, plan, calibration, rank)
        before = sqnr_of(model, trajectories, options.batch)
        print(f"SQNR on the calibration's chains before: {before:.2f} dB", file=sys.stderr)
        settings = Settings(options.steps, options.batch, options.learning_rate, rank)
        say = progress("training")
        train(model, student, trajectories, settings, lambda step, sqnr: say(step, options.steps, f"{sqnr:.2f} dB"))
        after = sqnr_of(model, trajectories, options.batch)
    finally:
        trajectories.close()
    write(options.output, plan, source, student)
    gained = f"SQNR on the calibration's chains {before:.2f} -> {after:.2f} dB"
    print(f"{options.output}: {len(student.linears)} linears, {gained}")
    given = f"--plan {options.output / 'plan.json'} --weights {options.output / 'weights.safetensors'}"
    print(f"next: npx wanq quantize PIPELINE {given} --calibration {options.calibration} -o FOLDER", file=sys.stderr)


def progress(what: str) -> Callable[..., None]:
    """A line that is written over on a terminal, and every tenth of the way elsewhere."""
    last = -1

    def say(done: int, total: int, more: str = "") -> None:
        nonlocal last
        tenth = 10 * done // total
        if sys.stderr.isatty():
            print(f"\r{what} {done} of {total} {more}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif tenth > last:
            last = tenth
            print(f"{what} {done} of {total} {more}".rstrip(), file=sys.stderr, flush=True)

    return say


def write(output: Path, plan: "Plan", source: str, student: "Student") -> None:
    """`plan.json` with the ranges that were learned, and `weights.safetensors`.

    Of each linear: `KEY.weight` `[out, in]`, `KEY.bias` `[out]`, and `KEY.smoothing` `[in]` where its input is divided.
    """
    from safetensors.torch import save_file

    tensors = {}
    for key, linear in student.linears.items():
        tensors[f"{key}.weight"] = linear.merged().detach().float().cpu().contiguous()
        if linear.bias is not None:
            tensors[f"{key}.bias"] = linear.bias.detach().float().cpu().contiguous()
        if linear.factors is not None:
            # Linears that share an input share its factors, which safetensors does not take twice.
            tensors[f"{key}.smoothing"] = linear.factors.detach().float().cpu().clone()
    ranges = {key: quantizer.range() for key, quantizer in student.quantizers.items()}
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
    try:
        metadata = {"wanq.weights.schema": SCHEMA, "wanq.source": source}
        save_file(tensors, partial / "weights.safetensors", metadata=metadata)
        (partial / "plan.json").write_text(json.dumps(plan.with_ranges(ranges), indent=2) + "\n", encoding="utf-8")
        os.chmod(partial, 0o755)
        partial.rename(output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def main(argv: list[str]) -> int:
    return guarded("qat", run, argv)
