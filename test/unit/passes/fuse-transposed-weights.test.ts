import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { int, ints } from '../../../src/ir/attribute.js';
import { DataType } from '../../../src/ir/dtype.js';
import type { Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { decodeModel } from '../../../src/onnx/codec.js';
import { fuseTransposedWeights } from '../../../src/passes/fuse-transposed-weights.js';
import { runPasses } from '../../../src/passes/pass.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { FULL_SHAPE } from '../../helpers/fixtures.js';
import { model, node } from '../helpers/graphs.js';

const transpose = (from: string, to: string, perm: number[] | null = [1, 0]): Node =>
  node('Transpose', [from], to, perm ? [ints('perm', perm)] : []);

const weight = (name = 'w'): Tensor => Tensor.float32(name, [2, 3], [1, 2, 3, 4, 5, 6]);

function build(nodes: Node[], initializers = [weight()], inputs = ['x']): Model {
  return model({ nodes, initializers, inputs, outputs: ['y'] });
}

const simple = (): Model => build([transpose('w', 't'), node('MatMul', ['x', 't'], 'y')]);

const named = (made: Model, name: string): Node => made.graph.nodes.find((each) => each.name === name) as Node;

const MICROSOFT = { domain: 'com.microsoft' };
const CONTRIB = { domain: 'com.microsoft', version: 1 };

describe('fuse-transposed-weights', () => {
  it.each([
    ['with perm [1, 0]', [1, 0]],
    ['without perm', null],
  ])('lets a product read the stored weight behind a Transpose %s', (_, perm) => {
    const made = build([transpose('w', 't', perm), node('MatMul', ['x', 't'], 'y')]);
    const stored = made.graph.initializers.get('w');
    expect(fuseTransposedWeights.run(made)).toBeDefined();
    expect(named(made, 'y')).toMatchObject({
      opType: 'FusedMatMul',
      domain: 'com.microsoft',
      name: 'y',
      inputs: ['x', 'w'],
      outputs: ['y'],
      attributes: [int('transB', 1)],
    });
    expect(made.graph.initializers.get('w')).toBe(stored);
    expect(made.opsets).toEqual([{ domain: '', version: 21 }, CONTRIB]);
  });

  it('leaves a Transpose that nobody reads any more, which remove-unused drops', () => {
    const made = simple();
    expect(runPasses(made, [fuseTransposedWeights, removeUnused]).map(({ pass }) => pass)).toEqual([
      'fuse-transposed-weights',
      'remove-unused',
    ]);
    expect(made.graph.nodes.map(({ opType }) => opType)).toEqual(['FusedMatMul']);
    expect([...made.graph.initializers.keys()]).toEqual(['w']);
  });

  it('keeps a Transpose that something else reads', () => {
    const made = model({
      nodes: [transpose('w', 't'), node('MatMul', ['x', 't'], 'y'), node('Neg', ['t'], 'z')],
      initializers: [weight()],
      inputs: ['x'],
      outputs: ['y', 'z'],
    });
    runPasses(made, [fuseTransposedWeights, removeUnused]);
    expect(made.graph.nodes.map(({ opType }) => opType)).toEqual(['Transpose', 'FusedMatMul', 'Neg']);
    expect(named(made, 'z').inputs).toEqual(['t']);
  });

  it('lets all products of one transposed weight read it', () => {
    const made = model({
      nodes: [transpose('w', 't'), node('MatMul', ['x', 't'], 'y'), node('MatMul', ['x2', 't'], 'z')],
      initializers: [weight()],
      inputs: ['x', 'x2'],
      outputs: ['y', 'z'],
    });
    fuseTransposedWeights.run(made);
    expect([named(made, 'y').inputs, named(made, 'z').inputs]).toEqual([
      ['x', 'w'],
      ['x2', 'w'],
    ]);
  });

  it('imports the operators of com.microsoft once, and no others where they are there already', () => {
    const two = build(
      [transpose('w', 't'), node('MatMul', ['x', 't'], 'a'), transpose('v', 's'), node('MatMul', ['x', 's'], 'y')],
      [weight('w'), weight('v')],
    );
    fuseTransposedWeights.run(two);
    expect(two.opsets).toEqual([{ domain: '', version: 21 }, CONTRIB]);

    const imported = simple();
    imported.opsets = [CONTRIB, { domain: '', version: 17 }];
    fuseTransposedWeights.run(imported);
    expect(imported.opsets).toEqual([CONTRIB, { domain: '', version: 17 }]);
  });

  it('changes nothing the second time', () => {
    const made = simple();
    fuseTransposedWeights.run(made);
    const once = made.graph.nodes.map((each) => ({ ...each }));
    const opsets = [...made.opsets];
    expect(fuseTransposedWeights.run(made)).toBeUndefined();
    expect(made.graph.nodes.map((each) => ({ ...each }))).toEqual(once);
    expect(made.opsets).toEqual(opsets);
  });

  it('leaves a product the linear it was', () => {
    const made = simple();
    const [before] = findLinears(made.graph);
    fuseTransposedWeights.run(made);
    const [after, ...others] = findLinears(made.graph);
    expect(others).toEqual([]);
    expect(before).toMatchObject({ kind: 'MatMul', transposed: true, inFeatures: 3, outFeatures: 2 });
    expect(after).toEqual({ ...before, kind: 'FusedMatMul', chain: [] });
  });

  it('fuses a weight that is an input with a default', () => {
    const made = build([transpose('w', 't'), node('MatMul', ['x', 't'], 'y')], [weight()], ['x', 'w']);
    expect(fuseTransposedWeights.run(made)).toBeDefined();
    expect(made.graph.inputs.map(({ name }) => name)).toEqual(['x', 'w']);
    expect(named(made, 'y').inputs).toEqual(['x', 'w']);
  });

  it.each<[string, Node[]]>([
    ['a product whose weight is not transposed', [node('MatMul', ['x', 'w'], 'y')]],
    ['a Gemm', [transpose('w', 't'), node('Gemm', ['x', 't'], 'y')]],
    ['a Gemm with transB', [node('Gemm', ['x', 'w'], 'y', [int('transB', 1)])]],
    ['a FusedMatMul with transB', [node('FusedMatMul', ['x', 'w'], 'y', [int('transB', 1)], MICROSOFT)]],
    ['a scaled weight', [transpose('w', 't'), node('Mul', ['t', 's'], 'm'), node('MatMul', ['x', 'm'], 'y')]],
    ['two transposes', [transpose('w', 't'), transpose('t', 's'), node('MatMul', ['x', 's'], 'y')]],
    ['a Transpose that swaps nothing', [transpose('w', 't', [0, 1]), node('MatMul', ['x', 't'], 'y')]],
    [
      'a Cast behind the Transpose',
      [transpose('w', 't'), node('Cast', ['t'], 'c', [int('to', DataType.float32)]), node('MatMul', ['x', 'c'], 'y')],
    ],
    [
      'a Cast before the Transpose',
      [node('Cast', ['w'], 'c', [int('to', DataType.float32)]), transpose('c', 't'), node('MatMul', ['x', 't'], 'y')],
    ],
    [
      'an Identity before the Transpose',
      [node('Identity', ['w'], 'i'), transpose('i', 't'), node('MatMul', ['x', 't'], 'y')],
    ],
    ['a transposed activation', [transpose('x', 't'), node('MatMul', ['t', 'w'], 'y')]],
    ['a transposed value that is computed', [transpose('x', 't'), node('MatMul', ['x', 't'], 'y')]],
    ['a weight on the left', [transpose('w', 't'), node('MatMul', ['t', 'x'], 'y')]],
    [
      'a product of another domain',
      [transpose('w', 't'), node('MatMul', ['x', 't'], 'y', [], { domain: 'com.example' })],
    ],
    ['a graph without products', [node('Neg', ['x'], 'y')]],
  ])('leaves alone %s', (_, nodes) => {
    const made = build(nodes, [weight(), Tensor.float32('s', [], [2])]);
    const before = made.graph.nodes.map((each) => ({ ...each, inputs: [...each.inputs] }));
    expect(fuseTransposedWeights.run(made)).toBeUndefined();
    expect(made.graph.nodes.map((each) => ({ ...each }))).toEqual(before);
    expect(made.opsets).toEqual([{ domain: '', version: 21 }]);
  });
});

it('fuse-transposed-weights reaches all products of the blocks of the 5B', () => {
  const made = decodeModel(gunzipSync(readFileSync(path.join(FULL_SHAPE, '5b-fp32', 'model.onnx.gz'))));
  expect(findLinears(made.graph).filter(({ kind }) => kind === 'MatMul')).toHaveLength(303);
  runPasses(made, [fuseTransposedWeights, removeUnused]);
  expect(made.graph.nodes.filter(({ opType }) => opType === 'FusedMatMul')).toHaveLength(303);
  expect(findLinears(made.graph).filter(({ kind }) => kind === 'MatMul')).toEqual([]);
  const turned = made.graph.nodes.filter(({ opType, inputs: [input = ''] }) => {
    return opType === 'Transpose' && made.graph.initializers.has(input);
  });
  expect(turned).toEqual([]);
});
