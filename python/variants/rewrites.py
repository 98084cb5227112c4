"""Graphs that other tools, or other people, make of the exported ones: same outputs, another shape."""

import json
from collections.abc import Callable

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .bench import FP16_TOLERANCE, Bench, Built, variant
from .exporters import DYNAMO
from .graph import (
    MODULES,
    Linear,
    add_initializer,
    array_of,
    block_linears,
    initializers,
    insert_before,
    remove_initializers,
    remove_unused_initializers,
    replace_nodes,
    set_nodes,
    set_opset,
)

BY_HAND = f"{DYNAMO}; rewritten by this script"
FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16


def wipe(model: ModelProto) -> ModelProto:
    """Nothing is left that a name could tell."""
    names: dict[str, str] = {"": ""}

    def renamed(name: str, prefix: str = "v") -> str:
        return names.setdefault(name, f"{prefix}{len(names)}")

    graph = model.graph
    for values, prefix in ((graph.input, "input_"), (graph.output, "output_")):
        for index, value in enumerate(values):
            names[value.name] = f"{prefix}{index}"
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
        del value.metadata_props[:]
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = renamed(f"dim {dim.dim_param}", "d")
    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
        tensor.ClearField("doc_string")
        del tensor.metadata_props[:]
    for node in graph.node:
        inputs, outputs = [renamed(name) for name in node.input], [renamed(name) for name in node.output]
        del node.input[:], node.output[:], node.metadata_props[:]
        node.input.extend(inputs)
        node.output.extend(outputs)
        for field in ("name", "doc_string"):
            node.ClearField(field)
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    for field in ("producer_name", "producer_version", "domain", "doc_string"):
        model.ClearField(field)
    graph.name = "g"
    return model


@variant(
    "wiped", "The optimized export without any name, metadata or value_info; inputs are input_0 to input_2.", BY_HAND
)
def wiped(bench: Bench) -> ModelProto:
    return wipe(bench.copy_of("dynamo"))


@variant("wiped-unoptimized", "The export that was not optimized, without any name, metadata or value_info.", BY_HAND)
def wiped_unoptimized(bench: Bench) -> ModelProto:
    return wipe(bench.copy_of("dynamo-unoptimized"))


@variant(
    "fp16-islands",
    "An FP32 graph in which ffn and attn2.to_v of block 0 compute in FP16 between Casts.",
    BY_HAND,
    tolerance=FP16_TOLERANCE,
)
def fp16_islands(bench: Bench) -> ModelProto:
    model = bench.copy_of("dynamo")
    linears = block_linears(model)
    up, down, value = (linears[f"blocks.0.{name}"] for name in ("ffn.net.0.proj", "ffn.net.2", "attn2.to_v"))
    (gelu,) = (node for node in model.graph.node if node.input[0] == up.output)
    for start, end in ((up, down), (value, value)):
        cast_to_half = helper.make_node("Cast", [start.input], [f"{start.name}.half"], to=FLOAT16)
        cast_back = helper.make_node("Cast", [f"{end.name}.result"], [end.output], to=FLOAT)
        nodes = [half_linear(model, start, f"{start.name}.half", f"{start.name}.result")]
        if start is not end:
            middle = helper.make_node("Gelu", [f"{start.name}.result"], ["ffn.half"], approximate="tanh")
            nodes += [[middle], half_linear(model, end, "ffn.half", f"{end.name}.result")]
        old = [start.matmul, start.add, *((gelu, end.matmul, end.add) if start is not end else ())]
        replace_nodes(model, old, [cast_to_half, *(node for group in nodes for node in group), cast_back])
    remove_unused_initializers(model)
    return model


def half_linear(model: ModelProto, linear: Linear, source: str, result: str) -> list[NodeProto]:
    weight = add_initializer(model, f"{linear.name}.weight.half", linear.weight.astype(np.float16))
    bias = add_initializer(model, f"{linear.name}.bias.half", linear.bias.astype(np.float16))
    product = f"{linear.name}.product"
    return [
        helper.make_node("MatMul", [source, weight], [product], name=f"{linear.name}/MatMul"),
        helper.make_node("Add", [product, bias], [result], name=f"{linear.name}/Add"),
    ]


@variant(
    "bf16-weights", "Every matrix is a BFLOAT16 initializer with a Cast to FLOAT behind it; computes in FP32.", BY_HAND
)
def bf16_weights(bench: Bench) -> ModelProto:
    model = bench.copy_of("dynamo")
    casts = []
    for name, tensor in initializers(model).items():
        value = numpy_helper.to_array(tensor)
        if value.dtype != np.float32 or value.ndim < 2 or (value.view(np.uint32) & 0xFFFF).any():
            continue
        remove_initializers(model, [name])
        stored = add_initializer(model, f"{name}.bf16", value, TensorProto.BFLOAT16)
        casts.append(helper.make_node("Cast", [stored], [name], name=f"{name}/Cast", to=FLOAT))
    set_nodes(model, [*casts, *model.graph.node])
    return model


@variant("external-one", "All weights in model.onnx_data.", f"{DYNAMO}; onnx {onnx.__version__}")
def external_one(bench: Bench) -> Built:
    file = bench.scratch / "external" / "model.onnx"
    file.parent.mkdir()
    onnx.save(
        bench.copy_of("dynamo"),
        file,
        save_as_external_data=True,
        location="model.onnx_data",
        size_threshold=1024,
    )
    data = (file.parent / "model.onnx_data").read_bytes()
    return Built(onnx.load(file, load_external_data=False), {"model.onnx_data": data})


@variant("external-many", "A data file for each large tensor of block 0, one for block 1, one for the rest.", BY_HAND)
def external_many(bench: Bench) -> Built:
    model = bench.copy_of("dynamo")
    owners = {linear.weight_name: name for name, linear in block_linears(model).items()}
    files: dict[str, bytearray] = {}
    for tensor in model.graph.initializer:
        name = owners.get(tensor.name, tensor.name)
        if len(tensor.raw_data) < 512:
            continue
        if name.startswith("blocks.0."):
            location = name
        else:
            location = "blocks.1.bin" if name.startswith("blocks.1.") else "rest.bin"
        content = files.setdefault(location, bytearray())
        content.extend(bytes(-len(content) % 64))
        point_outside(tensor, location, len(content), len(tensor.raw_data))
        content.extend(tensor.raw_data)
        tensor.ClearField("raw_data")
    return Built(model, {name: bytes(content) for name, content in files.items()})


def point_outside(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


@variant(
    "safetensors",
    "Parameters lie in the checkpoint's own safetensors shards: location and offset of the data inside the shard.",
    BY_HAND,
)
def safetensors(bench: Bench) -> Built:
    model = bench.copy_of("dynamo-unoptimized")
    files = {}
    for shard in sorted(bench.checkpoint.glob("*.safetensors")):
        files[shard.name] = data = shard.read_bytes()
        header_size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + header_size])
        for name, tensor in initializers(model).items():
            if name not in header:
                continue
            start, end = header[name]["data_offsets"]
            if tensor.raw_data != data[8 + header_size + start : 8 + header_size + end]:
                raise ValueError(f"{name} differs from the checkpoint")
            tensor.ClearField("raw_data")
            point_outside(tensor, shard.name, 8 + header_size + start, end - start)
    return Built(model, files)


@variant("opset17", "Opset 17, IR 9: Reduce operators with axes as an attribute, torch names in metadata.", BY_HAND)
def opset17(bench: Bench) -> ModelProto:
    model = bench.copy_of("opset18")
    for node in model.graph.node:
        if node.op_type == "ReduceMean":
            axes = array_of(model, node.input[1]).reshape(-1).tolist()
            del node.input[1:]
            node.attribute.append(helper.make_attribute("axes", axes))
            kept = [attribute for attribute in node.attribute if attribute.name != "noop_with_empty_axes"]
        elif node.op_type == "Split":
            kept = [attribute for attribute in node.attribute if attribute.name != "num_outputs"]
        else:
            continue
        del node.attribute[:]
        node.attribute.extend(kept)
    remove_unused_initializers(model)
    set_opset(model, "", 17)
    model.ir_version = 9
    return model


@variant("constants", "All weights are Constant nodes; the graph has no initializer.", BY_HAND)
def constants(bench: Bench) -> ModelProto:
    model = bench.copy_of("dynamo")
    nodes = []
    for name, tensor in initializers(model).items():
        tensor.ClearField("name")
        nodes.append(helper.make_node("Constant", [], [name], name=f"{name}/Constant", value=tensor))
    set_nodes(model, [*nodes, *model.graph.node])
    del model.graph.initializer[:]
    return model


@variant(
    "functions",
    "Linears in model-local functions that take the weights as inputs: Linear (transposes, by an attribute), "
    "Projection, and FeedForward, which calls Linear.",
    BY_HAND,
)
def functions(bench: Bench) -> ModelProto:
    model = bench.copy_of("dynamo")
    linears = block_linears(model)
    for name, linear in linears.items():
        if ".ffn." in name:
            continue
        if name.startswith("blocks.0."):
            call = module_call(name, "Linear", linear.output, [linear.input, *transposed(model, linear)], perm=[1, 0])
        else:
            inputs = [linear.input, linear.weight_name, linear.bias_name]
            call = module_call(name, "Projection", linear.output, inputs)
        replace_nodes(model, [linear.matmul, linear.add], [call])
    for block in ("blocks.0.ffn", "blocks.1.ffn"):
        up, down = linears[f"{block}.net.0.proj"], linears[f"{block}.net.2"]
        (gelu,) = (node for node in model.graph.node if up.output in node.input)
        inputs = [up.input, *transposed(model, up), *transposed(model, down)]
        call = module_call(block, "FeedForward", down.output, inputs, approximate="tanh", perm=[1, 0])
        replace_nodes(model, [up.matmul, up.add, gelu, down.matmul, down.add], [call])
    remove_unused_initializers(model)
    add_functions(model)
    return model


def module_call(name: str, kind: str, output: str, inputs: list[str], **attributes: object) -> NodeProto:
    return helper.make_node(kind, inputs, [output], name=name, domain=MODULES, **attributes)


def transposed(model: ModelProto, linear: Linear) -> list[str]:
    """The weight as torch stores it, and the bias."""
    return [add_initializer(model, f"{linear.name}.weight", linear.weight.T), linear.bias_name]


def add_functions(model: ModelProto) -> None:
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(MODULES, 1)]
    product = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "bias"], ["result"])]
    projection = helper.make_function(MODULES, "Projection", ["x", "w", "bias"], ["result"], product, imports)

    transpose = with_references(helper.make_node("Transpose", ["weight"], ["w"]), perm=AttributeProto.INTS)
    inputs = ["x", "weight", "bias"]
    linear = helper.make_function(MODULES, "Linear", inputs, ["result"], [transpose, *product], imports, ["perm"])

    body = [
        with_references(module_call("up", "Linear", "wide", ["x", "w1", "b1"]), perm=AttributeProto.INTS),
        with_references(helper.make_node("Gelu", ["wide"], ["active"]), approximate=AttributeProto.STRING),
        with_references(module_call("down", "Linear", "result", ["active", "w2", "b2"]), perm=AttributeProto.INTS),
    ]
    inputs = ["x", "w1", "b1", "w2", "b2"]
    attributes = ["approximate", "perm"]
    feed_forward = helper.make_function(MODULES, "FeedForward", inputs, ["result"], body, imports, attributes)
    model.functions.extend([linear, projection, feed_forward])
    set_opset(model, MODULES, 1)


def with_references(node: NodeProto, **types: int) -> NodeProto:
    """Attributes that the function's caller gives."""
    for name, kind in types.items():
        node.attribute.add(name=name, ref_attr_name=name, type=kind)
    return node


@variant(
    "subgraphs",
    "Text goes through an If whose branches read outer values, a weight of block 0 in one of them, and GELU of block 0 "
    "through a Loop.",
    BY_HAND,
)
def with_subgraphs(bench: Bench) -> ModelProto:
    model = bench.copy_of("dynamo")
    linears = block_linears(model)
    text_to_if(model, linears)
    gelu_to_loop(model, linears)
    return model


@variant(
    "subgraph-linear",
    "attn1.to_v of block 1 is computed in both branches of an If from an outer weight, so that it is out of reach.",
    BY_HAND,
)
def with_linear_in_subgraph(bench: Bench) -> ModelProto:
    model = bench.copy_of("dynamo")
    linears = block_linears(model)
    text_to_if(model, linears)
    value_to_if(model, linears["blocks.1.attn1.to_v"])
    return model


def branch(name: str, node: NodeProto) -> GraphProto:
    output = helper.make_tensor_value_info(node.output[0], FLOAT, None)
    return helper.make_graph([node], name, [], [output])


def text_to_if(model: ModelProto, linears: dict[str, Linear]) -> None:
    key = linears["blocks.0.attn2.to_k"]
    text = key.input
    (producer,) = (node for node in model.graph.node if text in node.output)
    producer.output[0] = f"{text}.plain"
    add_initializer(model, "least_text", np.array([0], np.int64))
    then = branch("kept", helper.make_node("Identity", [f"{text}.plain"], ["kept"]))
    otherwise = branch("projected", helper.make_node("MatMul", [f"{text}.plain", key.weight_name], ["projected"]))
    nodes = [
        helper.make_node("Shape", ["encoder_hidden_states"], ["text_size"], start=1, end=2),
        helper.make_node("Greater", ["text_size", "least_text"], ["has_text"]),
        helper.make_node("If", ["has_text"], [text], name="text/If", then_branch=then, else_branch=otherwise),
    ]
    (consumer, *_) = (node for node in model.graph.node if text in node.input)
    insert_before(model, consumer, nodes)


def gelu_to_loop(model: ModelProto, linears: dict[str, Linear]) -> None:
    wide = linears["blocks.0.ffn.net.0.proj"].output
    (gelu,) = (node for node in model.graph.node if wide in node.input)
    add_initializer(model, "once", np.array(1, np.int64))
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["going_on"]),
            helper.make_node("Gelu", ["state"], ["next_state"], approximate="tanh"),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_state", FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["once", "", wide], [gelu.output[0]], name="blocks.0.ffn/Loop", body=body)
    replace_nodes(model, [gelu], [loop])


def value_to_if(model: ModelProto, linear: Linear) -> None:
    inputs = [linear.input, linear.weight_name]
    branches = {
        f"{name}_branch": branch(f"value_{name}", helper.make_node("MatMul", inputs, [f"value_{name}"]))
        for name in ("then", "else")
    }
    node = helper.make_node("If", ["has_text"], [linear.matmul.output[0]], name=f"{linear.name}/If", **branches)
    replace_nodes(model, [linear.matmul], [node])


@variant(
    "reshaped-weights",
    "Chains of Reshape, Squeeze, Unsqueeze, Identity, Transpose, Cast and Mul or Div by a scalar, an output or an "
    "input channel, between the stored weights of the blocks and their MatMul.",
    BY_HAND,
)
def reshaped_weights(bench: Bench) -> ModelProto:
    model = bench.copy_of("dynamo")
    rng = np.random.default_rng(7)
    for index, linear in enumerate(block_linears(model).values()):
        chain = Chain(model, linear, rng)
        steps = CHAINS[(index + index // len(CHAINS) * 3) % len(CHAINS)]
        for step in steps:
            step(chain)
        insert_before(model, linear.matmul, chain.finish())
    remove_unused_initializers(model)
    return model


class Chain:
    """Built from the MatMul backwards: each step says what stands in front, and undoes it on the stored weight."""

    def __init__(self, model: ModelProto, linear: Linear, rng: np.random.Generator) -> None:
        self.model = model
        self.name = linear.name
        self.value = linear.weight
        self.data_type: int | None = None
        self.rng = rng
        self.result = linear.weight_name
        self.nodes: list[NodeProto] = []
        remove_initializers(model, [self.result])

    def _step(self, kind: str, operands: list[str], position: int = 0, **attributes: object) -> None:
        before = f"{self.name}.weight.{len(self.nodes)}"
        inputs = list(operands)
        inputs.insert(position, before)
        name = f"{self.name}/{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [self.result], name=name, **attributes))
        self.result = before

    def _operand(self, value: np.ndarray) -> str:
        return add_initializer(self.model, f"{self.name}.operand.{len(self.nodes)}", value)

    def identity(self) -> None:
        self._step("Identity", [])

    def transpose(self) -> None:
        self._step("Transpose", [], perm=[1, 0])
        self.value = self.value.T

    def reshape(self) -> None:
        self._step("Reshape", [self._operand(np.array(self.value.shape, np.int64))])
        self.value = self.value.reshape(-1)

    def squeeze(self) -> None:
        self._step("Squeeze", [self._operand(np.array([0], np.int64))])
        self.value = self.value[None]

    def unsqueeze(self) -> None:
        self._step("Unsqueeze", [self._operand(np.array([0], np.int64))])
        self.value = self.value.squeeze(0)

    def bfloat16(self) -> None:
        self._step("Cast", [], to=FLOAT)
        self.data_type = TensorProto.BFLOAT16

    def float64(self) -> None:
        self._step("Cast", [], to=FLOAT)
        self.value = self.value.astype(np.float64)

    def scale_columns(self) -> None:
        self._scale("Mul", (1, self.value.shape[1]), flat=True)

    def scale_rows(self) -> None:
        self._scale("Mul", (self.value.shape[0], 1))

    def scale_rows_first(self) -> None:
        self._scale("Mul", (self.value.shape[0], 1), position=1)

    def divide_columns(self) -> None:
        self._scale("Div", (1, self.value.shape[1]))

    def scale(self) -> None:
        self._scale("Mul", (), flat=True)

    def _scale(self, kind: str, shape: tuple[int, ...], *, position: int = 0, flat: bool = False) -> None:
        """By powers of two, so that nothing is rounded."""
        factors = np.exp2(self.rng.integers(-3, 4, shape)).astype(np.float32)
        if not shape:
            factors = np.array(0.125, np.float32)
        self._step(kind, [self._operand(factors.reshape(-1) if flat and shape else factors)], position)
        self.value = self.value / factors if kind == "Mul" else self.value * factors

    def finish(self) -> list[NodeProto]:
        add_initializer(self.model, self.result, self.value, self.data_type)
        return self.nodes[::-1]


# From the MatMul backwards. Columns are output channels, until a Transpose makes them input channels.
CHAINS: tuple[tuple[Callable[[Chain], None], ...], ...] = (
    (Chain.squeeze,),
    (Chain.reshape,),
    (Chain.identity,),
    (Chain.scale_columns, Chain.transpose),
    (Chain.bfloat16,),
    (Chain.scale_rows,),
    (Chain.scale,),
    (Chain.transpose, Chain.scale_rows, Chain.reshape),
    (Chain.scale_rows_first, Chain.squeeze, Chain.identity),
    (Chain.float64, Chain.transpose, Chain.identity),
    (Chain.divide_columns, Chain.bfloat16),
    (Chain.transpose,),
    (Chain.squeeze, Chain.unsqueeze),
    (Chain.transpose, Chain.bfloat16, Chain.identity),
)


@variant(
    "gemm",
    "The ffn linears as Reshape, Gemm, Reshape: with and without transB, alpha and beta other than 1, no C but an Add "
    "behind.",
    BY_HAND,
)
def gemm(bench: Bench) -> ModelProto:
    model = bench.copy_of("dynamo")
    linears = block_linears(model)
    to_gemm(model, linears["blocks.0.ffn.net.0.proj"])
    to_gemm(model, linears["blocks.0.ffn.net.2"], alpha=0.5, beta=2.0)
    to_gemm(model, linears["blocks.1.ffn.net.0.proj"], trans_b=False)
    to_gemm(model, linears["blocks.1.ffn.net.2"], alpha=4.0, bias_in_gemm=False)
    remove_unused_initializers(model)
    return model


def to_gemm(
    model: ModelProto,
    linear: Linear,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    trans_b: bool = True,
    bias_in_gemm: bool = True,
) -> None:
    name = linear.name
    stored = linear.weight / np.float32(alpha)
    weight = add_initializer(model, f"{name}.weight", stored.T if trans_b else stored)
    rows = add_initializer(model, f"{name}.rows", np.array([-1, linear.weight.shape[0]], np.int64))
    width = add_initializer(model, f"{name}.width", np.array([linear.weight.shape[1]], np.int64))
    inputs = [f"{name}.flat", weight]
    if bias_in_gemm:
        inputs.append(add_initializer(model, f"{name}.bias.stored", linear.bias / np.float32(beta)))
    last = linear.output if bias_in_gemm else f"{name}.product"
    nodes = [
        helper.make_node("Reshape", [linear.input, rows], [inputs[0]], name=f"{name}/Flatten"),
        helper.make_node(
            "Gemm", inputs, [f"{name}.gemm"], name=f"{name}/Gemm", alpha=alpha, beta=beta, transB=int(trans_b)
        ),
        helper.make_node("Shape", [linear.input], [f"{name}.lead"], name=f"{name}/Shape", start=0, end=-1),
        helper.make_node("Concat", [f"{name}.lead", width], [f"{name}.shape"], name=f"{name}/Concat", axis=0),
        helper.make_node("Reshape", [f"{name}.gemm", f"{name}.shape"], [last], name=f"{name}/Unflatten"),
    ]
    if not bias_in_gemm:
        nodes.append(helper.make_node("Add", [last, linear.bias_name], [linear.output], name=f"{name}/Add"))
    replace_nodes(model, [linear.matmul, linear.add], nodes)
