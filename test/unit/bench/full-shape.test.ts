import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { keepBlocks } from '../../../bench/lib/full-shape.js';
import { blockBoundaries } from '../../../src/analyze/boundaries.js';
import { findLinears } from '../../../src/analyze/linears.js';
import type { Model } from '../../../src/ir/graph.js';
import { decodeModel } from '../../../src/onnx/codec.js';
import { removeUnused } from '../../../src/passes/remove-unused.js';
import { FULL_SHAPE } from '../../helpers/fixtures.js';

const graphOf = (shape: string): Model =>
  decodeModel(gunzipSync(readFileSync(path.join(FULL_SHAPE, shape, 'model.onnx.gz'))));

/** What a model computes with, names left out. */
function contents({ graph }: Model) {
  return {
    operators: graph.nodes.map(({ opType }) => opType).sort(),
    roles: findLinears(graph).map(({ role, weight }) => `${role} ${weight.dims}`),
    weights: [...graph.initializers.values()].map(({ dims, dtype }) => `${dtype} ${dims}`).sort(),
  };
}

it('the graph of 30 blocks cut down to two is what the exporter makes of two', () => {
  const cut = graphOf('5b-fp32');
  keepBlocks(cut, 2);
  const exported = graphOf('2-blocks-fp32');
  // The cut leaves out what no output depends on.
  removeUnused.run(exported);
  expect(contents(cut)).toEqual(contents(exported));
});

it.each([1, 7, 29])('a cut to %i blocks has as many', (blocks) => {
  const cut = graphOf('5b-fp32');
  keepBlocks(cut, blocks);
  expect(blockBoundaries(cut.graph)).toHaveLength(blocks + 1);
});

it.each([0, 31, 1.5])('a cut to %d blocks is refused', (blocks) => {
  expect(() => keepBlocks(graphOf('5b-fp32'), blocks)).toThrow('keep 1 to 30');
});
