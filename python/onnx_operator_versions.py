"""Writes fixtures/onnx-operators/versions.json: at which opset versions ONNX changed each operator of its default domain.

wanq's tests hold src/passes/opset-changes.ts against it. Run it again when that table learns a newer opset:

    pip install onnx && python python/onnx_operator_versions.py fixtures/onnx-operators/versions.json
"""

import json
import sys
from collections import defaultdict

import onnx
import onnx.defs
import onnx.helper


def main() -> None:
    versions = defaultdict(set)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions[schema.name].add(schema.since_version)
    ir_versions = {}
    for _release, ir, opset, *_ in onnx.helper.VERSION_TABLE:
        ir_versions[opset] = min(ir, ir_versions.get(opset, ir))
    lines = [f'    "{name}": {sorted(versions[name])}' for name in sorted(versions)]
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write('{\n  "onnx": %s,\n' % json.dumps(onnx.__version__))
        file.write('  "irVersions": %s,\n' % json.dumps({str(k): v for k, v in sorted(ir_versions.items())}))
        file.write('  "operators": {\n' + ",\n".join(lines) + "\n  }\n}\n")


if __name__ == "__main__":
    main()
