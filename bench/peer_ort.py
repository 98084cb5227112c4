"""onnxruntime's quantize_static on the transformer of a pipeline folder, as bench/quality.ts calls it.

usage: peer_ort.py PIPELINE FEEDS.safetensors ffn|blocks int8|uint8 minmax|entropy|percentile OUTPUT_FOLDER
"""
import json
import os
import shutil
import sys
import tempfile

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from safetensors.numpy import load_file

pipeline, feeds_file, scheme, dtype, method, output = sys.argv[1:]
source = os.path.join(pipeline, "transformer", "model.onnx")


def scope(node):
    """Module path that torch's exporter left on the node."""
    for prop in node.metadata_props:
        if prop.key == "pkg.torch.onnx.name_scopes":
            return ".".join(json.loads(prop.value.replace("'", '"')))
    return ""


model = onnx.load(source)
constants = {tensor.name for tensor in model.graph.initializer}
chosen = [
    node.name
    for node in model.graph.node
    if node.op_type == "MatMul"
    and node.input[1] in constants
    and ("blocks." in scope(node))
    and (scheme == "blocks" or ".ffn." in scope(node))
]
assert len(chosen) == {"ffn": 12, "blocks": 60}[scheme], len(chosen)

feeds = load_file(feeds_file)


class Reader(CalibrationDataReader):
    def __init__(self):
        count = len(feeds["timestep"])
        self.rows = iter({name: values[i : i + 1] for name, values in feeds.items()} for i in range(count))

    def get_next(self):
        return next(self.rows, None)


methods = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
activation = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}[dtype]
with tempfile.TemporaryDirectory() as folder:
    target = os.path.join(folder, "model.onnx")
    quantize_static(
        source,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=activation,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=chosen,
        op_types_to_quantize=["MatMul"],
        calibrate_method=methods[method],
        extra_options={"ActivationSymmetric": dtype == "int8", "WeightSymmetric": True},
    )
    shutil.move(target, os.path.join(output, "transformer", "model.onnx"))
