"""From a torch function to an ONNX file, and the two beside each other."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch

from wan_export.errors import Exit, ExportError

OPSET = 20
TOLERANCE = 1e-3


def write_graph(
    module: torch.nn.Module,
    examples: Sequence[torch.Tensor],
    file: Path,
    names: Sequence[str],
    output: str,
    free_axes: dict[int, str] | None = None,
) -> None:
    """Weights lie in the file. `free_axes` are those of every input."""
    shapes = None
    if free_axes:
        # Inputs share their axes, so one object has to stand for each.
        axes = {axis: torch.export.Dim(name, min=1) for axis, name in free_axes.items()}
        shapes = tuple(axes for _ in examples)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                tuple(examples),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(names),
                output_names=[output],
                dynamic_shapes=shapes,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            # The cause comes first; below it torch prints the program that it had.
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            message = f"torch cannot export it to ONNX: {reason}"
            raise ExportError(Exit.MODEL, message, "try the versions in requirements-features.txt") from error
    assert program is not None
    _strip_traces(program.model)
    ir.save(program.model, file)


def _strip_traces(model: ir.Model) -> None:
    """torch leaves stack traces with paths of this machine."""
    graph = model.graph
    model.metadata_props.clear()
    graph.metadata_props.clear()
    values = [*graph.inputs, *graph.initializers.values()]
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        values.extend(node.outputs)
    for value in values:
        value.metadata_props.clear()
        value.doc_string = None


class Graph:
    """An ONNX file in onnxruntime, on the CPU."""

    def __init__(self, file: Path) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._names = [value.name for value in self._session.get_inputs()]

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        return self._session.run(None, dict(zip(self._names, inputs, strict=True)))[0]


def compare(label: str, graph: Graph, inputs: Sequence[np.ndarray], in_torch: Callable[[], torch.Tensor]) -> None:
    """Prints how far the graph is from torch. Raises ExportError where that is more than rounding."""
    with torch.no_grad():
        wanted = in_torch().double().numpy()
    got = graph(*inputs).astype(np.float64)
    if got.shape != wanted.shape:
        raise ExportError(Exit.RUNTIME, f"on {label} the graph gives {list(got.shape)}, torch {list(wanted.shape)}")
    error = np.linalg.norm(got - wanted) / max(np.linalg.norm(wanted), 1e-30)
    print(f"ONNX beside torch on {label}: relative difference {error:.1e}")
    if not error <= TOLERANCE:
        message = f"on {label} the graph differs from torch by {error:.1e}, wanted {TOLERANCE:.0e}"
        raise ExportError(Exit.RUNTIME, message)
