"""onnxruntime's own quantizer on a model with external data, as bench/latency.ts calls it: the tool's preprocessing, then static INT8.

usage: peer_quantize.py MODEL.onnx FEEDS.safetensors NODES.json OUTPUT.onnx

NODES.json lists the names of the MatMul nodes to quantize.
"""
import json
import os
import sys
import tempfile

from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from safetensors.numpy import load_file

model, feeds_file, nodes_file, output = sys.argv[1:]
feeds = load_file(feeds_file)
with open(nodes_file) as file:
    nodes = json.load(file)


class Reader(CalibrationDataReader):
    def __init__(self):
        self.rows = iter([feeds])

    def get_next(self):
        return next(self.rows, None)


with tempfile.TemporaryDirectory(dir=os.path.dirname(output)) as folder:
    prepared = os.path.join(folder, "prepared.onnx")
    # Folds the transposed weights, which the quantizer would not recognise as constants.
    quant_pre_process(
        model,
        prepared,
        skip_symbolic_shape=True,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
    )
    quantize_static(
        prepared,
        output,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=nodes,
        op_types_to_quantize=["MatMul"],
        calibrate_method=CalibrationMethod.MinMax,
        use_external_data_format=True,
        extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
    )
