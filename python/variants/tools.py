"""What optimizers and quantizers make of the exported graphs."""

import numpy as np
import onnx
import onnxruntime
import onnxsim
import onnxslim
from onnx import ModelProto, NodeProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions

from .bench import FP16_TOLERANCE, Bench, variant
from .exporters import DYNAMO, TORCHSCRIPT, quiet
from .graph import (
    Linear,
    add_initializer,
    block_linears,
    remove_unused_initializers,
    replace_nodes,
    scope,
    set_nodes,
    set_opset,
)
from .wan import CASES, DIM, HEADS, Arrays

ORT = f"onnxruntime {onnxruntime.__version__}"
MICROSOFT = "com.microsoft"
INT8_TOLERANCE = 0.2


@variant("onnxslim", "OnnxSlim's output of the torchscript variant.", f"{TORCHSCRIPT}; onnxslim {onnxslim.__version__}")
def slimmed(bench: Bench) -> ModelProto:
    return onnxslim.slim(bench.copy_of("torchscript"))


@variant(
    "onnxsim",
    "onnx-simplifier's output of the dynamo variant: MatMul and Add become Reshape, Gemm, Reshape.",
    f"{DYNAMO}; onnxsim {onnxsim.__version__}",
)
def simplified(bench: Bench) -> ModelProto:
    model, _ = onnxsim.simplify(bench.copy_of("dynamo"), check_n=0)
    return model


def optimize_offline(bench: Bench, name: str, level: onnxruntime.GraphOptimizationLevel) -> ModelProto:
    file = bench.scratch / "ort.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(file)
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    model = bench.copy_of(name).SerializeToString()
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return onnx.load(file)


@variant(
    "ort-extended",
    "onnxruntime's offline-optimized file, level extended: FusedMatMul, FastGelu, QuickGelu, SkipLayerNormalization.",
    f"{DYNAMO}; {ORT}",
)
def ort_extended(bench: Bench) -> ModelProto:
    return optimize_offline(bench, "dynamo", onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)


@variant(
    "ort-all",
    "onnxruntime's offline-optimized file of the fp16 variant, level all on CPU: computes in FP32 between Casts, "
    "weights turned to FP32. (For the FP32 graph this level gives what extended gives.)",
    f"{DYNAMO}; {ORT}",
    tolerance=FP16_TOLERANCE,
)
def ort_all(bench: Bench) -> ModelProto:
    return optimize_offline(bench, "fp16", onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)


@variant(
    "ort-transformers",
    "onnxruntime.transformers.optimizer, model type bert, of the torchscript variant: SkipLayerNormalization, "
    "SimplifiedLayerNormalization, FastGelu with bias. It does not fuse this attention.",
    f"{TORCHSCRIPT}; {ORT}",
)
def ort_transformers(bench: Bench) -> ModelProto:
    return optimize_transformer(bench, bench.copy_of("torchscript"))


def optimize_transformer(bench: Bench, model: ModelProto) -> ModelProto:
    file = bench.scratch / "transformer.onnx"
    onnx.save(model, file)
    with quiet():
        optimized = optimizer.optimize_model(
            str(file),
            model_type="bert",
            num_heads=HEADS,
            hidden_size=DIM,
            optimization_options=FusionOptions("bert"),
            opt_level=1,
            use_gpu=False,
        )
    return optimized.model


@variant(
    "ort-fused",
    "com.microsoft operators as onnxruntime's fusions make them: MultiHeadAttention for the attention products, "
    "FusedMatMul with transB and alpha for linears, FastGelu with the bias of ffn.up.",
    f"{DYNAMO}; rewritten by this script",
)
def ort_fused(bench: Bench) -> ModelProto:
    model = bench.copy_of("dynamo")
    linears = block_linears(model)
    for name, linear in linears.items():
        if name.endswith("to_out.0") or name.startswith("blocks.1."):
            to_fused_matmul(model, linear, alpha=0.25 if ".ffn." in name or "attn2" in name else 1.0)
    for block in ("blocks.0", "blocks.1"):
        fuse_gelu(model, linears[f"{block}.ffn.net.0.proj"])
        for attention in ("attn1", "attn2"):
            fuse_attention(model, f"{block}.{attention}")
    remove_unused_initializers(model)
    set_opset(model, MICROSOFT, 1)
    return model


def microsoft(kind: str, inputs: list[str], output: str, name: str, **attributes: object) -> NodeProto:
    return helper.make_node(kind, inputs, [output], name=name, domain=MICROSOFT, **attributes)


def to_fused_matmul(model: ModelProto, linear: Linear, alpha: float) -> None:
    weight = add_initializer(model, f"{linear.name}.weight", linear.weight.T / np.float32(alpha))
    inputs, output = [linear.input, weight], linear.matmul.output[0]
    node = microsoft("FusedMatMul", inputs, output, f"{linear.name}/FusedMatMul", alpha=alpha, transA=0, transB=1)
    replace_nodes(model, [linear.matmul], [node])


def fuse_gelu(model: ModelProto, linear: Linear) -> None:
    (gelu,) = (node for node in model.graph.node if linear.output in node.input)
    inputs = [linear.matmul.output[0], linear.bias_name]
    node = microsoft("FastGelu", inputs, gelu.output[0], f"{linear.name}/FastGelu")
    replace_nodes(model, [linear.add, gelu], [node])


def fuse_attention(model: ModelProto, name: str) -> None:
    """MultiHeadAttention takes [batch, tokens, channels] and scales by itself."""
    nodes = [node for node in model.graph.node if scope(node) == name]
    (softmax,) = (node for node in nodes if node.op_type == "Softmax")
    producers = {output: node for node in model.graph.node for output in node.output}
    consumers = {value: node for node in model.graph.node for value in node.input}

    def unscaled(value: str) -> str:
        node = producers[value]
        return node.input[0] if node.op_type == "Mul" else value

    scores = producers[softmax.input[0]]
    product = consumers[softmax.output[0]]
    transpose = consumers[product.output[0]]
    merged = consumers[transpose.output[0]]
    shape = add_initializer(model, f"{name}.channels", np.array([0, 0, DIM], np.int64))
    new, inputs = [], []
    for role, value, permutation in (
        ("query", scores.input[0], [0, 2, 1, 3]),
        ("key", scores.input[1], [0, 3, 1, 2]),
        ("value", product.input[1], [0, 2, 1, 3]),
    ):
        heads, flat, label = f"{name}.{role}.heads", f"{name}.{role}", f"{name}/{role}"
        source = unscaled(value)
        new.append(helper.make_node("Transpose", [source], [heads], name=f"{label}/Transpose", perm=permutation))
        new.append(helper.make_node("Reshape", [heads, shape], [flat], name=f"{label}/Reshape"))
        inputs.append(flat)
    fused = microsoft("MultiHeadAttention", inputs, merged.output[0], f"{name}/MultiHeadAttention", num_heads=HEADS)
    replace_nodes(model, [scores, softmax, product, transpose, merged], [*new, fused])
    remove_dead_nodes(model)


def remove_dead_nodes(model: ModelProto) -> None:
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    set_nodes(model, kept[::-1])


class Reader(CalibrationDataReader):
    def __init__(self) -> None:
        self._inputs = iter([case.inputs() for case in CASES])

    def get_next(self) -> Arrays | None:
        return next(self._inputs, None)


@variant(
    "quantized",
    "The dynamo variant quantized by onnxruntime already (static, QDQ, INT8 per channel); to be refused.",
    f"{DYNAMO}; {ORT}",
    tolerance=INT8_TOLERANCE,
)
def quantized(bench: Bench) -> ModelProto:
    source, target = bench.scratch / "float.onnx", bench.scratch / "int8.onnx"
    onnx.save(bench.copy_of("dynamo"), source)
    with quiet():
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
    return onnx.load(target)
