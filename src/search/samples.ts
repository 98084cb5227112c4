import { bucketOf } from '../calibrate/statistics.js';
import type { Branch } from '../pipeline/denoise.js';
import type { Scheduler } from '../pipeline/schedulers/scheduler.js';

/** One place of the sampling chains at which models are compared. */
export interface Sample {
  /** Position among the prompts; the seed of its noise is the first seed plus this. */
  readonly prompt: number;
  readonly step: number;
  readonly branch: Branch;
  readonly timestep: number;
  /** Timestep bucket, as calibration cuts them. */
  readonly bucket: number;
}

export interface SampleSpace {
  readonly prompts: number;
  readonly branches: readonly Branch[];
  readonly scheduler: Pick<Scheduler, 'timesteps' | 'sigmas'>;
  readonly buckets: number;
}

/** All samples there are. */
export function sampleLimit({ prompts, branches, scheduler }: SampleSpace): number {
  return prompts * branches.length * scheduler.timesteps.length;
}

/**
 * Samples spread evenly over the steps, going round branches and prompts as they come, so that few prompts are begun.
 * @param count at most {@link sampleLimit}
 */
export function chooseSamples(count: number, { prompts, branches, scheduler, buckets }: SampleSpace): Sample[] {
  const { timesteps, sigmas } = scheduler;
  return Array.from({ length: count }, (_, i): Sample => {
    const step = Math.floor(((i + 0.5) * timesteps.length) / count);
    return {
      prompt: Math.floor(i / branches.length) % prompts,
      step,
      branch: branches[i % branches.length] as Branch,
      timestep: timesteps[step] as number,
      bucket: bucketOf(sigmas[step] as number, buckets),
    };
  });
}

/** Prompts whose chains have to be run. */
export function promptsOf(samples: readonly Pick<Sample, 'prompt'>[]): number[] {
  return [...new Set(samples.map(({ prompt }) => prompt))].sort((a, b) => a - b);
}
