"""The graph that a check runs: the exported file itself, unless that takes hours or as much memory as the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from .component import Component
from .graph import trace
from .store import DATA_FILE, MODEL_FILE, Place, point_to_data, write_model

# Below this the exported file is run as it is.
LEAN_ABOVE_BYTES = 1 << 28


@contextmanager
def trial_model(
    component: Component, folder: Path, places: dict[str, Place], opset: int
) -> Iterator[tuple[Component, Path]]:
    """The component and the model file to run; a file of its own shares the exported data file, and is removed."""
    trial, exported = component.trial(), folder / MODEL_FILE
    large = (folder / DATA_FILE).stat().st_size > LEAN_ABOVE_BYTES
    if trial is component and not large:
        yield component, exported
        return
    if trial is component:
        model = ir.load(exported)
    else:
        model = trace(trial, opset)
        point_to_data(model, places, folder)
    if large:
        multiply_as_stored(model)
    file = folder / "trial.onnx"
    write_model(model, file)
    yield trial, file
    file.unlink()


def multiply_as_stored(model: ir.Model) -> None:
    """Turns MatMul(x, Transpose(weight)) into onnxruntime's FusedMatMul, which reads the weight where it is mapped.

    onnxruntime transposes (and, from FP16, widens) all layers' weights before it runs the first: a whole second model.
    """
    for node in list(model.graph):
        transpose = node.inputs[1].producer() if node.op_type == "MatMul" and node.inputs[1] is not None else None
        if transpose is None or transpose.op_type != "Transpose":
            continue
        weight = transpose.inputs[0]
        if weight is None or not _is_matrix_of_weights(weight):
            continue
        fused = ir.node("FusedMatMul", [node.inputs[0], weight], {"transB": 1}, domain="com.microsoft", name=node.name)
        old, new = node.outputs[0], fused.outputs[0]
        new.name, new.type, new.shape = old.name, old.type, old.shape
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], [fused], [old], [new])
    model.opset_imports["com.microsoft"] = 1
    RemoveUnusedNodesPass()(model)


def _is_matrix_of_weights(value: ir.Value) -> bool:
    """A weight, or a Cast of one."""
    cast = value.producer()
    stored = cast.inputs[0] if cast is not None and cast.op_type == "Cast" else value
    return stored is not None and stored.is_initializer() and stored.shape is not None and len(stored.shape) == 2
