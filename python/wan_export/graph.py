"""From a torch module to an ONNX graph, without ever seeing a weight."""

import warnings

import onnx_ir as ir
import torch
from onnxscript import optimizer, rewriter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from .component import Component
from .errors import Exit, ExportError
from .precision import Precision
from .skeleton import replace_parameters

# The module path of a node, by which wanq tells what a linear does. All else that torch leaves on nodes and values is
# stack traces with paths of this machine, and its own debugging text.
KEPT_METADATA = {"namespace", "pkg.torch.onnx.name_scopes"}
# Every component's wrapper holds its model under this name.
PREFIX = "model."
# Larger constants are left to be computed: a 720p VAE repeats its upsampling indices for every frame, 150 MB of them.
MAX_FOLDED_ELEMENTS = 1 << 14


def trace(component: Component, opset: int) -> ir.Model:
    """The component's graph. Its weights are initializers without a value, named as in the checkpoint."""
    model = component.skeleton()
    precision = component.precision(model)
    example, axes = component.example(), component.axes()
    # Fake tensors know shape and type only: tracing computes nothing and takes no memory for weights or activations.
    fake = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    with fake:
        replace_parameters(model, lambda name, old: torch.empty(old.shape, dtype=precision.computed(name)))
        arguments = tuple(torch.empty(value.shape, dtype=value.dtype) for value in example.values())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            component.wrap(model).eval(),
            arguments,
            dynamo=True,
            opset_version=opset,
            input_names=list(example),
            output_names=[component.output],
            dynamic_shapes=tuple(axes.get(name, {}) for name in example),
            optimize=False,
            verbose=False,
        )
        assert program is not None
        graph = program.model.graph
        if [value.name for value in graph.inputs] != list(example):
            raise ExportError(Exit.RUNTIME, f"{component.name}: torch merged or dropped inputs of the graph")
        _take_out_weights(graph, set(model.state_dict()))
        _optimize(program.model)
    _store_as_bf16(graph, precision)
    _strip_metadata(program.model)
    return program.model


def weights_of(model: ir.Model) -> list[ir.Value]:
    return [value for value in model.graph.initializers.values() if value.const_value is None]


def _take_out_weights(graph: ir.Graph, names: set[str]) -> None:
    """The optimizer would fold weights into new tensors; without a value they stay what the checkpoint calls them."""
    for value in list(graph.initializers.values()):
        name = (value.name or "").removeprefix(PREFIX)
        if name in names:
            value.const_value = None
            value.name = name


def _optimize(model: ir.Model) -> None:
    """onnxscript's own pass, less a rule that walks the whole graph at every node: ten minutes more for a 720p VAE."""
    rules = rewriter._DEFAULT_REWRITE_RULES
    rewriter._DEFAULT_REWRITE_RULES = tuple(rule for rule in rules if rule.name != "SlicesSplit")
    try:
        optimizer.optimize_ir(model, output_size_limit=MAX_FOLDED_ELEMENTS)
    finally:
        rewriter._DEFAULT_REWRITE_RULES = rules


def _store_as_bf16(graph: ir.Graph, precision: Precision) -> None:
    order = {node: index for index, node in enumerate(graph)}
    for value in [value for value in graph.initializers.values() if value.const_value is None]:
        assert value.name is not None and value.shape is not None
        if not precision.stored_as_bf16(value.name, len(value.shape)):
            continue
        value.type = ir.TensorType(ir.DataType.BFLOAT16)
        uses = [(node, index) for node, index in value.uses()]
        tables = [node for node, index in uses if node.op_type == "Gather" and index == 0]
        others = [(node, index) for node, index in uses if node not in tables]
        for node in tables:
            _cast_rows(node)
        if others:
            # Just before the first use: casts at the graph's start would widen the whole model at once.
            cast = _cast(value, f"{value.name}.float")
            graph.insert_before(min((node for node, _ in others), key=order.__getitem__), cast)
            for node, index in others:
                node.replace_input_with(index, cast.outputs[0])


def _cast(value: ir.Value, name: str) -> ir.Node:
    cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, name=f"{name}.cast")
    output = cast.outputs[0]
    output.name, output.shape, output.type = name, value.shape, ir.TensorType(ir.DataType.FLOAT)
    return cast


def _cast_rows(gather: ir.Node) -> None:
    """An embedding's rows are cast once they are looked up, not the whole table before."""
    rows = gather.outputs[0]
    users = list(rows.uses())
    rows.type = ir.TensorType(ir.DataType.BFLOAT16)
    cast = _cast(rows, f"{rows.name}.float")
    assert gather.graph is not None
    gather.graph.insert_after(gather, cast)
    for node, index in users:
        node.replace_input_with(index, cast.outputs[0])


def _strip_metadata(model: ir.Model) -> None:
    graph = model.graph
    model.metadata_props.clear()
    graph.metadata_props.clear()
    values = [*graph.inputs, *graph.initializers.values()]
    for node in graph.all_nodes():
        for key in set(node.metadata_props) - KEPT_METADATA:
            del node.metadata_props[key]
        node.doc_string = None
        values.extend(node.outputs)
    for value in values:
        value.metadata_props.clear()
        value.doc_string = None
