"""I3D as TorchScript to wanq's feature folder: the network as ONNX, and the statistics of real videos under it."""

import argparse
import hashlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wan_export.cli import Parser, quiet_libraries
from wan_export.errors import Exit, ExportError

from .cli import beside, require, require_free

# torch takes seconds to import: wrong options should not wait for it.
if TYPE_CHECKING:
    import numpy as np
    import torch

    from .graph import Graph
    from .videos import ClipSize

CHECKED_CLIPS = 3
Network = Callable[["torch.Tensor"], "torch.Tensor"]


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="export_i3d.py",
        description="Export StyleGAN-V's I3D TorchScript to the feature folder that `wanq eval --features` takes.",
    )
    parser.add_argument("network", type=Path, help="i3d_torchscript.pt")
    parser.add_argument("--videos", type=Path, required=True, metavar="FOLDER", help="real videos, or .npy clips")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="feature folder to write")
    parser.add_argument("--frames", type=int, default=121, help="of a clip (default: 121)")
    parser.add_argument("--height", type=int, default=704, help="of a clip, pixels (default: 704)")
    parser.add_argument("--width", type=int, default=1280, help="of a clip, pixels (default: 1280)")
    parser.add_argument(
        "--fps", type=float, default=24, help="frames of videos are taken at this rate; 0 takes all (default: 24)"
    )
    parser.add_argument("--per-video", type=int, default=1, metavar="N", help="most clips of a video (default: 1)")
    parser.add_argument(
        "--no-features",
        dest="features",
        action="store_false",
        help="write mean and covariance alone: no kernel distance",
    )
    parser.add_argument(
        "--allow-few", action="store_true", help="write statistics of fewer clips than make a covariance of full rank"
    )
    options = parser.parse_args(argv)
    for name in ("frames", "height", "width", "per_video"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} has to be 1 at least")
    if not options.fps >= 0:
        parser.error("--fps has to be 0 at least")
    return options


def run(argv: list[str]) -> None:
    options = parse(argv)
    require_free(options.output)
    require("av", "numpy", "onnx_ir", "onnxruntime", "onnxscript", "safetensors", "torch")
    quiet_libraries()
    from .graph import Graph
    from .videos import ClipSize, find_files

    size = ClipSize(options.frames, options.height, options.width, options.fps or None)
    network, digest = load(options.network)
    files = find_files(options.videos)
    with beside(options.output) as partial:
        write_network(network, size, partial / "model.onnx")
        graph = Graph(partial / "model.onnx")
        check_random(network, graph, size)
        features = gather(files, network, graph, size, options.per_video)
        count, dim = features.shape
        if count <= dim and not (options.allow_few and count >= 2):
            message = f"{options.videos} gives {count} clips for {dim} features: the covariance would be singular"
            raise ExportError(Exit.FILES, message, "give more videos, --per-video more, or --allow-few")
        source = Source(options.videos.resolve().name, digest)
        write_reference(features, size, source, options.features, partial / "reference.safetensors")
        partial.rename(options.output)
    print(f"{options.output} written: {dim} features, statistics of {count} clips")


def load(file: Path) -> tuple[Network, str]:
    """The features of uint8-range videos [1, 3, F, H, W], and the file's SHA-256."""
    import torch

    data = file.read_bytes()
    try:
        with warnings.catch_warnings():
            # That TorchScript is deprecated does not change what the file is.
            warnings.simplefilter("ignore")
            module = torch.jit.load(str(file), map_location="cpu").eval()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].split(". ")[0]
        raise ExportError(Exit.MODEL, f"{file} is no TorchScript file: {reason}") from error
    for parameter in module.parameters():
        parameter.requires_grad_(False)

    def network(videos: "torch.Tensor") -> "torch.Tensor":
        # The interpreter as it is: what it fuses would differ from run to run.
        with torch.no_grad(), torch.jit.optimized_execution(False):
            return module(videos, rescale=True, resize=True, return_features=True)

    return network, hashlib.sha256(data).hexdigest()


def write_network(network: Network, size: "ClipSize", file: Path) -> None:
    """torch's exporter takes no TorchScript: the network is run once and the operators it calls are written down."""
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    from .graph import write_graph

    def of_signed(videos: "torch.Tensor") -> "torch.Tensor":
        return network((videos + 1) * 127.5)

    example = torch.rand(1, 3, size.frames, size.height, size.width) * 2 - 1
    try:
        made = of_signed(example)
        traced = make_fx(of_signed, tracing_mode="real", _allow_non_fake_inputs=True)(example)
    except (RuntimeError, TypeError) as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1]
        message = f"the network does not take videos of {size.frames} x {size.height} x {size.width}: {reason}"
        hint = "it has to be called as (videos, rescale, resize, return_features)"
        raise ExportError(Exit.MODEL, message, hint) from error
    if made.ndim != 2 or made.shape[0] != 1:
        raise ExportError(Exit.MODEL, f"the network gives {list(made.shape)} for one video, and not [1, features]")
    write_graph(traced, [example], file, ["videos"], "features")


def check_random(network: Network, graph: "Graph", size: "ClipSize") -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (size.frames, size.height, size.width, 3), np.uint8)
    check("random pixels", pixels, network, graph)


def check(label: str, clip: "np.ndarray", network: Network, graph: "Graph") -> None:
    import torch

    from .graph import compare

    pixels = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float()
    compare(label, graph, [signed(clip)], lambda: network(pixels))


def signed(clip: "np.ndarray") -> "np.ndarray":
    """As wanq feeds it: [1, 3, F, H, W] in [-1, 1]."""
    import numpy as np

    return (clip.transpose(3, 0, 1, 2)[None] / 255 * 2 - 1).astype(np.float32)


def gather(files: list[Path], network: Network, graph: "Graph", size: "ClipSize", per_video: int) -> "np.ndarray":
    """Features of all clips, [clips, dim]."""
    import numpy as np

    from .videos import clips_of

    rows = []
    without = []
    for file in files:
        before = len(rows)
        for clip in clips_of(file, size, per_video):
            if len(rows) < CHECKED_CLIPS:
                check(f"clip {len(rows) + 1}", clip, network, graph)
            rows.append(graph(signed(clip))[0])
            if len(rows) % 50 == 0:
                print(f"{len(rows)} clips", file=sys.stderr)
        if len(rows) == before:
            without.append(file.name)
    if without:
        print(f"warning: {len(without)} of {len(files)} files are too short, {without[0]} among them", file=sys.stderr)
    if not rows:
        raise ExportError(Exit.FILES, f"no video has {size.frames} frames", "give longer ones, or fewer --frames")
    return np.stack(rows)


@dataclass(frozen=True)
class Source:
    videos: str
    network_sha256: str


def write_reference(features: "np.ndarray", size: "ClipSize", source: Source, keep: bool, file: Path) -> None:
    import numpy as np
    from safetensors.numpy import save

    wide = features.astype(np.float64)
    dim = wide.shape[1]
    tensors = {"mean": wide.mean(0), "covariance": np.cov(wide, rowvar=False).reshape(dim, dim)}
    if keep:
        tensors["features"] = np.ascontiguousarray(features, np.float32)
    metadata = {
        "count": str(len(features)),
        "frames": str(size.frames),
        "size": f"{size.height}x{size.width}",
        "fps": str(size.fps or "as stored"),
        "source": source.videos,
        "network_sha256": source.network_sha256,
    }
    file.write_bytes(save(tensors, metadata))
