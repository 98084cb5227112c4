"""Small tools on ONNX graphs."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

# Stack traces carry paths of the exporting machine.
TRACES = {"pkg.torch.onnx.stack_trace"}
MODULES = "wan.modules"


@dataclass
class Linear:
    """MatMul and Add of one torch Linear; the weight is [in, out]."""

    name: str
    matmul: NodeProto
    add: NodeProto
    weight: np.ndarray
    bias: np.ndarray

    @property
    def input(self) -> str:
        return self.matmul.input[0]

    @property
    def weight_name(self) -> str:
        return self.matmul.input[1]

    @property
    def bias_name(self) -> str:
        return next(name for name in self.add.input if name != self.matmul.output[0])

    @property
    def output(self) -> str:
        return self.add.output[0]


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from all_nodes(graph.node)


def every_node(model: ModelProto) -> Iterator[NodeProto]:
    yield from all_nodes(model.graph.node)
    for function in model.functions:
        yield from all_nodes(function.node)


def strip_traces(model: ModelProto) -> None:
    for node in every_node(model):
        kept = [entry for entry in node.metadata_props if entry.key not in TRACES]
        if len(kept) != len(node.metadata_props):
            del node.metadata_props[:]
            node.metadata_props.extend(kept)


def scope(node: NodeProto) -> str:
    """The torch module a node of torch's exporter comes from."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            return json.loads(entry.value.replace("'", '"'))[-2]
    return ""


def initializers(model: ModelProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def array_of(model: ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(initializers(model)[name])


def add_initializer(model: ModelProto, name: str, value: np.ndarray, data_type: int | None = None) -> str:
    tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
    if data_type == TensorProto.BFLOAT16:
        bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
        if (bits & 0xFFFF).any():
            raise ValueError(f"{name} is no bfloat16 tensor")
        tensor = helper.make_tensor(name, data_type, value.shape, (bits >> 16).astype(np.uint16).tobytes(), raw=True)
    model.graph.initializer.append(tensor)
    return name


def remove_initializers(model: ModelProto, names: Iterable[str]) -> None:
    gone = set(names)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in gone]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def remove_unused_initializers(model: ModelProto) -> None:
    used = {name for node in every_node(model) for name in node.input} | {value.name for value in model.graph.output}
    remove_initializers(model, [name for name in initializers(model) if name not in used])


def block_linears(model: ModelProto) -> dict[str, Linear]:
    """The linears of the blocks of an optimized dynamo export, by torch name."""
    tensors = initializers(model)
    consumers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    linears = {}
    for node in model.graph.node:
        name = scope(node)
        if node.op_type != "MatMul" or node.input[1] not in tensors or not name.startswith("blocks."):
            continue
        (add,) = consumers[node.output[0]]
        bias = next(entry for entry in add.input if entry != node.output[0])
        weight = numpy_helper.to_array(tensors[node.input[1]])
        linears[name] = Linear(name, node, add, weight, numpy_helper.to_array(tensors[bias]))
    if len(linears) != 20:
        raise ValueError(f"20 block linears expected, {len(linears)} found")
    return linears


def replace_nodes(model: ModelProto, old: Iterable[NodeProto], new: Iterable[NodeProto]) -> None:
    """Puts `new` where the last of `old` stood, so that the order stays topological."""
    gone = {node.output[0] for node in old}
    position = max(index for index, node in enumerate(model.graph.node) if node.output[0] in gone)
    nodes = list(model.graph.node)
    result = [node for node in nodes[: position + 1] if node.output[0] not in gone]
    result += [*new, *(node for node in nodes[position + 1 :] if node.output[0] not in gone)]
    set_nodes(model, result)


def set_nodes(model: ModelProto, nodes: Iterable[NodeProto]) -> None:
    copies = [copy_node(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def copy_node(node: NodeProto) -> NodeProto:
    result = NodeProto()
    result.CopyFrom(node)
    return result


def insert_before(model: ModelProto, consumer: NodeProto, new: Iterable[NodeProto]) -> None:
    nodes = []
    for node in model.graph.node:
        if node.output[0] == consumer.output[0]:
            nodes.extend(new)
        nodes.append(node)
    set_nodes(model, nodes)


def set_opset(model: ModelProto, domain: str, version: int) -> None:
    for entry in model.opset_import:
        if entry.domain == domain:
            entry.version = version
            return
    model.opset_import.append(helper.make_opsetid(domain, version))


def rename_inputs(nodes: Iterable[NodeProto], old: str, new: str) -> None:
    for node in all_nodes(nodes):
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def merge_equal_initializers(model: ModelProto) -> None:
    """One initializer for tensors of the same type, shape and content."""
    seen: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    gone = []
    for tensor in model.graph.initializer:
        kept = seen.setdefault((tensor.data_type, tuple(tensor.dims), tensor.raw_data), tensor.name)
        if kept != tensor.name:
            rename_inputs(model.graph.node, tensor.name, kept)
            gone.append(tensor.name)
    remove_initializers(model, gone)
