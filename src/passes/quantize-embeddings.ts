import { constantTensor } from '../analyze/constants.js';
import { weightChain } from '../analyze/weight-chain.js';
import { int } from '../ir/attribute.js';
import { DataType, type DataTypeName, isQuantizableFloat } from '../ir/dtype.js';
import { type Graph, Node } from '../ir/graph.js';
import { NameAuthority } from '../ir/names.js';
import { Tensor } from '../ir/tensor.js';
import { type GraphIndex, indexGraph } from '../ir/traverse.js';
import { counted, type Pass } from './pass.js';

/** A lookup of rows in a table of floats. */
export interface Embedding {
  /** The Gather. */
  readonly node: Node;
  /** The table as it is stored, `[rows, features]`. */
  readonly table: Tensor;
  /** Type of the rows that the Gather gives. */
  readonly type: DataTypeName;
}

/** Smaller tables are no vocabulary. */
const TABLE_FROM = 4096;

/**
 * Finds every Gather of rows from a stored table of floats, directly or through Casts. A table that anything else reads too (a decoder's
 * output projection) is left out: it would be stored twice.
 */
export function findEmbeddings(graph: Graph, index: GraphIndex = indexGraph(graph)): Embedding[] {
  const found = graph.nodes.flatMap((node): Embedding[] => {
    const [source, ids] = node.inputs;
    if (!node.isOnnx || node.opType !== 'Gather' || source === undefined || ids === undefined) return [];
    if (node.intAttribute('axis', 0) !== 0 || constantTensor(ids, graph, index)) return [];
    const chain = weightChain(source, graph, index);
    const plain = chain?.matrix && !chain.transposed && chain.factors.length === 0;
    if (!plain || chain.stored.dims.length !== 2 || chain.stored.elements < TABLE_FROM) return [];
    const { stored, computeType } = chain;
    if (computeType === undefined || ![stored.dtype, computeType].every(isQuantizableFloat)) return [];
    return [{ node, table: stored, type: computeType }];
  });
  const lookups = new Set(found.map(({ node }) => node));
  const readOtherwise = (name: string): boolean =>
    graph.outputs.some((output) => output.name === name) ||
    (index.consumers.get(name) ?? []).some(({ node }) => {
      const passes = node.isOnnx && (node.opType === 'Cast' || node.opType === 'Identity');
      return passes ? readOtherwise(node.outputs[0] as string) : !lookups.has(node);
    });
  return found.filter(({ table }) => !readOtherwise(table.name));
}

/**
 * Stores tables as symmetric INT8 with one scale a row. Codes and scales of the rows asked for are looked up, and multiplied: a
 * DequantizeLinear before the lookup would widen the whole table, two hundred thousand rows of it in UMT5.
 *
 * Source of the operators: ONNX Gather-13, Cast-13, Mul-14.
 */
export function quantizeEmbeddings(embeddings: readonly Embedding[]): Pass {
  return {
    name: 'quantize-embeddings',
    description: 'stores embedding tables as INT8 with one scale a row',
    run({ graph }) {
      const names = new NameAuthority(graph);
      const stored = new Map<string, { codes: Tensor; scales: Tensor }>();
      let quantized = 0;
      for (const { node, table, type } of embeddings) {
        if (!graph.nodes.includes(node)) continue;
        const form = stored.get(table.name) ?? store(graph, table, names);
        stored.set(table.name, form);
        graph.nodes.splice(graph.nodes.indexOf(node), 1, ...lookup(node, form, type, names));
        quantized++;
      }
      const lookups = counted(quantized, 'lookup');
      return lookups && `${lookups} in ${counted(stored.size, 'table')} of INT8 rows`;
    },
  };
}

function store(graph: Graph, table: Tensor, names: NameAuthority): { codes: Tensor; scales: Tensor } {
  const derived = (as: 'int8' | 'int8-scales') =>
    ({ kind: 'derived', source: table, form: { as, axis: 0, transposed: false } }) as const;
  const [rows] = table.dims as [number, number];
  const codes = new Tensor(names.unique(`${table.name}_quantized`), 'int8', table.dims, derived('int8'));
  // With an axis of one, so that scales looked up stand beside the rows' features.
  const scales = new Tensor(names.unique(`${table.name}_scale`), 'float32', [rows, 1], derived('int8-scales'));
  graph.addInitializer(codes);
  graph.addInitializer(scales);
  return { codes, scales };
}

/** The nodes that take a Gather's place; the last one gives its output. */
function lookup(
  { name, inputs, outputs, metadata, attributes }: Node,
  { codes, scales }: { codes: Tensor; scales: Tensor },
  type: DataTypeName,
  names: NameAuthority,
): Node[] {
  const [, ids] = inputs as [string, string];
  const [output] = outputs as [string];
  const named = (suffix: string): string => names.unique(`${output}_${suffix}`);
  const [rows, wide, factors] = [named('codes'), named('wide'), named('scales')];
  const product = type === 'float32' ? output : named('rows');
  const cast = (from: string, to: string, as: DataTypeName): Node =>
    new Node({ opType: 'Cast', name: to, inputs: [from], outputs: [to], attributes: [int('to', DataType[as])] });
  return [
    new Node({ opType: 'Gather', name, inputs: [codes.name, ids], outputs: [rows], attributes, metadata }),
    cast(rows, wide, 'float32'),
    new Node({ opType: 'Gather', name: factors, inputs: [scales.name, ids], outputs: [factors], attributes }),
    new Node({ opType: 'Mul', name: named('Mul'), inputs: [wide, factors], outputs: [product] }),
    ...(product === output ? [] : [cast(product, output, type)]),
  ];
}
