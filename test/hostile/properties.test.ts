import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WanqError } from '../../src/errors.js';
import { decodeModel, encodeModel } from '../../src/onnx/codec.js';
import { ExternalData } from '../../src/onnx/external-data.js';
import { graphBytes, modelBytes, text } from '../unit/onnx/wire.js';
import { joined } from './fuzz/bytes.js';
import { field, fieldsOf } from './fuzz/protobuf.js';

/** Numbers that no message of ONNX has. */
const unknownNumber = fc.integer({ min: 100, max: 2 ** 29 - 1 }).filter((n) => n < 19_000 || n > 19_999);
const unknownFields = fc.array(
  fc.tuple(unknownNumber, fc.oneof(fc.uint8Array({ maxLength: 20 }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }))),
  { maxLength: 5 },
);
const encoded = (fields: readonly (readonly [number, Uint8Array | bigint])[]): Uint8Array =>
  joined(...fields.map(([number, content]) => field(number, content)));

/** Fields with numbers of 100 and more. */
function unknownOf(bytes: Uint8Array): string[] {
  const unknown = (fieldsOf(bytes) ?? []).filter(({ number }) => number >= 100);
  return unknown.map(({ start, end }) => Buffer.from(bytes.subarray(start, end)).toString('hex')).sort();
}

const contentOf = (bytes: Uint8Array, wanted: number): Uint8Array => {
  const found = (fieldsOf(bytes) ?? []).find(({ number }) => number === wanted);
  return found ? bytes.subarray(found.content, found.end) : new Uint8Array();
};

describe('a model that is read and written', () => {
  it('keeps every unknown field of the model, its graph and a node, whatever else is changed', () => {
    fc.assert(
      fc.property(unknownFields, unknownFields, unknownFields, fc.boolean(), (ofModel, ofGraph, ofNode, edited) => {
        const node = joined(field(4, text('Relu')), field(1, text('x')), field(2, text('y')), encoded(ofNode));
        const graph = joined(graphBytes({ node: [node] }), encoded(ofGraph));
        const model = decodeModel(joined(modelBytes({ graph }), encoded(ofModel)));
        if (edited) {
          for (const each of model.graph.nodes) each.name = 'other';
          model.graph.name = 'other';
          model.metadata.set('a', 'b');
        }
        const written = encodeModel(model);
        const graphWritten = contentOf(written, 7);
        expect(unknownOf(written)).toEqual(unknownOf(encoded(ofModel)));
        expect(unknownOf(graphWritten)).toEqual(unknownOf(encoded(ofGraph)));
        expect(unknownOf(contentOf(graphWritten, 1))).toEqual(unknownOf(encoded(ofNode)));
      }),
    );
  });
});

/** Bytes of every file outside of the model's folder, and of every one in it. */
const [OUTSIDE, INSIDE] = [7, 16];

describe('the path policy', () => {
  let folder: string;
  let model: string;

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'wanq-policy-'));
    model = path.join(folder, 'model');
    await mkdir(path.join(model, 'sub', 'deeper'), { recursive: true });
    await mkdir(path.join(folder, 'model2'));
    for (const place of ['secret', 'model2/data']) await writeFile(path.join(folder, place), new Uint8Array(OUTSIDE));
    for (const place of ['data', 'sub/data', 'sub/deeper/data', '..data']) {
      await writeFile(path.join(model, place), new Uint8Array(INSIDE));
    }
    const links = {
      up: '..',
      out: '../secret',
      absolute: path.join(folder, 'secret'),
      root: '/',
      near: 'sub',
      self: '.',
    };
    for (const [name, target] of Object.entries(links)) await symlink(target, path.join(model, name));
    await symlink('../../model2', path.join(model, 'sub', 'other'));
  });

  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  const part = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom('data', 'sub', 'deeper', '..', '.', 'secret', 'model', 'model2') },
    {
      weight: 5,
      arbitrary: fc.constantFrom('up', 'out', 'absolute', 'root', 'near', 'self', 'other', '..data', '', '...'),
    },
    { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 4 }) },
  );
  const hostile = fc
    .tuple(
      fc.constantFrom('', '', '', '/', './', '../', '\\', 'C:\\', '//host/', 'file://', 'whole'),
      fc.array(part, { minLength: 1, maxLength: 5 }),
      fc.constantFrom('/', '/', '/', '//', '\\'),
    )
    .map(([start, parts, separator]) => `${start === 'whole' ? `${folder}/` : start}${parts.join(separator)}`);
  const likely = fc
    .array(fc.constantFrom('sub', 'near', 'self', '.', '', 'up', 'up/model', 'sub/other'), { maxLength: 3 })
    .map((parts) => [...parts, 'data'].join('/'));
  const location = fc.oneof(hostile, likely);

  it('never yields a file outside of the folder', async () => {
    let taken = 0;
    await fc.assert(
      fc.asyncProperty(location, async (name) => {
        const external = new ExternalData(path.join(model, 'model.onnx'));
        try {
          expect(await external.size(name)).toBe(INSIDE);
          taken++;
        } catch (error) {
          if (!(error instanceof WanqError)) throw error;
        } finally {
          await external.close();
        }
      }),
      { numRuns: 500 },
    );
    // Of names that are all refused, nothing would be shown.
    expect(taken).toBeGreaterThan(20);
  });
});
