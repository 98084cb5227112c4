import { distance } from 'fastest-levenshtein';
import { z } from 'zod';
import { printable, WanqError } from '../errors.js';
import { exists, writeAtomic } from '../util/files.js';
import { readJson } from '../util/json.js';
import type { Unit } from './figures.js';
import type { Sample } from './samples.js';

/** Version of the file's layout. Another one is refused, never guessed at. */
export const SENSITIVITY_SCHEMA = 1;

const noiseShare = z.number().nonnegative();

const entry = z.strictObject({
  /** Squared error over squared output, mean over samples. */
  damage: noiseShare,
  /** The same in dB; null where there is none. For people. */
  sqnr: z.number().nullable().optional(),
  /** Bytes that quantizing it saves. For people. */
  bytesSaved: z.number().optional(),
  /** Mean of each timestep bucket of which there are samples. For people. */
  buckets: z.record(z.string(), noiseShare).optional(),
  /** By sample; null where it was not measured yet. Absent: `damage` was set by hand. */
  noise: z.array(noiseShare.nullable()).optional(),
});

const identity = z.strictObject({
  /** Fingerprint of the transformer. */
  model: z.string(),
  /** SHA-256 of the calibration's identity; null without one. */
  calibration: z.string().nullable(),
  /** SHA-256 of the plan file with all that is measured, ranges and smoothing included. */
  plan: z.string(),
  /** SHA-256 of the prompts and the negative prompt, in order. */
  prompts: z.string(),
  seed: z.int(),
  steps: z.int().positive(),
  guidance: z.number(),
  scheduler: z.string(),
  /** Latent shape [channels, frames, height, width]. */
  shape: z.array(z.int().positive()).length(4),
  /** Execution provider. */
  provider: z.string(),
});

const schema = z.strictObject({
  schema: z.literal(SENSITIVITY_SCHEMA),
  identity,
  samples: z.array(
    z.strictObject({
      prompt: z.int().nonnegative(),
      step: z.int().nonnegative(),
      branch: z.enum(['cond', 'uncond']),
      timestep: z.number(),
      bucket: z.int().nonnegative(),
    }),
  ),
  linears: z.record(z.string(), entry),
  groups: z.record(z.string(), entry),
});

/** What a measurement is of: two files with equal identities and samples hold the same figures. */
export type SensitivityIdentity = z.infer<typeof identity>;

/** What quantizing one linear, or one group of linears together, does to the denoiser's output. */
export type SensitivityEntry = z.infer<typeof entry>;

export interface Sensitivity {
  readonly identity: SensitivityIdentity;
  readonly samples: readonly Sample[];
  /** By key of a plan file. */
  readonly linears: Readonly<Record<string, SensitivityEntry>>;
  readonly groups: Readonly<Record<string, SensitivityEntry>>;
}

/**
 * A file that somebody names, whatever prompts and steps it was measured on.
 *
 * @throws WanqError SENSITIVITY_INVALID where it is not finished; SENSITIVITY_MISMATCH where it is of another model, calibration or plan
 */
export async function readFinishedSensitivity(
  file: string,
  wanted: Pick<SensitivityIdentity, 'model' | 'calibration' | 'plan'>,
  units: readonly Pick<Unit, 'section' | 'name'>[],
): Promise<Sensitivity> {
  const found = await readKnown(file, wanted, units);
  const open = units.filter(({ section, name }) => !isFinished(found[section][name], found.samples.length));
  if (open.length === 0) return found;
  throw new WanqError('SENSITIVITY_INVALID', `${printable(file)} is not finished: ${open.length} entries are missing`, {
    hint: 'repeat the `wanq sensitivity` that left it',
  });
}

function isFinished(entry: SensitivityEntry | undefined, samples: number): boolean {
  if (!entry?.noise) return entry !== undefined;
  return entry.noise.length === samples && !entry.noise.includes(null);
}

/**
 * A file of the same measurement, if one is there; people may have edited its entries.
 *
 * @param wanted its identity, whatever provider ran it
 * @param units all there may be entries of
 * @throws WanqError SENSITIVITY_INVALID; SENSITIVITY_MISMATCH where it is another measurement's
 */
export async function readSensitivity(
  file: string,
  wanted: Omit<SensitivityIdentity, 'provider'>,
  units: readonly Pick<Unit, 'section' | 'name'>[],
): Promise<Sensitivity | undefined> {
  return (await exists(file)) ? readKnown(file, wanted, units) : undefined;
}

async function readKnown(
  file: string,
  wanted: Partial<SensitivityIdentity>,
  units: readonly Pick<Unit, 'section' | 'name'>[],
): Promise<Sensitivity> {
  const found = await readJson(file, schema as z.ZodType<z.output<typeof schema>>, 'SENSITIVITY_INVALID');
  const differs = (Object.keys(wanted) as (keyof typeof wanted)[]).filter(
    (key) => JSON.stringify(found.identity[key]) !== JSON.stringify(wanted[key]),
  );
  if (differs.length > 0) {
    throw new WanqError(
      'SENSITIVITY_MISMATCH',
      `${printable(file)} is of another measurement (it differs in ${differs.join(', ')})`,
      { hint: 'repeat that command to go on with it, remove the file, or name another output' },
    );
  }
  for (const section of ['linears', 'groups'] as const) {
    const names = units.filter((unit) => unit.section === section).map(({ name }) => name);
    for (const [name, { noise }] of Object.entries(found[section])) {
      if (!names.includes(name)) throw unknownName(file, section, name, names);
      if (noise !== undefined && noise.length > found.samples.length) {
        throw new WanqError(
          'SENSITIVITY_INVALID',
          `${printable(file)}: ${section}.${printable(name)} has more noise than there are samples`,
          { hint: 'delete the entry to have it measured again' },
        );
      }
    }
  }
  return found;
}

function unknownName(file: string, section: string, name: string, known: readonly string[]): WanqError {
  const nearest = known.toSorted((a, b) => distance(a, name) - distance(b, name)).slice(0, 3);
  return new WanqError('SENSITIVITY_INVALID', `${printable(file)}: ${section} has no "${printable(name)}" here`, {
    hint: `the nearest are ${nearest.map((near) => printable(near)).join(', ')}`,
  });
}

/**
 * What a file says of linears, for people to look at.
 *
 * @param model fingerprint of the transformer that it must be of
 * @returns SQNR of the transformer's output with one linear quantized, dB; of those that were measured
 * @throws WanqError SENSITIVITY_INVALID, SENSITIVITY_MISMATCH, NOT_FOUND
 */
export async function readSensitivityFigures(file: string, model: string): Promise<ReadonlyMap<string, number>> {
  const found = await readJson(file, schema as z.ZodType<z.output<typeof schema>>, 'SENSITIVITY_INVALID');
  if (found.identity.model !== model) {
    throw new WanqError('SENSITIVITY_MISMATCH', `${printable(file)} is of another model than the reference`, {
      hint: 'name the file of this model, or leave --sensitivity out',
    });
  }
  return new Map(Object.entries(found.linears).map(([name, { damage }]) => [name, -10 * Math.log10(damage)]));
}

/** Writes a measurement, finished or not. The same measurement always gives the same bytes. */
export async function writeSensitivity(file: string, sensitivity: Sensitivity): Promise<void> {
  await writeAtomic(file, sensitivityText(sensitivity));
}

/** JSON with one line for each sample and each entry, for people who edit it. */
export function sensitivityText({ identity: of, samples, linears, groups }: Sensitivity): string {
  const lines = (entries: Readonly<Record<string, SensitivityEntry>>): string =>
    Object.entries(entries)
      .map(([name, value]) => `    ${JSON.stringify(name)}: ${JSON.stringify(value)}`)
      .join(',\n');
  return [
    '{',
    `  "schema": ${SENSITIVITY_SCHEMA},`,
    `  "identity": ${JSON.stringify(of)},`,
    '  "samples": [',
    samples.map((sample) => `    ${JSON.stringify(sample)}`).join(',\n'),
    '  ],',
    '  "linears": {',
    lines(linears),
    '  },',
    '  "groups": {',
    lines(groups),
    '  }',
    '}',
    '',
  ].join('\n');
}
