import { describe, expect, it } from 'vitest';
import { int } from '../../../src/ir/attribute.js';
import { byteSize, DataType, dataTypeName, isQuantizableFloat } from '../../../src/ir/dtype.js';
import { Node } from '../../../src/ir/graph.js';
import { NameAuthority } from '../../../src/ir/names.js';
import { aligned, asBytes, Tensor } from '../../../src/ir/tensor.js';
import { indexGraph, valuesRead } from '../../../src/ir/traverse.js';
import { graph, model, node } from '../helpers/graphs.js';

describe('element types', () => {
  it('carry the numbers of onnx.proto', () => {
    expect(DataType).toMatchObject({ float32: 1, uint8: 2, int8: 3, int64: 7, string: 8, float16: 10, bfloat16: 16 });
    for (const [name, number] of Object.entries(DataType)) expect(dataTypeName(number)).toBe(name);
    expect(dataTypeName(999)).toBeUndefined();
  });

  it.each([
    ['float32', 3, 12],
    ['bfloat16', 3, 6],
    ['complex128', 1, 16],
    ['int4', 3, 2],
    ['uint4', 4, 2],
    ['bool', 5, 5],
    ['string', 5, undefined],
  ] as const)('%s: %i elements take %s bytes', (dtype, elements, bytes) => {
    expect(byteSize(dtype, elements)).toBe(bytes);
  });

  it('are quantizable where they are floats of 16 or 32 bits', () => {
    const names = Object.keys(DataType) as (keyof typeof DataType)[];
    expect(names.filter(isQuantizableFloat).sort()).toEqual(['bfloat16', 'float16', 'float32']);
  });
});

describe('Tensor', () => {
  it('knows its elements and bytes', () => {
    const tensor = Tensor.float32('t', [2, 3], [1, 2, 3, 4, 5, 6]);
    expect([tensor.elements, tensor.byteLength]).toEqual([6, 24]);
    expect(Tensor.int64('scalar', [], [1]).elements).toBe(1);
    expect(Tensor.float32('none', [0, 5], []).byteLength).toBe(0);
  });

  it('stores little-endian bytes', () => {
    expect(Tensor.int64('t', [1], [-2]).data).toMatchObject({
      bytes: Uint8Array.of(0xfe, 255, 255, 255, 255, 255, 255, 255),
    });
    expect(Tensor.float64('t', [1], [1]).data).toMatchObject({ bytes: Uint8Array.of(0, 0, 0, 0, 0, 0, 0xf0, 0x3f) });
  });

  it('shares memory where it is aligned and copies where it is not', () => {
    const bytes = asBytes(Float32Array.of(1, 2));
    expect(aligned(bytes, 4)).toBe(bytes);
    const odd = bytes.subarray(1, 5);
    expect(aligned(odd, 4)).toEqual(odd);
    expect(aligned(odd, 4).byteOffset % 4).toBe(0);
  });
});

describe('Model.opset', () => {
  it('is that of the default domain, or 0', () => {
    const made = model({ nodes: [] }, 17);
    expect(made.opset).toBe(17);
    made.opsets = [{ domain: 'ai.onnx', version: 18 }];
    expect(made.opset).toBe(18);
    made.opsets = [{ domain: 'com.example', version: 3 }];
    expect(made.opset).toBe(0);
  });
});

describe('Node.intAttribute', () => {
  it('falls back where the attribute is absent or of another type', () => {
    const made = node('X', [], 'y', [int('axis', 0), { name: 'scale', type: 'float', value: 2 }]);
    expect(made.intAttribute('axis', 7)).toBe(0);
    expect(made.intAttribute('scale', 7)).toBe(7);
    expect(made.intAttribute('missing', 7)).toBe(7);
  });
});

const nested = (): Node =>
  node('If', ['condition'], 'y', [
    {
      name: 'then_branch',
      type: 'graph',
      value: graph({
        nodes: [node('Add', ['captured', 'local'], 'sum'), node('Neg', ['sum'], 'result')],
        initializers: [Tensor.float32('local', [1], [1])],
        outputs: ['result', 'passed'],
      }),
    },
    {
      name: 'else_branch',
      type: 'graph',
      value: graph({
        nodes: [
          node('Loop', ['trips'], 'deep', [
            { name: 'body', type: 'graph', value: graph({ nodes: [node('Neg', ['deepest'], 'z')], inputs: ['i'] }) },
          ]),
        ],
        outputs: ['deep'],
      }),
    },
  ]);

describe('valuesRead', () => {
  it('is what a node and its subgraphs take from around them', () => {
    expect(valuesRead(nested())).toEqual(new Set(['condition', 'captured', 'passed', 'trips', 'deepest']));
  });

  it('leaves out omitted inputs', () => {
    expect(valuesRead(node('Clip', ['x', '', 'max'], 'y'))).toEqual(new Set(['x', 'max']));
  });
});

describe('indexGraph', () => {
  it('finds who makes and who uses a value', () => {
    const first = new Node({ opType: 'Split', inputs: ['x'], outputs: ['a', ''] });
    const second = node('Add', ['a', 'a'], 'b');
    const { producers, consumers } = indexGraph(graph({ nodes: [first, second] }));
    expect([...producers]).toEqual([
      ['a', first],
      ['b', second],
    ]);
    expect(consumers.get('a')).toEqual([
      { node: second, input: 0 },
      { node: second, input: 1 },
    ]);
  });
});

describe('NameAuthority', () => {
  it('never gives a name that is taken, in a subgraph too', () => {
    const names = new NameAuthority(
      graph({ nodes: [nested()], initializers: [Tensor.float32('w', [1], [1])], inputs: ['x'], outputs: ['out'] }),
    );
    const taken = ['w', 'x', 'out', 'y', 'local', 'sum', 'result', 'deep', 'z', 'i'];
    expect(taken.map((name) => names.unique(name))).toEqual(taken.map((name) => `${name}_1`));
    expect(names.unique('w')).toBe('w_2');
    expect(names.unique('w_1')).toBe('w_1_1');
    expect(names.unique('free')).toBe('free');
    expect(names.unique('free')).toBe('free_1');
  });
});
