"""The lpips package's module to the ONNX file that `wanq eval --perceptual` takes."""

import argparse
from pathlib import Path

from wan_export.cli import Parser, quiet_libraries
from wan_export.errors import Exit, ExportError

from .cli import beside, require, require_free

NETWORKS = ("alex", "vgg", "squeeze")
INPUTS = ("reference", "other")


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="export_lpips.py",
        description="Export LPIPS (Zhang et al. 2018) to the network that `wanq eval --perceptual` takes.",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="ONNX file to write")
    parser.add_argument("--net", choices=NETWORKS, default="alex", help="(default: alex, as papers report it)")
    parser.add_argument(
        "--random",
        action="store_true",
        help="an untrained network, to try this without a download: its distances mean nothing",
    )
    return parser.parse_args(argv)


def run(argv: list[str]) -> None:
    options = parse(argv)
    require_free(options.output)
    require("lpips", "numpy", "onnx_ir", "onnxruntime", "onnxscript", "torch", "torchvision")
    quiet_libraries()
    import warnings

    import numpy as np
    import torch

    from .graph import Graph, compare, write_graph

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = make(options.net, options.random)
    example = [torch.rand(2, 3, 64, 96) * 2 - 1 for _ in INPUTS]
    with beside(options.output) as partial:
        file = partial / "model.onnx"
        write_graph(module, example, file, INPUTS, "distance", {0: "batch", 2: "height", 3: "width"})
        graph = Graph(file)
        rng = np.random.default_rng(0)
        for batch, height, width in ((1, 64, 64), (3, 128, 160), (1, 83, 117)):
            a, b = (rng.uniform(-1, 1, (batch, 3, height, width)).astype(np.float32) for _ in INPUTS)
            label = f"{batch} random images of {height} x {width}"
            compare(label, graph, [a, b], lambda a=a, b=b: module(torch.from_numpy(a), torch.from_numpy(b)))
            same = graph(a, a)
            if same.size != batch or np.abs(same).max() > 1e-6:
                raise ExportError(Exit.RUNTIME, f"the distance of an image to itself is {same.ravel()[0]}, and not 0")
        file.rename(options.output)
    print(f"{options.output} written: LPIPS over {options.net}{', untrained' if options.random else ''}")


def make(net: str, random: bool):
    import lpips
    import torch

    if random:
        torch.manual_seed(0)
    return lpips.LPIPS(net=net, pnet_rand=random, verbose=False).eval()
