import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  CALIBRATION_SCHEMA,
  type Calibration,
  HeldTokens,
  readCalibration,
  writeCalibration,
} from '../../../src/calibrate/file.js';
import { ActivationStatistics, OutputStatistics } from '../../../src/calibrate/statistics.js';
import { readSafetensors, type SafeTensor, writeSafetensors } from '../../../src/util/safetensors.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

const SLICES = [
  ['cond', 0, [1, -2, 0.5, Number.NaN]],
  ['cond', 10, [0]],
  ['cond', 2, [3e38, -1e-45]],
  ['uncond', 0, [7]],
] as const;

/** Tokens kept of the two prompts that were done. */
const HELD = new Map([
  [0, Float32Array.of(1, -2, 0.5, 2 ** -149)],
  [2, Float32Array.of(-0, 3e38)],
]);

/** @param backwards whether everything is filled in in the other order */
function statistics(value: string, backwards = false): ActivationStatistics {
  const made = new ActivationStatistics(value, 2);
  const inOrder = <T>(items: readonly T[]): readonly T[] => (backwards ? items.toReversed() : items);
  for (const [branch, bucket, samples] of inOrder<(typeof SLICES)[number]>(SLICES)) {
    const extreme = Math.max(...samples.filter(Number.isFinite).map(Math.abs));
    const [min, max] = [Float32Array.of(-extreme, 0), Float32Array.of(extreme, 1)];
    made.slice(branch, bucket).add(min, max, Float32Array.from(samples));
    made.folds[0]?.widen(min, max);
  }
  for (const [prompt, tokens] of inOrder([...HELD])) {
    made.folds[prompt]?.widen(Float32Array.of(-prompt, 0), Float32Array.of(prompt, 1));
    made.held.set(prompt, tokens);
  }
  return made;
}

function calibration(activations = [statistics('blocks.0/x'), statistics('y')]): Calibration {
  return {
    identity: {
      model: 'abc',
      inputs: 'prompts',
      prompts: 'def',
      promptCount: 3,
      seed: 42,
      steps: 20,
      guidance: 5.5,
      scheduler: 'UniPCMultistepScheduler',
      shape: [4, 5, 8, 8],
      buckets: 11,
      tokens: 'all',
      held: 4,
    },
    provider: 'cpu',
    runtimeVersion: '1.30.0',
    wanqVersion: '0.1.0',
    shard: null,
    done: [0, 2],
    activations,
    outputs: [new OutputStatistics('z', 1.5), new OutputStatistics('broken', Number.POSITIVE_INFINITY)],
  };
}

async function written(of = calibration()): Promise<string> {
  const file = path.join(await temporaryFolder(), 'calibration.safetensors');
  await writeCalibration(file, of);
  return file;
}

/** A calibration file after a change of its tensors and metadata. */
async function damaged(
  change: (tensors: Map<string, SafeTensor>, metadata: Record<string, string>) => void,
): Promise<string> {
  const file = await written();
  const { tensors, metadata } = await readSafetensors(file);
  const changed = { tensors: new Map(tensors), metadata: { ...metadata } };
  change(changed.tensors, changed.metadata);
  await writeSafetensors(file, changed);
  return file;
}

interface Header {
  identity?: object;
  activations: [{ slices: [object]; folds: number[]; held: number[] }];
}

/** Changes the JSON header. */
function inHeader(change: (header: Header) => void) {
  return (_: Map<string, SafeTensor>, metadata: Record<string, string>): void => {
    const header: Header = JSON.parse(metadata['wanq.calibration'] as string);
    change(header);
    metadata['wanq.calibration'] = JSON.stringify(header);
  };
}

describe('a calibration file', () => {
  it('gives back what was written', async () => {
    const read = await readCalibration(await written());
    const { activations, ...rest } = calibration();
    expect({ ...read, activations: undefined }).toEqual({ ...rest, activations: undefined });
    expect(read.activations.map(({ value, channels }) => [value, channels])).toEqual([
      ['blocks.0/x', 2],
      ['y', 2],
    ]);
    read.activations.forEach((activation, i) => {
      expect(activation.slices()).toEqual(activations[i]?.slices());
      expect(activation.folds).toEqual(activations[i]?.folds);
      expect([...activation.held]).toEqual([...HELD]);
    });
  });

  it('has nothing of folds without prompts, and nothing was seen of them', async () => {
    const file = await written();
    const names = [...(await readSafetensors(file)).tensors.keys()];
    const folds = names.filter((name) => name.startsWith('min/0/fold/')).sort();
    expect(folds).toEqual(['min/0/fold/0', 'min/0/fold/2']);
    const [read] = (await readCalibration(file)).activations;
    expect(read?.folds[1]?.range).toEqual({ min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY });
  });

  it('is read without the kept tokens where they are not asked for, and all else of it', async () => {
    const file = await written();
    const [whole, rest] = [await readCalibration(file), await readCalibration(file, { held: false })];
    rest.activations.forEach((activation, i) => {
      expect([...activation.held]).toEqual([]);
      expect(activation.slices()).toEqual(whole.activations[i]?.slices());
      expect(activation.folds).toEqual(whole.activations[i]?.folds);
    });
    expect({ ...rest, activations: [] }).toEqual({ ...whole, activations: [] });
  });

  it('can be added to after it was read', async () => {
    const [read] = (await readCalibration(await written())).activations;
    const expected = statistics('blocks.0/x');
    for (const each of [read, expected]) {
      each?.slice('cond', 0).add(Float32Array.of(-9, -9), Float32Array.of(9, 9), Float32Array.of(9, -9));
    }
    expect(read?.slices()).toEqual(expected.slices());
  });

  it('is the same bytes in whatever order slices, folds and tokens were filled', async () => {
    const [a, b] = [statistics('x'), statistics('x', true)];
    const bytes = await readFile(await written(calibration([a])));
    expect(bytes.equals(await readFile(await written(calibration([b]))))).toBe(true);
  });

  it('takes channels that are NaN at both ends, and counts them', async () => {
    const both = { dtype: 'F32', shape: [2], data: Float32Array.of(-1, Number.NaN) } as const;
    const file = await damaged((tensors) => {
      for (const [end, widen] of [
        ['min', Math.min],
        ['max', Math.max],
      ] as const) {
        tensors.set(`${end}/0/uncond/0`, both);
        const names = [...tensors.keys()].filter((name) => new RegExp(`^${end}/0/(un)?cond/`).test(name));
        const all = [0, 1].map((c) => widen(...names.map((name) => Number(tensors.get(name)?.data[c]))));
        for (const name of tensors.keys()) {
          if (name.startsWith(`${end}/0/fold/`)) tensors.set(name, { ...both, data: Float32Array.from(all) });
        }
      }
    });
    const [x, y] = (await readCalibration(file)).activations;
    expect(x?.total().nonFinite).toEqual({ channels: 1, ofChannels: 2, samples: 8, nonFinite: 1 });
    expect([x?.finite, y?.finite, y?.slice('cond', 2).finite]).toEqual([false, false, true]);
    expect(y?.total().nonFinite).toEqual({ channels: 0, ofChannels: 2, samples: 8, nonFinite: 1 });
  });

  it('is refused where folds and timesteps have other extremes', async () => {
    const file = await damaged((tensors) => {
      tensors.set('max/0/fold/0', { dtype: 'F32', shape: [2], data: Float32Array.of(Number.POSITIVE_INFINITY, 1) });
    });
    await expectRejection(readCalibration(file), 'CALIBRATION_INVALID');
  });

  it('says its schema', async () => {
    const { metadata } = await readSafetensors(await written());
    expect(metadata['wanq.calibration.schema']).toBe(String(CALIBRATION_SCHEMA));
  });

  it('keeps counts beyond 2^32', async () => {
    const file = await damaged((tensors) => {
      tensors.set('histogram/1/uncond/0', { dtype: 'I64', shape: [1], data: BigInt64Array.of(2n ** 40n + 5n) });
    });
    const rewritten = await written(await readCalibration(file));
    const [, y] = (await readCalibration(rewritten)).activations;
    expect(y?.slice('uncond', 0).histogram.total).toBe(2 ** 40 + 5);
  });
});

describe('readCalibration refuses', () => {
  it.each<[string, Parameters<typeof damaged>[0]]>([
    ['another schema', (_, metadata) => (metadata['wanq.calibration.schema'] = String(CALIBRATION_SCHEMA + 1))],
    ['no schema', (_, metadata) => delete metadata['wanq.calibration.schema']],
    ['no header', (_, metadata) => delete metadata['wanq.calibration']],
    ['a header that is not JSON', (_, metadata) => (metadata['wanq.calibration'] = '{')],
    [
      'a key that stands twice in the header',
      (_, metadata) => (metadata['wanq.calibration'] = metadata['wanq.calibration']?.replace('{', '{"done":[],') ?? ''),
    ],
    ['a header that is a list', (_, metadata) => (metadata['wanq.calibration'] = '[]')],
    ['a header without an identity', inHeader((header) => delete header.identity)],
    ['an unknown key in the header', inHeader((header) => Object.assign(header, { extra: 1 }))],
    ['an unknown branch', inHeader((header) => Object.assign(header.activations[0].slices[0], { key: 'both/0' }))],
    [
      'a bucket that is no number',
      inHeader((header) => Object.assign(header.activations[0].slices[0], { key: 'cond/x' })),
    ],
    [
      'more channels than memory can be taken for',
      inHeader((header) => Object.assign(header.activations[0], { channels: 16e9 })),
    ],
    [
      'more channels than are allowed of an activation without statistics',
      inHeader(({ activations: [x] }) => Object.assign(x, { channels: 2 ** 23, slices: [], folds: [], held: [] })),
    ],
    ['a missing minimum', (tensors) => tensors.delete('min/0/cond/0')],
    ['a missing maximum', (tensors) => tensors.delete('max/1/cond/2')],
    ['a missing histogram', (tensors) => tensors.delete('histogram/0/uncond/0')],
    [
      'a minimum of too few channels',
      (tensors) => tensors.set('min/0/cond/0', { dtype: 'F32', shape: [1], data: Float32Array.of(0) }),
    ],
    [
      'a maximum of another type',
      (tensors) => tensors.set('max/0/cond/0', { dtype: 'F64', shape: [2], data: Float64Array.of(0, 0) }),
    ],
    [
      'counts of another type',
      (tensors) => tensors.set('histogram/0/uncond/0', { dtype: 'U8', shape: [1], data: Uint8Array.of(1) }),
    ],
    [
      'negative counts',
      (tensors) => tensors.set('histogram/0/uncond/0', { dtype: 'I64', shape: [1], data: BigInt64Array.of(-1n) }),
    ],
    ['a missing minimum of a fold', (tensors) => tensors.delete('min/0/fold/2')],
    ['a missing maximum of a fold', (tensors) => tensors.delete('max/1/fold/0')],
    [
      'a maximum of a fold of too many channels',
      (tensors) => tensors.set('max/0/fold/0', { dtype: 'F32', shape: [3], data: Float32Array.of(0, 1, 2) }),
    ],
    ['a fold that there is not', inHeader((header) => header.activations[0].folds.push(4))],
    ['missing tokens', (tensors) => tensors.delete('held/1/2')],
    [
      'tokens of another type',
      (tensors) => tensors.set('held/0/2', { dtype: 'F64', shape: [1, 2], data: Float64Array.of(0, 1) }),
    ],
    [
      'a part of a token',
      (tensors) => tensors.set('held/0/2', { dtype: 'F32', shape: [3], data: Float32Array.of(0, 1, 2) }),
    ],
    ['tokens of a prompt that is none', inHeader((header) => header.activations[0].held.push(-1))],
    [
      'a histogram with bins past its largest magnitude',
      (tensors) => tensors.set('histogram/0/uncond/0', { dtype: 'I64', shape: [5000], data: new BigInt64Array(5000) }),
    ],
    ['an activation without slices', inHeader((header) => Object.assign(header.activations[0], { slices: [] }))],
    ['a slice twice', inHeader(({ activations: [first] }) => first.slices.push(first.slices[0]))],
    [
      'more channels than there is memory',
      inHeader((header) => Object.assign(header.activations[0], { channels: 2 ** 40 })),
    ],
    ['an activation twice', inHeader((header) => Object.assign(header.activations[0], { value: 'y' }))],
    ['a prompt twice', inHeader((header) => Object.assign(header, { done: [0, 0] }))],
    ['a prompt that there is not', inHeader((header) => Object.assign(header, { done: [0, 3] }))],
    ['tokens of a prompt that there is not', inHeader((header) => header.activations[0].held.push(3))],
    [
      'a negative number of infinities',
      inHeader((header) => Object.assign(header.activations[0].slices[0], { nonFinite: -1 })),
    ],
    [
      'a magnitude of 1e309',
      (_, metadata) =>
        (metadata['wanq.calibration'] = metadata['wanq.calibration']?.replace(
          '"maxMagnitude":7',
          '"maxMagnitude":1e309',
        ) as string),
    ],
    [
      'an exponent of a thousand',
      inHeader((header) => Object.assign(header.activations[0].slices[0], { exponent: 1000 })),
    ],
    ['a first bin far away', inHeader((header) => Object.assign(header.activations[0].slices[0], { first: -1e15 }))],
    [
      'a count past 2^53',
      (tensors) => tensors.set('histogram/0/uncond/0', { dtype: 'I64', shape: [1], data: BigInt64Array.of(2n ** 60n) }),
    ],
    ...[
      ['a minimum above the maximum', 9, 7],
      ['a minimum alone that is NaN', Number.NaN, 7],
      ['a maximum alone that is NaN', -7, Number.NaN],
      ['extremes within the samples', -1, 1],
    ].map(([what, low, high]): [string, Parameters<typeof damaged>[0]] => [
      what as string,
      (tensors) => {
        tensors.set('min/0/uncond/0', { dtype: 'F32', shape: [2], data: Float32Array.of(low as number, 0) });
        tensors.set('max/0/uncond/0', { dtype: 'F32', shape: [2], data: Float32Array.of(high as number, 0) });
      },
    ]),
    [
      'a minimum of a fold above its maximum',
      (tensors) => tensors.set('min/0/fold/0', { dtype: 'F32', shape: [2], data: Float32Array.of(0, 2) }),
    ],
    [
      'an exponent that does not belong to the magnitude',
      inHeader((header) => Object.assign(header.activations[0].slices[0], { exponent: 3 })),
    ],
  ])('%s', async (_, change) => {
    await expectRejection(readCalibration(await damaged(change)), 'CALIBRATION_INVALID');
  });

  it('safetensors of something else', async () => {
    const file = path.join(await temporaryFolder(), 'other.safetensors');
    await writeSafetensors(file, { tensors: new Map(), metadata: { format: 'pt' } });
    await expectRejection(readCalibration(file), 'CALIBRATION_INVALID');
  });

  it('a missing file', async () => {
    await expectRejection(readCalibration('/nowhere.safetensors'), 'NOT_FOUND');
  });
});

describe('HeldTokens', () => {
  const opened = async <T>(file: string, work: (held: HeldTokens) => Promise<T>): Promise<T> => {
    const held = await HeldTokens.open(file);
    try {
      return await work(held);
    } finally {
      await held.close();
    }
  };

  it('reads the tokens of one activation', async () => {
    const other = statistics('other');
    other.held.set(1, Float32Array.of(7, 8));
    const many = Array.from({ length: 11 }, (_, i) => (i === 1 ? other : statistics(`x${i}`)));
    const file = await written(calibration(many));
    await opened(file, async (held) => {
      // 1 and 10 have names that begin alike.
      expect(await held.read('other')).toEqual(new Map([...HELD, [1, Float32Array.of(7, 8)]]));
      expect(await held.read('x10')).toEqual(HELD);
      expect(await held.read('x11')).toEqual(new Map());
    });
  });

  it('finds none in a calibration that kept none', async () => {
    const bare = statistics('x');
    bare.held.clear();
    const file = await written(calibration([bare]));
    expect(await opened(file, (held) => held.read('x'))).toEqual(new Map());
  });

  it('refuses a missing file', async () => {
    await expectRejection(HeldTokens.open('/nowhere.safetensors'), 'NOT_FOUND');
  });
});
