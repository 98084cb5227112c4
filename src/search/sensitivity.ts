import { mkdir, rm } from 'node:fs/promises';
import { printable, WanqError } from '../errors.js';
import { branchesAt } from '../pipeline/denoise.js';
import type { VideoSize } from '../pipeline/geometry.js';
import { describePipeline } from '../pipeline/open.js';
import { readScheduler } from '../pipeline/schedulers/index.js';
import { encodePrompts } from '../pipeline/text-encoder.js';
import { RuntimeHost } from '../runtime/host.js';
import { providersFor } from '../runtime/providers.js';
import { assertWritable, withOutput } from '../util/files.js';
import { sha256 } from '../util/hash.js';
import { Scratch } from '../util/scratch.js';
import { removeTemporarySiblings, temporarySibling } from '../util/temporary.js';
import { Figures, type Unit } from './figures.js';
import { Measurement } from './measurement.js';
import { chooseSamples, promptsOf, type SampleSpace, sampleLimit } from './samples.js';
import { readSensitivity, type Sensitivity, writeSensitivity } from './sensitivity-file.js';
import { identityOf, openSubject, type Subject, type SubjectOptions } from './subject.js';
import { SwitchedTransformer } from './switched-transformer.js';

/** How much is measured: so many samples, or as many as a time is enough for. */
export type SensitivityBudget = { readonly samples: number } | { readonly ms: number };

export interface MeasureOptions extends VideoSize {
  readonly prompts: readonly string[];
  readonly negativePrompt: string;
  readonly steps: number;
  readonly guidance: number;
  /** Prompt i starts from the noise of seed + i. */
  readonly seed: number;
  readonly device: string;
  readonly budget: SensitivityBudget;
  /** The file to write. One of the same measurement is gone on with. */
  readonly output: string;
  readonly signal?: AbortSignal | undefined;
  /** Called once, before the work begins; not where all is measured already. */
  readonly onPlan?: ((plan: SensitivityPlan) => void) | undefined;
  /** Forwards done and to do in this run. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

export type SensitivityOptions = SubjectOptions & MeasureOptions;

/** What is about to be done. */
export interface SensitivityPlan {
  /** Samples in all, and those of which nothing is left to measure. */
  readonly samples: number;
  readonly finished: number;
  /** Linears and groups that are measured at each sample. */
  readonly units: number;
  /** Forwards of the sampling chains that samples are taken from, in this run. */
  readonly chainForwards: number;
  /** All forwards to do in this run. */
  readonly forwards: number;
  readonly ms: number;
}

/** Of models that are quantized without a calibration. */
const DEFAULT_BUCKETS = 5;

/**
 * Measures what quantizing each linear alone, and each group of linears together, does to the denoiser's output along the real sampling chain.
 *
 * Interrupted at any moment, a second call with the same options goes on after the last finished sample. Entries that the output file has are not
 * measured again; entries that were deleted are.
 *
 * @throws WanqError as `quantize`; SENSITIVITY_MISMATCH, SENSITIVITY_INVALID of a file that is there; LOCKED
 */
export async function measureSensitivity(options: SensitivityOptions): Promise<Sensitivity> {
  await assertWritable(options.output);
  const subject = await openSubject(options);
  try {
    return await withOutput(options.output, () => measureSubject(subject, options));
  } finally {
    await subject.loaded.close();
  }
}

/** As {@link measureSensitivity}, for who holds the output already. Changes the subject's graph. */
export async function measureSubject(subject: Subject, options: MeasureOptions): Promise<Sensitivity> {
  const { prompts, negativePrompt, steps, guidance, seed, budget, output, signal } = options;
  if (prompts.length === 0) throw new WanqError('PROMPTS_EMPTY', 'there are no prompts to measure on');
  const { folder, calibration } = subject;
  const shape = await describePipeline(folder, options);
  const makeScheduler = await readScheduler(folder);
  const scheduler = makeScheduler(steps);
  const { channels, frames, height, width } = shape.latents;
  const identity = {
    ...identityOf(subject),
    prompts: sha256(JSON.stringify([prompts, negativePrompt])),
    seed,
    steps,
    guidance,
    scheduler: scheduler.name,
    shape: [channels, frames, height, width],
  };
  const units = unitsOf(subject);
  await removeTemporarySiblings(output);
  const found = await readSensitivity(output, identity, units);
  if (found && 'samples' in budget && budget.samples !== found.samples.length) {
    throw new WanqError(
      'SENSITIVITY_MISMATCH',
      `${printable(output)} is of ${found.samples.length} samples, and ${budget.samples} were asked for`,
      { hint: 'ask for as many, remove the file, or name another output' },
    );
  }
  const known = found && new Figures(units, found.samples, found);
  if (found && known?.complete) return known.toSensitivity(found.identity);
  const scratch = await Scratch.open();
  // Beside the output, which has the room, and where the next run removes what a killed one left.
  const weights = temporarySibling(output);
  const host = new RuntimeHost({ signal });
  try {
    // The folder of a cache need not be there yet.
    await mkdir(weights, { recursive: true });
    const session = { providers: providersFor(options.device) };
    const embeddings = await encodePrompts(folder, host, session, [...prompts, negativePrompt]);
    const transformer = await SwitchedTransformer.open(host, subject, shape, weights, session);
    const { provider } = transformer;
    if (found && found.identity.provider !== provider) {
      throw new WanqError(
        'SENSITIVITY_MISMATCH',
        `${printable(output)} was begun on ${printable(found.identity.provider)}, and this is ${provider}`,
        { hint: 'give the --device it was begun on, remove the file, or name another output' },
      );
    }
    const measurement = new Measurement(transformer, { ...options, shape, makeScheduler, embeddings, scratch });
    const msPerForward = await measurement.timeForward();
    const space: SampleSpace = {
      prompts: prompts.length,
      branches: branchesAt(guidance),
      scheduler,
      buckets: calibration?.buckets ?? DEFAULT_BUCKETS,
    };
    const samples = found?.samples ?? chooseSamples(sampleCount(budget, space, units.length, msPerForward), space);
    const figures = new Figures(units, samples, found);
    const open = samples.flatMap((sample, s) => (figures.missing(s).length > 0 ? [{ sample, s }] : []));
    const begun = promptsOf(open.map(({ sample }) => sample));
    const chainForwards = begun.length * scheduler.timesteps.length * space.branches.length;
    const forwards = chainForwards + open.reduce((sum, { s }) => sum + figures.missing(s).length, 0);
    const finished = samples.length - open.length;
    const ms = forwards * msPerForward;
    options.onPlan?.({ samples: samples.length, finished, units: units.length, chainForwards, forwards, ms });
    let done = 0;
    const tick = (): void => options.onProgress?.(++done, forwards);
    for (const prompt of begun) {
      const own = open.filter(({ sample }) => sample.prompt === prompt);
      const places = own.map(({ sample }) => sample);
      await measurement.record(prompt, places, tick);
      for (const { sample, s } of own) {
        for (const unit of figures.missing(s)) {
          figures.set(unit, s, await measurement.noise(sample, unit.members));
          tick();
        }
        await writeSensitivity(output, figures.toSensitivity({ ...identity, provider }));
      }
    }
    return figures.toSensitivity({ ...identity, provider });
  } finally {
    await host.close();
    await scratch.close();
    await rm(weights, { recursive: true, force: true });
  }
}

/** All that is measured at each sample. */
export function unitsOf({ candidates, groups }: Subject): Unit[] {
  const bytesOf = (members: readonly number[]): number =>
    members.reduce((sum, i) => sum + (candidates[i]?.bytesSaved as number), 0);
  const unit = (section: Unit['section'], name: string, members: readonly number[]): Unit => {
    return { section, name, members, bytesSaved: bytesOf(members) };
  };
  return [
    ...candidates.map(({ key }, i) => unit('linears', key, [i])),
    ...groups.map(({ name, members }) => unit('groups', name, members)),
  ];
}

/** How many samples a budget is enough for, one at least. */
export function sampleCount(
  budget: SensitivityBudget,
  space: SampleSpace,
  units: number,
  msPerForward: number,
): number {
  const most = sampleLimit(space);
  if ('samples' in budget) return Math.min(budget.samples, most);
  const perChain = space.scheduler.timesteps.length * space.branches.length;
  for (let count = most; count > 1; count--) {
    const chains = promptsOf(chooseSamples(count, space)).length;
    if ((count * units + chains * perChain) * msPerForward <= budget.ms) return count;
  }
  return 1;
}
