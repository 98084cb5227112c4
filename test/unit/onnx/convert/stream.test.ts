import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { DataTypeName } from '../../../../src/ir/dtype.js';
import { asBytes, type DerivedForm, type MatrixFactor, Tensor, type TensorSource } from '../../../../src/ir/tensor.js';
import { type Job, type Placed, planJobs } from '../../../../src/onnx/convert/jobs.js';
import { streamWeights, TILE_BYTES } from '../../../../src/onnx/convert/stream.js';
import { fillFully, readFully, writeFully } from '../../../../src/util/files.js';
import { memory, read } from '../../../helpers/source.js';
import { expectRejection } from '../../helpers/errors.js';
import { temporaryFolder } from '../../helpers/temporary.js';

/** Rows of 4,096 values are read 512 at a time: three tiles, the last of them shorter. */
const [ROWS, COLUMNS] = [1400, 4096];

/** Values of both signs whose largest lie in other tiles for other channels, and that float16 rounds. */
const VALUES = Float32Array.from({ length: ROWS * COLUMNS }, (_, i) => ((i * 2_654_435_761) % 2 ** 32) / 2 ** 30 - 2.1);
const WEIGHT = Tensor.float32('weight', [ROWS, COLUMNS], VALUES);

const quantized = (axis: 0 | 1, transposed: boolean): DerivedForm[] =>
  (['int8', 'int8-scales'] as const).map((as) => ({ as, axis, transposed }));

/** Along all that a matrix has, so that every tile needs a part of its own. */
const FACTORS: MatrixFactor[] = [
  {
    along: 'rows',
    values: Tensor.float32('rows', [ROWS, 1], VALUES.subarray(7, 7 + ROWS)),
    divides: false,
  },
  { along: 'columns', values: Tensor.float32('columns', [COLUMNS], VALUES.subarray(0, COLUMNS)), divides: false },
  { along: 'all', values: Tensor.float32('all', [], [3]), divides: true },
];

/** {@link quantized}, of the weight times {@link FACTORS} and with scales of float16. */
const scaled = (axis: 0 | 1, transposed: boolean): DerivedForm[] =>
  (['int8', 'int8-scales'] as const).map((as) => ({ as, axis, transposed, scale: 'float16', factors: FACTORS }));

/** What is written of a weight; nothing: the weight itself. */
const FORMS: Record<string, DerivedForm[]> = {
  'the codes of [out, in], transposed': quantized(0, true),
  'the codes of [out, in] as they are': quantized(0, false),
  'the codes of [in, out] as they are': quantized(1, false),
  'the codes of [in, out], transposed': quantized(1, true),
  'the codes of [out, in], scaled and transposed': scaled(0, true),
  'the codes of [in, out], scaled': scaled(1, false),
  'float16 values': [{ as: 'float16' }],
  'values rounded to float16': [{ as: 'float16-rounded' }],
  'a plain copy': [],
};

const TYPES: Record<DerivedForm['as'], DataTypeName> = {
  int8: 'int8',
  'int8-scales': 'float32',
  float16: 'float16',
  'float16-rounded': 'float32',
};

function written(source: Tensor, forms: readonly DerivedForm[]): Tensor[] {
  if (forms.length === 0) return [source];
  return forms.map((form) => {
    const { rows, columns } = { rows: source.dims[0] as number, columns: source.dims[1] as number };
    const channels = 'axis' in form && form.axis === 0 ? rows : columns;
    const dims = form.as === 'int8-scales' ? [channels] : [rows, columns];
    const reading = 'axis' in form ? [form.axis, form.transposed, form.scale] : [];
    const type = form.as === 'int8-scales' ? (form.scale ?? 'float32') : TYPES[form.as];
    return new Tensor([source.name, form.as, ...reading].join(' '), type, dims, { kind: 'derived', source, form });
  });
}

const places = (jobs: readonly Job[]): Placed[] =>
  jobs.flatMap(({ target, scales }) => (scales ? [target, scales] : [target]));

/** A handle that counts what is under way, on top of a real one. */
class Busy {
  reading = 0;
  writing = 0;

  source(source: TensorSource): TensorSource {
    return {
      read: source.read,
      readInto: async (...args) => {
        this.reading++;
        await source.readInto(...args).finally(() => this.reading--);
      },
    };
  }

  file(handle: FileHandle): FileHandle {
    const write = async (...args: Parameters<FileHandle['write']>) => {
      this.writing++;
      return handle.write(...args).finally(() => this.writing--);
    };
    return { write } as unknown as FileHandle;
  }
}

async function emptyFile(): Promise<FileHandle> {
  const handle = await open(path.join(await temporaryFolder(), 'data'), 'wx+');
  onTestFinished(() => handle.close());
  return handle;
}

/** Streams tensors to a fresh file. @returns the file, where each tensor is in it, and what was reported as read */
async function stream(tensors: readonly Tensor[], source: TensorSource = memory) {
  const { jobs, dataBytes } = planJobs(tensors);
  const file = await emptyFile();
  const reads: number[] = [];
  await streamWeights(jobs, source, file, (bytes) => reads.push(bytes));
  return { file, jobs, dataBytes, reads };
}

/** What was derived of {@link WEIGHT}, by name: it takes longer than streaming does. */
const expected = new Map<string, Promise<Uint8Array>>();

async function expectWritten(file: FileHandle, jobs: readonly Job[]): Promise<void> {
  for (const { tensor, offset } of places(jobs)) {
    const bytes = await readFully(file, offset, tensor.byteLength);
    const whole = expected.get(tensor.name) ?? read(tensor);
    if (tensor.name.startsWith(WEIGHT.name)) expected.set(tensor.name, whole);
    expect(Buffer.from(bytes).equals(await whole), tensor.name).toBe(true);
  }
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

describe('streamWeights on one thread writes what deriving the whole gives:', () => {
  it.each(Object.keys(FORMS))('%s', async (name) => {
    const { file, jobs, dataBytes, reads } = await stream(written(WEIGHT, FORMS[name] ?? []));
    await expectWritten(file, jobs);
    expect((await file.stat()).size).toBe(dataBytes);
    expect(reads.length).toBeGreaterThan(2);
    expect(sum(reads)).toBe(WEIGHT.byteLength);
  });
});

describe('streamWeights in threads', () => {
  it('writes what deriving the whole gives, of all forms of a weight in a file, and reports every source once', async () => {
    const weights = await emptyFile();
    await writeFully(weights, asBytes(VALUES), 0);
    const source: TensorSource = {
      read: memory.read,
      readInto: (_, start, target) => fillFully(weights, start, target),
    };
    const tensors = Object.values(FORMS).flatMap((forms) => written(WEIGHT, forms));
    const { file, jobs, dataBytes, reads } = await stream(tensors, source);
    await expectWritten(file, jobs);
    expect((await file.stat()).size).toBe(dataBytes);
    expect(jobs).toHaveLength(9);
    expect(sum(reads)).toBe(9 * WEIGHT.byteLength);
  });
});

describe('streamWeights', () => {
  it('decodes narrow sources, in tiles of as many values as others', async () => {
    const words = Uint16Array.from({ length: 600 * COLUMNS }, (_, i) => (i * 40_503) % 0x7c00);
    const source = Tensor.fromBytes('narrow', 'float16', [600, COLUMNS], asBytes(words));
    const { file, jobs, reads } = await stream([
      ...written(source, quantized(1, true)),
      ...written(source, [{ as: 'float16-rounded' }]),
    ]);
    await expectWritten(file, jobs);
    expect(reads).toEqual([512, 88, 512, 88].map((rows) => rows * COLUMNS * 2));
  });

  it('scales narrow sources by narrow factors', async () => {
    const words = Uint16Array.from({ length: 600 * COLUMNS }, (_, i) => (i * 40_503) % 0x7c00);
    const source = Tensor.fromBytes('narrow', 'float16', [600, COLUMNS], asBytes(words));
    const rows = Tensor.fromBytes('r', 'float16', [600], asBytes(words.subarray(9000, 9600)));
    const columns = Tensor.fromBytes(
      'c',
      'bfloat16',
      [COLUMNS],
      asBytes(words.map((word) => word % 0x4200).subarray(0, COLUMNS)),
    );
    for (const [axis, transposed] of [
      [0, true],
      [1, false],
    ] as const) {
      const forms = scaled(axis, transposed).map((form) => ({
        ...form,
        scale: 'float32' as const,
        factors: [
          { along: 'rows', values: rows, divides: false } as const,
          { along: 'columns', values: columns, divides: false } as const,
        ],
      }));
      const { file, jobs } = await stream(written(source, forms as DerivedForm[]));
      await expectWritten(file, jobs);
    }
  });

  it('decodes float64', async () => {
    const source = Tensor.float64(
      'double',
      [600, COLUMNS],
      Array.from(VALUES.subarray(0, 600 * COLUMNS), (v) => v / 3),
    );
    const { file, jobs } = await stream([
      ...written(source, quantized(1, false)),
      ...written(source, quantized(0, true)),
    ]);
    await expectWritten(file, jobs);
  });

  it('takes a row that is larger than a tile', async () => {
    const columns = TILE_BYTES / 4 + 5000;
    const source = Tensor.float32('wide', [2, columns], VALUES.subarray(0, 2 * columns));
    const { file, jobs, reads } = await stream(written(source, quantized(0, true)));
    await expectWritten(file, jobs);
    expect(reads).toEqual([4 * columns, 4 * columns]);
  });

  it.each<[string, Tensor, DerivedForm[]]>([
    ['a scalar', Tensor.float32('w', [], [1 / 3]), [{ as: 'float16' }]],
    ['a vector', Tensor.float32('w', [300], VALUES.subarray(0, 300)), [{ as: 'float16-rounded' }]],
    ['a kernel of five axes', Tensor.float32('w', [4, 3, 1, 2, 2], VALUES.subarray(0, 48)), [{ as: 'float16' }]],
    ['an empty tensor', Tensor.float32('w', [0, 5], []), [{ as: 'float16' }]],
    ['an empty copy', Tensor.float32('w', [5, 0], []), []],
  ])('takes %s', async (_, source, forms) => {
    const made = forms.map(
      (form) => new Tensor('target', TYPES[form.as], source.dims, { kind: 'derived', source, form }),
    );
    const { file, jobs, reads } = await stream(made.length > 0 ? made : [source]);
    await expectWritten(file, jobs);
    expect(sum(reads)).toBe(source.byteLength);
  });

  it.each([0, 1] as const)('refuses scales in FP16 that make infinities, of channels along axis %i', async (axis) => {
    const source = Tensor.float32('large', [40, 40], new Float32Array(1600).fill(1).with(777, 1e8));
    const forms = (['int8', 'int8-scales'] as const).map((as) => ({
      as,
      axis,
      transposed: false,
      scale: 'float16' as const,
    }));
    const { jobs } = planJobs(written(source, forms));
    const work = streamWeights(jobs, memory, await emptyFile(), () => undefined);
    await expectRejection(work, 'MODEL_UNSUPPORTED');
  });

  it('does nothing where there is nothing to do', async () => {
    const { file, reads } = await stream([]);
    expect([(await file.stat()).size, ...reads]).toEqual([0]);
  });
});

/** Zeros, and where `value` is given, that in the last place; nothing of it is in memory but factors. */
function zeros(value?: number): TensorSource {
  return {
    read: memory.read,
    readInto: async (tensor, start, target) => {
      target.fill(0);
      if (value === undefined || tensor.name !== 'broken' || start + target.byteLength < tensor.byteLength) return;
      new DataView(target.buffer).setFloat32(target.byteOffset + target.byteLength - 4, value, true);
    },
  };
}

const virtual = (name: string, dtype: DataTypeName = 'float32'): Tensor =>
  new Tensor(name, dtype, [ROWS, COLUMNS], { kind: 'external', location: '', offset: 0, length: 4 * ROWS * COLUMNS });

/** `broken`, and more of the same behind it so that work waits for slots and, with `others` >= 2, runs in threads. */
const withOthers = (forms: readonly DerivedForm[], others: number): Tensor[] =>
  ['broken', ...Array.from({ length: others }, (_, i) => `other${i}`)].flatMap((name) => written(virtual(name), forms));

/** Expects that streaming fails, that it then leaves nothing under way, and that the file can be closed. */
async function expectFailure(
  tensors: readonly Tensor[],
  source: TensorSource,
  judge: (streaming: Promise<void>) => Promise<unknown>,
): Promise<void> {
  const file = await open(path.join(await temporaryFolder(), 'data'), 'wx+');
  const busy = new Busy();
  await judge(streamWeights(planJobs(tensors).jobs, busy.source(source), busy.file(file), () => undefined));
  expect(busy).toMatchObject({ reading: 0, writing: 0 });
  await file.close();
}

/** Forms that wait for different things while they are written. */
const WAITING = [
  'the codes of [out, in], transposed',
  'the codes of [in, out] as they are',
  'float16 values',
  'a plain copy',
];

describe.each([
  ['on one thread', 1],
  ['in threads', 2],
])('a failure %s', (_, others) => {
  it.each(Object.keys(FORMS).filter((name) => name.startsWith('the codes')))(
    'of a NaN in the last tile ends the work with MODEL_INVALID: %s',
    async (name) => {
      const tensors = withOthers(FORMS[name] ?? [], others);
      await expectFailure(tensors, zeros(Number.NaN), (work) => expectRejection(work, 'MODEL_INVALID'));
    },
  );

  it.each([Number.NaN, 65_520])(
    'of %d in the last tile ends the work with MODEL_UNSUPPORTED: float16',
    async (value) => {
      const tensors = withOthers([{ as: 'float16' }], others);
      await expectFailure(tensors, zeros(value), (work) => expectRejection(work, 'MODEL_UNSUPPORTED'));
    },
  );

  it('of a NaN in the very last weight does so too', async () => {
    const tensors = withOthers(quantized(0, true), others).reverse();
    await expectFailure(tensors, zeros(Number.NaN), (work) => expectRejection(work, 'MODEL_INVALID'));
  });

  it.each(WAITING)('to read the source ends the work with that error: %s', async (name) => {
    const error = new Error('the disk is gone');
    const failing: TensorSource = {
      read: async () => new Uint8Array(0),
      readInto: async (tensor, start, target) => {
        target.fill(0);
        if (tensor.name === 'broken' && start > 0) throw error;
      },
    };
    const tensors = withOthers(FORMS[name] ?? [], others);
    await expectFailure(tensors, failing, (work) => expect(work).rejects.toBe(error));
  });

  it.each(WAITING)('to write ends the work with that error: %s', async (name) => {
    const folder = await temporaryFolder();
    await (await open(path.join(folder, 'data'), 'wx')).close();
    const readOnly = await open(path.join(folder, 'data'), 'r');
    const { jobs } = planJobs(withOthers(FORMS[name] ?? [], others));
    const busy = new Busy();
    const work = streamWeights(jobs, busy.source(zeros()), busy.file(readOnly), () => undefined);
    await expect(work).rejects.toMatchObject({ code: 'EBADF' });
    expect(busy).toMatchObject({ reading: 0, writing: 0 });
    await readOnly.close();
  });

  it('of the arithmetic ends the work', async () => {
    const tensors = ['a', 'b', 'c']
      .slice(0, others + 1)
      .flatMap((name) => written(virtual(name, 'int32'), quantized(0, true)));
    await expectFailure(tensors, zeros(), (work) => expect(work).rejects.toThrow('int32 is not a float type'));
  });
});
