"""The command line: options in, one line out where something is wrong."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from .errors import Exit, ExportError

REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"
# The order is the export's.
COMPONENTS = ("text_encoder", "transformer", "vae_decoder", "vae_encoder")
DTYPES = ("fp32", "fp16", "bf16")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ExportError(Exit.USAGE, message, "--help lists the options")


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="export_wan.py",
        description="Export a diffusers checkpoint of Wan2.2-TI2V-5B's classes to the ONNX pipeline folder of wanq.",
    )
    parser.add_argument("checkpoint", type=Path, help="folder with model_index.json, transformer, text_encoder and vae")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="pipeline folder to write")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="fp32",
        help="transformer and text encoder: fp16 computes as diffusers' torch_dtype=float16 does, "
        "bf16 stores weights in BF16 and computes in FP32 (default: fp32)",
    )
    parser.add_argument(
        "--vae-dtype", choices=DTYPES, default="fp32", help="(default: fp32, as diffusers users run it)"
    )
    parser.add_argument("--height", type=int, default=704, help="pixels of the VAE's graphs (default: 704)")
    parser.add_argument("--width", type=int, default=1280, help="pixels of the VAE's graphs (default: 1280)")
    parser.add_argument("--frames", type=int, default=121, help="frames of the VAE's graphs (default: 121)")
    parser.add_argument(
        "--components",
        type=lambda text: text.split(","),
        default=list(COMPONENTS),
        metavar="A,B",
        help=f"what to export (default: {','.join(COMPONENTS)})",
    )
    parser.add_argument(
        "--timestep",
        choices=("scalar", "tokens"),
        default="scalar",
        help="one timestep a video, or one for every token, as diffusers feeds it to this model (default: scalar)",
    )
    parser.add_argument("--opset", type=int, choices=range(20, 24), default=20, help="(default: 20)")
    parser.add_argument("--no-check", dest="check", action="store_false", help="do not run the graphs beside torch")
    options = parser.parse_args(argv)
    unknown = sorted(set(options.components) - set(COMPONENTS))
    if unknown:
        parser.error(f"there is no component {unknown[0]!r}; there are {', '.join(COMPONENTS)}")
    return options


def require_packages() -> None:
    """Raises ExportError where a package is missing; warns where its version is not the one that was proved."""
    lines = [line for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines() if "==" in line]
    missing = []
    for name, wanted in (line.split("==") for line in lines):
        try:
            # Builds of torch are named after their CUDA version: 2.15.0+cpu.
            installed = version(name).split("+")[0]
        except PackageNotFoundError:
            missing.append(name)
            continue
        if installed != wanted:
            print(f"warning: {name} {installed} is installed, the export was proved with {wanted}", file=sys.stderr)
    if missing:
        hint = f"pip install -r {REQUIREMENTS}, or run it with `uv run`"
        raise ExportError(Exit.RUNTIME, f"these packages are missing: {', '.join(missing)}", hint)


def quiet_libraries() -> None:
    """Their warnings are about the exporter's inside; what matters of it is checked on the result."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    logging.disable(logging.WARNING)


def run(argv: list[str]) -> None:
    arguments = parse(argv)
    require_packages()
    quiet_libraries()
    # torch takes seconds to import: wrong options should not wait for it.
    from .geometry import VideoSize
    from .pipeline import Options, export_pipeline
    from .precision import Dtype
    from .progress import Progress

    progress = Progress()
    options = Options(
        checkpoint=arguments.checkpoint,
        output=arguments.output,
        components=tuple(arguments.components),
        dtype=Dtype(arguments.dtype),
        vae_dtype=Dtype(arguments.vae_dtype),
        size=VideoSize(arguments.frames, arguments.height, arguments.width),
        timestep_per_token=arguments.timestep == "tokens",
        opset=arguments.opset,
        check=arguments.check,
    )
    exported = export_pipeline(options, progress)
    print(f"{'component':<14}{'type':<6}{'nodes':>8}{'weights':>9}{'MB':>12}  relative error to torch")
    for part in exported:
        error = f"{part.checked.error:.1e}" if part.checked else "not checked"
        print(
            f"{part.name:<14}{part.dtype.value:<6}{part.nodes:>8,}{part.weights:>9,}{part.bytes / 1e6:>12,.2f}  {error}"
        )
    print(f"{options.output} written in {progress.seconds:.0f} s, {progress.peak}")
    print(f"next: npx wanq inspect {options.output}", file=sys.stderr)


class Interruption:
    """Ctrl-C, and SIGTERM, with which job schedulers end a job."""

    seen = False

    def __init__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            # A parent that ignores a signal, as nohup does, wants it ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.interrupt)

    def interrupt(self, *_: object) -> NoReturn:
        self.seen = True
        raise KeyboardInterrupt


def guarded(name: str, work: Callable[[list[str]], None], argv: list[str]) -> int:
    """Runs a command. Returns its exit code; what is wrong goes to stderr, as one line with the command's name."""
    interruption = Interruption()
    try:
        work(argv)
        return 0
    except ExportError as error:
        message, code = "; ".join(filter(None, (str(error), error.hint))), error.code
    except OSError as error:
        message, code = f"{error.filename or 'files'}: {error.strerror or error}", Exit.FILES
    except (Exception, KeyboardInterrupt):
        # torch's exporter passes an interruption on as an error of its own.
        if not interruption.seen:
            raise
    if interruption.seen:
        message, code = "interrupted, nothing was written", Exit.INTERRUPTED
    print(f"{name}: {message}", file=sys.stderr)
    return int(code)


def main(argv: list[str]) -> int:
    return guarded("export_wan", run, argv)
