import { closeSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { WanqError } from '../../../src/errors.js';
import { loadModel } from '../../../src/onnx/load.js';
import { MICRO } from '../../helpers/fixtures.js';
import { modelBytes } from '../../unit/onnx/wire.js';
import { type HostileCase, lettered, type Row } from '../lib/case.js';
import { ALL, dryRun, inspect } from '../lib/commands.js';
import { external, graphFile, inline, MODEL } from '../lib/models.js';
import { random } from '../lib/random.js';
import { bytesField, joined, numberField, varint } from '../lib/wire.js';

/** The start of a pickle that would run a command. */
const PICKLE = Buffer.from("\x80\x04cposix\nsystem\n(S'touch pickled'\ntR.", 'latin1');

const POINTER = `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 8617209\n`;

const GARBAGE: readonly (readonly [string, () => Uint8Array])[] = [
  ['an empty file', () => new Uint8Array(0)],
  ['one byte', () => Uint8Array.of(8)],
  ['4 KB of random bytes', () => random(1, 4096)],
  ['1 MB of random bytes', () => random(2, 2 ** 20)],
  ['4 KB of zeros', () => new Uint8Array(4096)],
  ['a page of HTML', () => Buffer.from('<!doctype html><title>404</title><p>Not found\n')],
  ['a zip archive', () => Buffer.concat([Buffer.from('PK\x03\x04\x14\0\0\0\b\0', 'latin1'), random(3, 300)])],
  ['a model packed by gzip', () => gzipSync(modelBytes())],
  ['a pickle', () => PICKLE],
  ['a pointer of Git LFS', () => Buffer.from(POINTER)],
  ['a .safetensors file', () => readFileSync(path.join(MICRO, 'fvd', 'reference.safetensors'))],
  ['a JSON file', () => readFileSync(path.join(MICRO, 'pipeline', 'model_index.json'))],
  ['protobuf of fields that no model has', () => Buffer.concat([bytesField(100, 'x'), numberField(101, 7)])],
  ['a model without a graph', () => Buffer.concat([numberField(1, 8), bytesField(8, numberField(2, 17))])],
  ['a model without nodes', () => modelBytes({ graph: bytesField(2, 'g') })],
  ['a model without an IR version', () => modelBytes({ irVersion: undefined })],
];

const garbage = GARBAGE.map(
  ([what, bytes]): Omit<HostileCase, 'id'> => ({
    what,
    input: graphFile(inline, bytes),
    commands: ALL,
    expected: ['MODEL_INVALID'],
    control: inline,
  }),
);

const CUTS = [1, 2, 10, 100, 1000, 10_000, 100_000, -1000, -100, -10, -1];

const cuts = CUTS.map(
  (at): Omit<HostileCase, 'id'> => ({
    what: at > 0 ? `a model cut after ${at} bytes` : `a model without its last ${-at} bytes`,
    input: graphFile(inline, (bytes) => bytes.subarray(0, at)),
    commands: [inspect, dryRun],
    expected: ['MODEL_INVALID'],
    control: inline,
  }),
);

/** A file of `size` that takes no room on disk, with bytes at its beginning. */
function sparse(what: string, size: number, start: () => Uint8Array, more: Partial<HostileCase> = {}) {
  return {
    what,
    input: async (place) => {
      await inline.input(place);
      const file = openSync(place.path(MODEL), 'w');
      writeSync(file, start());
      closeSync(file);
      truncateSync(place.path(MODEL), Math.floor(size));
    },
    commands: ALL,
    expected: ['MODEL_INVALID', 'NOT_READABLE'],
    control: inline,
    slow: true,
    ...more,
  } satisfies Omit<HostileCase, 'id'>;
}

const GB = 2 ** 30;

/** A model that says a text of it is `length` bytes long. */
const claiming = (length: number) => (): Uint8Array => joined(numberField(1, 8), varint(6 * 8 + 2), varint(length));

export const GARBAGE_ROWS: readonly Row[] = [
  ...lettered(1, garbage),
  {
    id: '2',
    what: 'a tiny model cut after each of its bytes, read in one process',
    expected: 'every length is MODEL_INVALID; whole, it is read',
    look: async (place) => {
      const bytes = modelBytes();
      const codes = new Set<string>();
      for (let length = 0; length < bytes.length; length++) {
        place.write('m.onnx', bytes.subarray(0, length));
        const code = await loadModel(place.path('m.onnx')).then(
          () => 'is read',
          (error: unknown) => `is ${error instanceof WanqError ? error.code : String(error)}`,
        );
        codes.add(code);
      }
      place.write('m.onnx', bytes);
      await (await loadModel(place.path('m.onnx'))).close();
      return `every length ${[...codes].join(' or ')}; whole, it is read`;
    },
  },
  ...lettered(2, cuts),
  ...lettered(4, [
    sparse('3 GB of zeros', 3 * GB, () => new Uint8Array(0)),
    sparse('10 GB of zeros', 10 * GB, () => new Uint8Array(0)),
    sparse('1.9 GB of zeros, which protobuf could hold', 1.9 * GB, () => new Uint8Array(0)),
    sparse('10 GB that begin like a model', 10 * GB, claiming(9 * GB)),
    sparse('1.9 GB that begin like a model with a text of 1.8 GB', 1.9 * GB, claiming(Math.floor(1.8 * GB))),
    {
      what: 'a data file of 10 GB, of which a tensor is a part',
      input: async (place) => {
        await external.input(place);
        truncateSync(place.path('p/transformer/rest.bin'), 10 * GB);
      },
      commands: ALL,
      expected: ['ok'],
      control: external,
      slow: true,
    } satisfies Omit<HostileCase, 'id'>,
  ]),
];
