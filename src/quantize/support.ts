import { printable, WanqError } from '../errors.js';
import type { Model, Node } from '../ir/graph.js';
import { subgraphs } from '../ir/traverse.js';
import { IR_VERSIONS } from '../passes/opset-changes.js';

/** Operators of quantized graphs: ONNX's own, and onnxruntime's (QAttention, MatMulNBits, ...). */
const QUANTIZED =
  /^(Dynamic)?Quantize|^Dequantize|Quantized$|^QLinear|Integer(ToFloat|16)?$|^Q(Attention|Gemm|MoE|Embed|Ordered)|NBits|Bnb4$|FpQ4$/;

/** Types the inputs of a transformer may have: onnxruntime-node takes no other float type as an input, and a timestep may be whole. */
const FED = new Set(['float32', 'float16', 'int64', 'int32']);

/** @throws WanqError MODEL_UNSUPPORTED for a graph that cannot be quantized: one that is, of a later ONNX, or whose inputs have another type */
export function refuseUnsupported(model: Model, file: string): void {
  const { graph, functions, metadata, irVersion, opset } = model;
  const [latestOpset, latestIr] = IR_VERSIONS.at(-1) as (typeof IR_VERSIONS)[number];
  if (opset > latestOpset || irVersion > latestIr) {
    throw new WanqError(
      'MODEL_UNSUPPORTED',
      `${printable(file)} is of opset ${opset} and IR version ${irVersion}, and wanq knows ONNX up to opset ${latestOpset} and IR version ${latestIr}`,
      { hint: `export the transformer with opset ${latestOpset} or older` },
    );
  }
  const nodes = [...graph.nodes, ...functions.flatMap((definition) => definition.nodes)];
  const quantized = findNode(nodes, ({ opType }) => QUANTIZED.test(opType));
  if (quantized) {
    const by = metadata.has('wanq.version') ? 'by wanq' : `it has ${printable(quantized.opType)}`;
    throw new WanqError('MODEL_UNSUPPORTED', `${printable(file)} is quantized already (${by})`, {
      hint: 'start from the FP32 or FP16 model',
    });
  }
  const inputs = graph.inputs.filter(({ name }) => !graph.initializers.has(name));
  const odd = inputs.find(({ dtype }) => dtype === null || !FED.has(dtype));
  if (odd) {
    const what = `input ${printable(odd.name, 40)} in ${odd.dtype ?? 'an unknown type'}`;
    throw new WanqError('MODEL_UNSUPPORTED', `${printable(file)} takes its ${what}`, {
      hint: 'export the transformer with FP32 or FP16 inputs',
    });
  }
}

function findNode(nodes: readonly Node[], test: (node: Node) => boolean): Node | undefined {
  for (const node of nodes) {
    if (test(node)) return node;
    for (const graph of subgraphs(node)) {
      const found = findNode(graph.nodes, test);
      if (found) return found;
    }
  }
  return undefined;
}
