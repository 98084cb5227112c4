import { describe, expect, it } from 'vitest';
import { int } from '../../../src/ir/attribute.js';
import { DataType } from '../../../src/ir/dtype.js';
import type { Model, Node } from '../../../src/ir/graph.js';
import { asBytes, Tensor } from '../../../src/ir/tensor.js';
import { float32ToHalf } from '../../../src/numerics/half.js';
import { quantizeWeight } from '../../../src/numerics/int8.js';
import { randn } from '../../../src/numerics/rng.js';
import { findEmbeddings, quantizeEmbeddings } from '../../../src/passes/quantize-embeddings.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { read } from '../../helpers/source.js';
import { model, node, readFloats } from '../helpers/graphs.js';

const [ROWS, FEATURES] = [256, 16];
const VALUES = randn(1, ROWS * FEATURES);
const table = Tensor.float32('table', [ROWS, FEATURES], VALUES);
const lookup = (source = 'table', output = 'y'): Node => node('Gather', [source, 'ids'], output);

function made(nodes: Node[], initializers = [table], outputs = ['y']): Model {
  return model({ nodes, initializers, inputs: ['ids'], outputs });
}

const tables = ({ graph }: Model): string[] => findEmbeddings(graph).map(({ table: of }) => of.name);

describe('findEmbeddings', () => {
  it('finds lookups in a table, also through a Cast', () => {
    expect(tables(made([lookup()]))).toEqual(['table']);
    const half = Tensor.fromBytes('table', 'float16', [ROWS, FEATURES], asBytes(float32ToHalf(VALUES)));
    const through = [node('Cast', ['table'], 'wide', [int('to', DataType.float32)]), lookup('wide')];
    expect(findEmbeddings(made(through, [half]).graph)).toMatchObject([{ table: { name: 'table' }, type: 'float32' }]);
    expect(findEmbeddings(made([lookup()], [half]).graph)).toMatchObject([{ type: 'float16' }]);
  });

  it.each<[string, Node[], Tensor[], string[]?]>([
    ['a small table', [lookup()], [Tensor.float32('table', [255, 16], new Float32Array(255 * 16))]],
    ['columns', [node('Gather', ['table', 'ids'], 'y', [int('axis', 1)])], [table]],
    ['integers', [lookup()], [Tensor.int64('table', [ROWS, FEATURES], new Array(ROWS * FEATURES).fill(1))]],
    ['more axes', [lookup()], [Tensor.float32('table', [ROWS, 4, 4], VALUES)]],
    ['rows that are known', [lookup()], [table, Tensor.int64('ids', [1], [3])]],
    [
      'a table that the output projection reads too',
      [lookup(), node('Transpose', ['table'], 'turned'), node('MatMul', ['y', 'turned'], 'z')],
      [table],
      ['z'],
    ],
    ['a table that is an output', [lookup()], [table], ['y', 'table']],
  ])('leaves out %s', (_, nodes, initializers, outputs) => {
    expect(tables(made(nodes, initializers, outputs))).toEqual([]);
  });
});

describe('quantize-embeddings', () => {
  it('looks up codes and scales, and multiplies them', async () => {
    const of = made([lookup()]);
    const pass = quantizeEmbeddings(findEmbeddings(of.graph));
    expect(pass.run(of)).toBe('1 lookup in 1 table of INT8 rows');
    expect(pass.run(of)).toBeUndefined();
    removeUnused.run(of);
    const [codes, scales] = [...of.graph.initializers.values()] as [Tensor, Tensor];
    const expected = quantizeWeight(VALUES, ROWS, FEATURES, 0);
    expect([codes.dtype, codes.dims, scales.dtype, scales.dims]).toEqual([
      'int8',
      [ROWS, FEATURES],
      'float32',
      [ROWS, 1],
    ]);
    expect(Buffer.from(await read(codes)).equals(asBytes(expected.values))).toBe(true);
    expect(await readFloats(scales)).toEqual([...expected.scales]);
    expect(of.graph.nodes.map(({ opType, inputs }) => [opType, inputs[0]])).toEqual([
      ['Gather', codes.name],
      ['Cast', of.graph.nodes[0]?.outputs[0]],
      ['Gather', scales.name],
      ['Mul', of.graph.nodes[1]?.outputs[0]],
    ]);
    expect(of.graph.nodes.at(-1)?.outputs).toEqual(['y']);
  });

  it('stores a table once for all lookups in it', () => {
    const of = made([lookup(), lookup('table', 'z')], [table], ['y', 'z']);
    expect(quantizeEmbeddings(findEmbeddings(of.graph)).run(of)).toBe('2 lookups in 1 table of INT8 rows');
    removeUnused.run(of);
    expect(of.graph.initializers.size).toBe(2);
  });

  it('gives rows in the type the lookup had', () => {
    const half = Tensor.fromBytes('table', 'float16', [ROWS, FEATURES], asBytes(float32ToHalf(VALUES)));
    const of = made([lookup()], [half]);
    quantizeEmbeddings(findEmbeddings(of.graph)).run(of);
    const last = of.graph.nodes.at(-1) as Node;
    expect([last.opType, last.intAttribute('to', 0), last.outputs]).toEqual(['Cast', DataType.float16, ['y']]);
  });
});
