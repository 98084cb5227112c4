"""Exports one tiny two-block WanTransformer3DModel to ONNX in the many shapes that export and optimization tools give.

    pip install -r python/requirements-dev.txt
    python python/make_variants.py -o fixtures/variants

Every variant is run in onnxruntime and compared with torch before it counts as made.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel

from variants import RECIPES, Bench, Recipe
from variants.others import encoder_references, make_plain_model
from variants.store import (
    check_variant,
    describe,
    find_paths,
    update_index,
    write_references,
    write_variant,
)
from variants.wan import CASES, Arrays, make_model, make_shared_model, run_torch, write_checkpoint


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(RECIPES), metavar="NAME")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def references(model: WanTransformer3DModel) -> dict[str, Arrays]:
    inputs = {case.name: case.inputs() for case in CASES}
    return {name: arrays | {"output": run_torch(model, arrays)} for name, arrays in inputs.items()}


def token_references(model: WanTransformer3DModel) -> dict[str, Arrays]:
    inputs = {case.name: case.inputs_by_token(first_frame_clean=False) for case in CASES}
    inputs["first-frame"] = CASES[0].inputs_by_token(first_frame_clean=True)
    return {name: arrays | {"output": run_torch(model, arrays)} for name, arrays in inputs.items()}


def make(recipe: Recipe, bench: Bench, output: Path) -> None:
    folder = output / recipe.name
    write_variant(bench.build(recipe.name), folder)
    errors, model = check_variant(recipe, folder, bench.references[recipe.reference])
    update_index(output / "index.json", describe(recipe, model, list(errors)), list(RECIPES))
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1000
    nodes, error = len(model.graph.node), max(errors.values())
    print(f"{recipe.name}: {size:.0f} kB, {nodes} nodes, error {error:.1e}", flush=True)


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(make_model(), options.output / "checkpoint", Path(scratch))
        write_checkpoint(bench.model, bench.checkpoint)
        bench.references |= {
            "": references(bench.model),
            "tokens": token_references(bench.model),
            "shared": references(make_shared_model(bench.model)),
            "contrib-attention": references(make_plain_model(bench.model)),
            "not-wan": encoder_references(),
        }
        write_references(bench.references, options.output / "reference.safetensors")
        for name in options.only:
            make(RECIPES[name], bench, options.output)
    leaks = list(find_paths(options.output))
    if leaks:
        raise SystemExit("paths of this machine:\n" + "\n".join(leaks))


if __name__ == "__main__":
    main()
