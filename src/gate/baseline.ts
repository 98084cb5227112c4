import { z } from 'zod';
import { printable, WanqError } from '../errors.js';
import { MAX_JSON_BYTES } from '../limits.js';
import { mean } from '../numerics/stats.js';
import { figure } from '../util/figure.js';
import { readText, withOutput, writeAtomic } from '../util/files.js';
import { sha256 } from '../util/hash.js';
import { readJson } from '../util/json.js';
import { stated } from '../util/stated.js';
import type { JudgedMetric, JudgedResults } from './subject.js';
import { defaultTolerance, type Tolerance } from './tolerances.js';

/** Version of baseline files. Readers refuse another one. */
export const BASELINE_VERSION = 1;

const settings = z.strictObject({
  /** SHA-256 of the prompts. */
  promptsDigest: z.string(),
  prompts: z.int(),
  seedsPerPrompt: z.int(),
  seed: z.int(),
  steps: z.int(),
  guidance: z.number(),
  negativePrompt: z.string(),
  scheduler: z.string(),
  latents: z.array(z.int()),
  sigmas: z.array(z.number()),
  /** SHA-256 of the user's clips; null: the reference's own videos. */
  clips: z.string().nullable(),
  clipCount: z.int(),
  /** Videos with teacher forcing. */
  inspected: z.int(),
  /** SHA-256 of the feature network and its reference set. */
  features: z.string().nullable(),
});

const amount = z.number().nonnegative();
const tolerance = z.union([
  z.literal('off'),
  z.strictObject({ absolute: amount }),
  z.strictObject({ relative: amount }),
]);

const baselineSchema = z.strictObject({
  baseline: z.literal(BASELINE_VERSION),
  /** Fingerprint of the reference's transformer. */
  reference: z.string(),
  settings,
  /** In place of the defaults, by metric; `off`: not compared. */
  tolerances: z.record(z.string(), tolerance).default({}),
  metrics: z.record(
    z.string(),
    z.strictObject({ value: figure, unit: z.string(), better: z.enum(['lower', 'higher']) }),
  ),
  videos: z.array(z.strictObject({ prompt: z.string(), seed: z.int(), psnr: figure, sqnr: figure })).default([]),
  /** PSNR drop, mean over sigmas. */
  clips: z.array(z.strictObject({ clip: z.int(), prompt: z.string(), drop: figure })).default([]),
  steps: z.array(z.strictObject({ step: z.int(), branch: z.string(), sqnr: figure })).default([]),
  linears: z.array(z.strictObject({ linear: z.string(), sqnr: figure })).default([]),
});

/** What later results are held against. Rows of videos, clips, steps and linears say where a loss is; metrics decide. */
export type Baseline = z.output<typeof baselineSchema>;

export type Tolerances = Baseline['tolerances'];

export interface BaselineFile {
  readonly file: string;
  /** SHA-256 of its bytes. */
  readonly digest: string;
  readonly baseline: Baseline;
}

/** @throws WanqError BASELINE_INVALID, NOT_FOUND */
export async function readBaseline(file: string): Promise<BaselineFile> {
  const text = await readText(file, MAX_JSON_BYTES);
  const { baseline: version } = await readJson(
    file,
    z.looseObject({ baseline: z.unknown().optional() }),
    'BASELINE_INVALID',
  );
  if (version !== BASELINE_VERSION) {
    const why =
      version === undefined
        ? 'is no baseline of wanq'
        : `is a baseline of version ${stated(version)}; this wanq reads ${BASELINE_VERSION}`;
    throw new WanqError('BASELINE_INVALID', `${printable(file)} ${why}`, {
      hint: 'move it away, and make one with `wanq gate RESULTS --baseline FILE --update`',
    });
  }
  const baseline = await readJson(file, baselineSchema as z.ZodType<Baseline>, 'BASELINE_INVALID');
  return { file, digest: sha256(text), baseline };
}

/** What a metric may lose, and what it is that says so; undefined where it is not compared. */
export function toleranceOf(metric: string, own: Tolerances): Tolerance | undefined {
  const given = Object.hasOwn(own, metric) ? own[metric] : defaultTolerance(metric);
  return given === 'off' ? undefined : given;
}

/**
 * A baseline of results. It holds the metrics that are compared under `tolerances`, and no others.
 * @returns what is in the way instead, where a metric is not a number or none can be compared
 */
export function baselineOf(
  results: JudgedResults,
  tolerances: Tolerances,
): Baseline | { readonly refused: readonly string[] } {
  const compared = Object.entries(results.metrics).flatMap(([name, metric]) =>
    toleranceOf(name, tolerances) && metric.better && measured(metric) !== null ? [{ name, metric }] : [],
  );
  const broken = compared.filter(({ metric }) => !isComparable(metric));
  if (broken.length > 0) {
    return { refused: broken.map(({ name, metric }) => `${printable(name, 100)} is ${metric.value}`) };
  }
  if (compared.length === 0) return { refused: ['none of the metrics that are compared was measured'] };
  return {
    baseline: BASELINE_VERSION,
    reference: results.reference.fingerprint,
    settings: settingsOf(results),
    tolerances,
    metrics: Object.fromEntries(
      compared.map(({ name, metric: { value, unit, better } }) => [
        name,
        { value: rounded(value), unit, better: better as 'lower' | 'higher' },
      ]),
    ),
    videos: results.videos.map(({ prompt, seed, psnr, sqnr }) => ({
      ...{ prompt: nameOf(prompt), seed, psnr: rounded(psnr), sqnr: rounded(sqnr) },
    })),
    clips: clipsOf(results),
    steps: results.steps.map(({ step, branch, sqnr }) => ({ step, branch, sqnr: rounded(sqnr) })),
    linears: results.linears.map(({ linear, sqnr }) => ({ linear, sqnr: rounded(sqnr) })),
  };
}

/** The value of a metric; null where it was taken over nothing. */
export function measured({ value, n }: Pick<JudgedMetric, 'value' | 'n'>): number | null {
  return n === 0 ? null : value;
}

/** Whether a metric has a value that can be held against another. */
export function isComparable({ value, better }: Pick<JudgedMetric, 'value' | 'better'>): boolean {
  const perfect = better === 'lower' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  return value !== null && (Number.isFinite(value) || value === perfect);
}

/** What must be the same for results to be comparable. */
export function settingsOf({ settings: of, videos, psnrDrop }: JudgedResults): Baseline['settings'] {
  const { promptsDigest, prompts, seedsPerPrompt, seed, steps, guidance, negativePrompt, scheduler } = of;
  return {
    ...{ promptsDigest, prompts, seedsPerPrompt, seed, steps, guidance, negativePrompt, scheduler },
    latents: [...of.latents],
    sigmas: [...of.sigmas],
    clips: of.clipsDigest,
    clipCount: new Set(psnrDrop.map(({ clip }) => clip)).size,
    inspected: videos.filter(({ sqnr }) => sqnr !== null).length,
    features: of.featuresDigest,
  };
}

/** PSNR drop of each clip, mean over sigmas. */
export function clipsOf({ psnrDrop }: Pick<JudgedResults, 'psnrDrop'>): Baseline['clips'] {
  const clips = [...new Set(psnrDrop.map(({ clip }) => clip))];
  return clips.map((clip) => {
    const rows = psnrDrop.filter((row) => row.clip === clip);
    const drops = rows.flatMap(({ drop }) => drop ?? []);
    const drop = drops.length === 0 ? null : mean(drops);
    return { clip, prompt: nameOf(rows[0]?.prompt ?? ''), drop: rounded(drop) };
  });
}

/** A prompt as rows of a baseline carry it. */
export function nameOf(prompt: string): string {
  return printable(prompt, 120);
}

/** @throws WanqError NOT_WRITABLE, NO_SPACE, NOT_FOUND */
export async function writeBaseline(file: string, baseline: Baseline): Promise<void> {
  await withOutput(file, () => writeAtomic(file, baselineText(baseline)));
}

/** JSON with a line for each row, so that a change of one figure is a change of one line. */
export function baselineText(baseline: Baseline): string {
  const { reference, settings, tolerances, metrics, videos, clips, steps, linears } = baseline;
  const sorted = <T>(of: Readonly<Record<string, T>>): [string, T][] =>
    Object.entries(of).sort(([a], [b]) => (a < b ? -1 : 1));
  const parts = [
    `"baseline": ${BASELINE_VERSION}`,
    `"reference": ${JSON.stringify(reference)}`,
    `"settings": ${fields(Object.entries(settings))}`,
    `"tolerances": ${fields(sorted(tolerances))}`,
    `"metrics": ${fields(sorted(metrics))}`,
    ...Object.entries({ videos, clips, steps, linears }).map(([name, rows]) => `"${name}": ${list(rows)}`),
  ];
  return `{\n${parts.map((part) => `  ${part}`).join(',\n')}\n}\n`;
}

function fields(entries: readonly [string, unknown][]): string {
  if (entries.length === 0) return '{}';
  const lines = entries.map(([name, value]) => `    ${JSON.stringify(name)}: ${line(value)}`);
  return `{\n${lines.join(',\n')}\n  }`;
}

function list(rows: readonly unknown[]): string {
  return rows.length === 0 ? '[]' : `[\n${rows.map((row) => `    ${line(row)}`).join(',\n')}\n  ]`;
}

function line(value: unknown): string {
  if (typeof value === 'number' && !Number.isFinite(value)) return JSON.stringify(String(value));
  if (Array.isArray(value)) return `[${value.map(line).join(', ')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const inner = Object.entries(value).map(([name, of]) => `${JSON.stringify(name)}: ${line(of)}`);
  return inner.length === 0 ? '{}' : `{ ${inner.join(', ')} }`;
}

/** To what lines of text show, and a reader compares; tolerances are far above it. */
function rounded<T extends number | null>(value: T): T {
  if (value === null || !Number.isFinite(value)) return value;
  return Number(Math.abs(value) < 10 ? value.toPrecision(6) : value.toFixed(3)) as T;
}
