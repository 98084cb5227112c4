import { z } from 'zod';
import { printable, WanqError } from '../errors.js';
import { MAX_CALIBRATION_CHANNELS } from '../limits.js';
import { Histogram } from '../numerics/histogram.js';
import { parseJson } from '../util/json.js';
import { readSafetensors, type SafeTensor, SafetensorsFile, writeSafetensors } from '../util/safetensors.js';
import { FOLDS } from './held.js';
import {
  ActivationStatistics,
  ChannelExtremes,
  OutputStatistics,
  SliceStatistics,
  type Statistics,
} from './statistics.js';

/** Version of the file's layout. Another one is refused, never guessed at. */
export const CALIBRATION_SCHEMA = 4;

const identity = z.strictObject({
  /** `fingerprint` of the transformer that was run. */
  model: z.string(),
  /** What the text input was fed. Statistics over synthetic embeddings say nothing of real prompts. */
  inputs: z.enum(['prompts', 'embeddings', 'synthetic']),
  /** SHA-256 of the prompts and the negative prompt, in order; of the embeddings where there are no prompts. */
  prompts: z.string(),
  promptCount: z.int().positive(),
  seed: z.int(),
  steps: z.int().positive(),
  guidance: z.number(),
  scheduler: z.string(),
  /** Latent shape [channels, frames, height, width]. */
  shape: z.array(z.int().positive()).length(4),
  buckets: z.int().positive(),
  /** Rows sampled a forward for the histograms, or all. */
  tokens: z.union([z.int().positive(), z.literal('all')]),
  /** Tokens of each activation kept whole, over all prompts. */
  held: z.int().nonnegative(),
});

const header = z.strictObject({
  identity,
  provider: z.string(),
  runtimeVersion: z.string(),
  wanqVersion: z.string(),
  /** The part of the prompts this file is meant to hold, i of n; null: all of them. */
  shard: z.tuple([z.int().positive(), z.int().positive()]).nullable(),
  /** Indices of prompts whose chains are in the statistics, ascending. */
  done: z.array(z.int().nonnegative()),
  /** Largest magnitude of what each linear makes; null where it is not finite. */
  outputs: z.array(z.strictObject({ value: z.string(), magnitude: z.number().nonnegative().nullable() })),
  activations: z.array(
    z.strictObject({
      value: z.string(),
      channels: z.int().positive(),
      slices: z.array(
        z.strictObject({
          key: z.string().regex(/^(cond|uncond)\/\d+$/),
          exponent: z.int(),
          maxMagnitude: z.number().nonnegative(),
          nonFinite: z.int().nonnegative(),
          first: z.int(),
        }),
      ),
      /** Folds of which there are extremes. */
      folds: z.array(
        z
          .int()
          .nonnegative()
          .max(FOLDS - 1),
      ),
      /** Prompts of which there are tokens. */
      held: z.array(z.int().nonnegative()),
    }),
  ),
});

/** What a calibration is of: two files with equal identities hold the same statistics. */
export type CalibrationIdentity = z.infer<typeof identity>;

/** @returns names of the fields two runs differ in; none where they hold the same statistics */
export function identityDifferences(a: CalibrationIdentity, b: CalibrationIdentity): (keyof CalibrationIdentity)[] {
  return (Object.keys(a) as (keyof CalibrationIdentity)[]).filter(
    (key) => JSON.stringify(a[key]) !== JSON.stringify(b[key]),
  );
}

/** A calibration: statistics of every observed activation, and where they come from. */
export interface Calibration extends Statistics {
  readonly identity: CalibrationIdentity;
  readonly provider: string;
  readonly runtimeVersion: string;
  readonly wanqVersion: string;
  readonly shard: readonly [index: number, count: number] | null;
  readonly done: readonly number[];
}

/**
 * Writes a calibration as `.safetensors`. The same calibration always gives the same bytes.
 *
 * Tensors, with i the position in the header's `activations` and k the slice's key `<branch>/<bucket>`:
 * `min/i/k` and `max/i/k` F32 `[channels]`; `histogram/i/k` I64 counts, bin j covering [first + j, first + j + 1) x 2^exponent;
 * `min/i/fold/f` and `max/i/fold/f` F32 `[channels]` over the prompts of fold f; `held/i/p` F32 `[tokens, channels]` of prompt p.
 */
export async function writeCalibration(file: string, calibration: Calibration): Promise<void> {
  const tensors = new Map<string, SafeTensor>();
  const extremes = (i: number, key: string, { channelMin, channelMax }: ChannelExtremes): void => {
    tensors.set(`min/${i}/${key}`, { dtype: 'F32', shape: [channelMin.length], data: channelMin });
    tensors.set(`max/${i}/${key}`, { dtype: 'F32', shape: [channelMax.length], data: channelMax });
  };
  const described = calibration.activations.map((activation, i) => ({
    value: activation.value,
    channels: activation.channels,
    folds: activation.folds.flatMap((fold, f) => {
      if (!fold.seen) return [];
      extremes(i, `fold/${f}`, fold);
      return [f];
    }),
    held: [...activation.held]
      .sort(([a], [b]) => a - b)
      .map(([prompt, data]) => {
        const shape = [data.length / activation.channels, activation.channels];
        tensors.set(`held/${i}/${prompt}`, { dtype: 'F32', shape, data });
        return prompt;
      }),
    slices: activation.slices().map(({ key, slice }) => {
      const { counts, ...rest } = slice.histogram.toJSON();
      extremes(i, key, slice);
      tensors.set(`histogram/${i}/${key}`, {
        dtype: 'I64',
        shape: [counts.length],
        data: int64Counts(counts),
      });
      return { key, ...rest };
    }),
  }));
  const { identity: of, provider, runtimeVersion, wanqVersion, shard } = calibration;
  const done = [...calibration.done].sort((a, b) => a - b);
  await writeSafetensors(file, {
    tensors,
    metadata: {
      'wanq.calibration.schema': String(CALIBRATION_SCHEMA),
      'wanq.calibration': JSON.stringify({
        identity: of,
        provider,
        runtimeVersion,
        wanqVersion,
        shard,
        done,
        outputs: calibration.outputs.map(({ value, magnitude }) => ({
          value,
          magnitude: Number.isFinite(magnitude) ? magnitude : null,
        })),
        activations: described,
      }),
    },
  });
}

/** Counts as 64-bit integers, without a BigInt for each of millions of bins. */
function int64Counts(counts: Float64Array): BigInt64Array {
  const words = new Uint32Array(2 * counts.length);
  counts.forEach((count, i) => {
    words[2 * i] = count % 2 ** 32;
    words[2 * i + 1] = Math.floor(count / 2 ** 32);
  });
  return new BigInt64Array(words.buffer);
}

/**
 * @param held whether the kept tokens are read too, which are most of the file; {@link HeldTokens} reads them one activation at a time
 * @throws WanqError CALIBRATION_INVALID where the file is no calibration, or of another schema; SAFETENSORS_INVALID, NOT_FOUND
 */
export async function readCalibration(file: string, { held = true } = {}): Promise<Calibration> {
  const { tensors, metadata } = await readSafetensors(file, (name) => held || !name.startsWith('held/'));
  const read = headerOf(file, metadata);
  const fail = (why: string): never => invalid(file, why);
  const channelsInAll = read.activations.reduce((sum, { channels }) => sum + channels, 0);
  if (channelsInAll > MAX_CALIBRATION_CHANNELS) {
    return fail(`claims ${channelsInAll} channels, more than the ${MAX_CALIBRATION_CHANNELS} allowed`);
  }
  const activations = read.activations.map(({ value, channels, slices, folds, held: prompts }, i) => {
    const lacks = (): never => fail(`lacks the statistics of ${printable(value)}`);
    const extremes = (key: string): [Float32Array, Float32Array] => {
      const [min, max] = ['min', 'max'].map((end) => tensors.get(`${end}/${i}/${key}`)?.data);
      const whole = [min, max].every((data) => data instanceof Float32Array && data.length === channels);
      if (!whole) return lacks();
      if (!isRange(min as Float32Array, max as Float32Array)) {
        return fail(`holds a minimum of ${printable(value)} above its maximum`);
      }
      return [min as Float32Array, max as Float32Array];
    };
    // What a slice has is looked at before memory is taken for as many channels as the header claims.
    const [any] = slices;
    if (!any || new Set(slices.map(({ key }) => key)).size < slices.length) return lacks();
    extremes(any.key);
    const statistics = new ActivationStatistics(value, channels);
    for (const { key, ...histogram } of slices) {
      const counts = tensors.get(`histogram/${i}/${key}`)?.data;
      if (!(counts instanceof BigInt64Array)) return lacks();
      const [min, max] = extremes(key);
      try {
        const restored = Histogram.from({ ...histogram, counts: Float64Array.from(counts, Number) });
        const slice = new SliceStatistics(channels, restored);
        slice.widen(min, max);
        // A sample is one of the values that the extremes are of.
        const { range } = slice;
        if (histogram.maxMagnitude > Math.max(Math.abs(range.min), Math.abs(range.max))) throw new RangeError();
        statistics.restore(key, slice);
      } catch {
        return fail(`holds an impossible histogram of ${printable(value)}`);
      }
    }
    for (const fold of folds) statistics.folds[fold]?.widen(...extremes(`fold/${fold}`));
    // Every prompt is in one slice or another, and in one fold.
    const ofSlices = unionOf(
      channels,
      statistics.slices().map(({ slice }) => slice),
    );
    if (!sameExtremes(ofSlices, unionOf(channels, statistics.folds))) {
      return fail(`has other extremes of ${printable(value)} by fold than by timestep`);
    }
    for (const prompt of held ? prompts : []) {
      const { data } = tensors.get(`held/${i}/${prompt}`) ?? {};
      if (!isTokens(data, channels)) return lacks();
      statistics.held.set(prompt, data);
    }
    return statistics;
  });
  const outputs = read.outputs.map(
    ({ value, magnitude }) => new OutputStatistics(value, magnitude ?? Number.POSITIVE_INFINITY),
  );
  return { ...read, outputs, activations };
}

function unionOf(channels: number, parts: readonly ChannelExtremes[]): ChannelExtremes {
  const union = new ChannelExtremes(channels);
  for (const { channelMin, channelMax } of parts) union.widen(channelMin, channelMax);
  return union;
}

function sameExtremes(a: ChannelExtremes, b: ChannelExtremes): boolean {
  const same = (x: Float32Array, y: Float32Array): boolean => x.every((value, c) => Object.is(value, y[c]));
  return same(a.channelMin, b.channelMin) && same(a.channelMax, b.channelMax);
}

/** The kept tokens of a calibration file, read for one activation at a time. */
export class HeldTokens {
  readonly #path: string;
  readonly #file: SafetensorsFile;
  readonly #header: z.infer<typeof header>;

  private constructor(path: string, file: SafetensorsFile) {
    this.#path = path;
    this.#file = file;
    this.#header = headerOf(path, file.metadata);
  }

  /** @throws WanqError CALIBRATION_INVALID where the file is no calibration; SAFETENSORS_INVALID, NOT_FOUND */
  static async open(path: string): Promise<HeldTokens> {
    const file = await SafetensorsFile.open(path);
    try {
      return new HeldTokens(path, file);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * @param value name of the activation
   * @returns prompt to `[tokens, channels]`
   * @throws WanqError CALIBRATION_INVALID where the file lacks what its header names
   */
  async read(value: string): Promise<Map<number, Float32Array>> {
    const position = this.#header.activations.findIndex((activation) => activation.value === value);
    const { held = [], channels = 1 } = this.#header.activations[position] ?? {};
    const tokens = new Map<number, Float32Array>();
    for (const prompt of held) {
      const name = `held/${position}/${prompt}`;
      const data = this.#file.entries.has(name) ? (await this.#file.read(name)).data : undefined;
      if (!isTokens(data, channels)) return invalid(this.#path, `lacks the kept tokens of ${printable(value)}`);
      tokens.set(prompt, data);
    }
    return tokens;
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

function isTokens(data: SafeTensor['data'] | undefined, channels: number): data is Float32Array {
  return data instanceof Float32Array && data.length % channels === 0;
}

/** Whether no channel's minimum is above its maximum, or NaN alone; that of a broken channel is NaN at both ends. */
function isRange(min: Float32Array, max: Float32Array): boolean {
  return min.every((low, k) => low <= (max[k] as number) || (Number.isNaN(low) && Number.isNaN(max[k])));
}

function invalid(file: string, why: string): never {
  throw new WanqError('CALIBRATION_INVALID', `${printable(file)} ${why}`, { hint: 'run `wanq calibrate` again' });
}

function headerOf(file: string, metadata: Readonly<Record<string, string>>): z.infer<typeof header> {
  const schema = metadata['wanq.calibration.schema'];
  if (schema === undefined) return invalid(file, 'is not a calibration file');
  if (schema !== String(CALIBRATION_SCHEMA)) {
    return invalid(file, `has calibration schema ${printable(schema, 20)}; this wanq reads ${CALIBRATION_SCHEMA}`);
  }
  let json: unknown;
  try {
    json = parseJson(metadata['wanq.calibration'] ?? '');
  } catch {
    return invalid(file, 'has a damaged header');
  }
  const parsed = header.safeParse(json);
  if (!parsed.success) return invalid(file, 'has a damaged header');
  const { done, identity: of, activations } = parsed.data;
  const prompts = [done, ...activations.map(({ held }) => held)];
  if (!prompts.every((indices) => ascends(indices) && (indices.at(-1) ?? 0) < of.promptCount)) {
    return invalid(file, 'names a prompt twice, or one that there is not');
  }
  if (new Set(activations.map(({ value }) => value)).size < activations.length) {
    return invalid(file, 'holds an activation twice');
  }
  return parsed.data;
}

function ascends(indices: readonly number[]): boolean {
  return indices.every((index, i) => i === 0 || index > (indices[i - 1] as number));
}
