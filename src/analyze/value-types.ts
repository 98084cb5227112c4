import { DataType, type DataTypeName, dataTypeName } from '../ir/dtype.js';
import type { Graph, Node } from '../ir/graph.js';
import type { GraphIndex } from '../ir/traverse.js';
import { constantOf } from './constants.js';

/** Operators whose first output has the type of their first input. */
const LIKE_FIRST = new Set(
  [
    'Abs Acos Acosh Add Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Concat Conv ConvTranspose Cos Cosh CumSum',
    'DepthToSpace Div Dropout Einsum Elu Erf Exp Expand Flatten Floor FusedMatMul Gather GatherElements GatherND Gelu Gemm',
    'GlobalAveragePool GlobalMaxPool GridSample GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization',
    'LayerNormalization LeakyRelu Log LogSoftmax LpNormalization MatMul Max MaxPool Mean Min Mish Mod Mul Neg Pad Pow PRelu RMSNormalization',
    'Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum',
    'ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu SequenceAt Sigmoid Sign SimplifiedLayerNormalization Sin Sinh Slice Softmax Softplus',
    'Softsign SpaceToDepth Split SplitToSequence Sqrt Squeeze Sub Sum Swish Tan Tanh Tile Transpose Trilu Unsqueeze',
  ].flatMap((line) => line.split(' ')),
);

const INTEGERS = new Set(['ArgMax', 'ArgMin', 'NonZero', 'Shape', 'Size']);

const CONDITIONS = new Set(
  'And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Xor'.split(' ').concat('OptionalHasElement'),
);

/**
 * Element types of the values of a graph, as far as they follow from its inputs, its constants and what its operators do; where they do not,
 * as the graph states them. Of a sequence, the type of its tensors. Subgraphs are not entered.
 *
 * @param graph in topological order
 */
export function valueTypes(graph: Graph): ReadonlyMap<string, DataTypeName> {
  const stated = new Map<string, DataTypeName>();
  for (const { name, dtype } of [...graph.valueInfo, ...graph.outputs]) if (dtype !== null) stated.set(name, dtype);
  const types = new Map<string, DataTypeName>();
  for (const { name, dtype } of graph.inputs) if (dtype !== null) types.set(name, dtype);
  for (const { name, dtype } of graph.initializers.values()) types.set(name, dtype);
  for (const node of graph.nodes) {
    const own = node.isOnnx || node.domain === 'com.microsoft' ? typeOfResult(node, types) : undefined;
    for (const [i, name] of node.outputs.entries()) {
      const type = (i === 0 || node.opType === 'Split' ? own : undefined) ?? stated.get(name);
      if (name !== '' && type !== undefined) types.set(name, type);
    }
  }
  return types;
}

/** @returns the type of the first output, and of all of a Split */
function typeOfResult(node: Node, types: ReadonlyMap<string, DataTypeName>): DataTypeName | undefined {
  const { opType, inputs } = node;
  const at = (input: number): DataTypeName | undefined => types.get(inputs[input] ?? '');
  if (LIKE_FIRST.has(opType)) return at(0);
  if (INTEGERS.has(opType)) return 'int64';
  if (CONDITIONS.has(opType)) return 'bool';
  switch (opType) {
    case 'Cast':
      return dataTypeName(node.intAttribute('to', 0));
    case 'CastLike':
      return at(1);
    case 'Where':
      return at(1) ?? at(2);
    case 'Constant':
      return constantOf(node, '')?.dtype;
    case 'ConstantOfShape': {
      const value = node.attribute('value');
      return value?.type === 'tensor' ? value.value.dtype : 'float32';
    }
    case 'QuantizeLinear':
      if (inputs[2]) return at(2);
      return dataTypeName(node.intAttribute('output_dtype', 0) || DataType.uint8);
    case 'MatMulInteger':
    case 'ConvInteger':
      return 'int32';
    case 'DequantizeLinear':
      return dataTypeName(node.intAttribute('output_dtype', 0) || -1) ?? at(1);
    default:
      return undefined;
  }
}

/** Of graphs as they were when they were indexed. */
const typesOf = new WeakMap<GraphIndex, ReadonlyMap<string, DataTypeName>>();

/** The element type of a value, as far as the graph tells it. Works out the types of all values when it is first asked. */
export function typeOf(name: string, graph: Graph, index: GraphIndex): DataTypeName | undefined {
  let types = typesOf.get(index);
  if (!types) {
    types = valueTypes(graph);
    typesOf.set(index, types);
  }
  return types.get(name);
}
