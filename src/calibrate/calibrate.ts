import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { findLinears } from '../analyze/linears.js';
import { printable, WanqError } from '../errors.js';
import { deriveSeed, MersenneTwister, randn } from '../numerics/rng.js';
import { encodeModel } from '../onnx/codec.js';
import { dataFolder, fingerprint, type LoadedModel, loadModel } from '../onnx/load.js';
import {
  JITTER_INPUT,
  type ObservedValue,
  type ObserverOutputs,
  observeActivations,
} from '../passes/observe-activations.js';
import { runPasses } from '../passes/pass.js';
import { type Branch, branchesAt, type Denoiser, runChain } from '../pipeline/denoise.js';
import { type LatentShape, latentElements, type VideoSize } from '../pipeline/geometry.js';
import { PipelineFolder } from '../pipeline/layout.js';
import { describePipeline, openDenoiser } from '../pipeline/open.js';
import { readScheduler, type SchedulerFactory } from '../pipeline/schedulers/index.js';
import { encodePrompts, type PromptEmbeddings } from '../pipeline/text-encoder.js';
import { RuntimeHost } from '../runtime/host.js';
import { providersFor } from '../runtime/providers.js';
import { type HostTensor, toFloat32 } from '../runtime/tensor.js';
import { assertWritable, exists, refuseExisting } from '../util/files.js';
import { VERSION } from '../version.js';
import { type Calibration, type CalibrationIdentity, readCalibration, writeCalibration } from './file.js';
import { ActivationStatistics, bucketOf } from './statistics.js';

export interface CalibrateOptions extends VideoSize {
  /** Pipeline folder. */
  readonly pipeline: string;
  readonly prompts: readonly string[];
  readonly negativePrompt: string;
  readonly steps: number;
  readonly guidance: number;
  /** Prompt i starts from the noise of seed + i, as torch's CPU generator makes it. */
  readonly seed: number;
  /** The calibration file to write. A checkpoint lies beside it while the run goes on. */
  readonly output: string;
  readonly buckets: number;
  /** Tokens sampled a forward for the histograms; `auto` keeps the samples of a forward below 32 MiB. */
  readonly tokens: number | 'all' | 'auto';
  readonly device: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: CalibrationProgress) => void) | undefined;
}

export interface CalibrationProgress {
  readonly prompt: number;
  readonly prompts: number;
  readonly step: number;
  readonly steps: number;
  /** Transformer calls done in this run, resumed ones left out, and to do in this run. */
  readonly forwards: number;
  readonly totalForwards: number;
  /** Largest resident set of the runtime's process so far, bytes. */
  readonly peakBytes: number;
}

export interface CalibrationSummary {
  readonly output: string;
  readonly activations: number;
  /** Prompts taken over from a checkpoint. */
  readonly resumed: number;
  readonly forwards: number;
  readonly tokens: number | 'all';
  readonly provider: string;
  readonly peakBytes: number;
  /** Activations in which NaN or infinities were seen. */
  readonly nonFinite: readonly string[];
  /** Whether the graph cuts the scheduler's timesteps down to integers. */
  readonly truncatedTimesteps: boolean;
}

const SAMPLE_BUDGET_BYTES = 32 * 2 ** 20;

/**
 * Runs the transformer along the real sampling chain and gathers statistics of every linear's input.
 *
 * Interrupted at any moment, a second call with the same options goes on after the last finished prompt and ends with the same
 * bits: what a prompt contributes depends on nothing but the prompt, its index and the seed.
 *
 * @throws WanqError of the pipeline, the runtime and the file system; CALIBRATION_MISMATCH where the checkpoint is of another run
 */
export async function calibrate(options: CalibrateOptions): Promise<CalibrationSummary> {
  await refuseExisting(options.output);
  await assertWritable(options.output);
  const folder = await PipelineFolder.open(options.pipeline);
  const shape = await describePipeline(folder, options);
  const makeScheduler = await readScheduler(folder);
  const loaded = await loadModel(folder.modelPath('transformer'));
  try {
    const observed = observedValues(loaded);
    const tokens = tokensPerForward(options.tokens, observed);
    const identity: CalibrationIdentity = {
      model: await fingerprint(loaded),
      prompts: hashPrompts(options.prompts, options.negativePrompt),
      promptCount: options.prompts.length,
      seed: options.seed,
      steps: options.steps,
      guidance: options.guidance,
      scheduler: makeScheduler(options.steps).name,
      shape: [shape.latents.channels, shape.latents.frames, shape.latents.height, shape.latents.width],
      buckets: options.buckets,
      tokens,
    };
    const checkpoint = checkpointPath(options.output);
    const resumed = await resume(checkpoint, identity);

    const outputs: ObserverOutputs[] = [];
    runPasses(loaded.model, [observeActivations({ values: observed, tokens, outputs })]);
    const host = new RuntimeHost({ signal: options.signal });
    try {
      const session = { providers: providersFor(options.device) };
      const embeddings = await encodePrompts(folder, host, session, [...options.prompts, options.negativePrompt]);
      const source = { bytes: encodeModel(loaded.model), folder: dataFolder(loaded.path) };
      const denoiser = await openDenoiser(host, source, session, shape);
      const { runtimeVersion } = await host.status();
      const activations =
        resumed?.activations ?? observed.map(({ value, channels }) => new ActivationStatistics(value, channels));
      const run = new CalibrationRun(options, { denoiser, embeddings, makeScheduler, outputs, tokens, activations });
      const provider = denoiser.session.info.provider;
      const state = (done: readonly number[]): Calibration => ({
        identity,
        provider,
        runtimeVersion,
        wanqVersion: VERSION,
        done,
        activations,
      });
      const done = [...(resumed?.done ?? [])];
      const left = options.prompts.map((_, index) => index).filter((index) => !done.includes(index));
      run.expect(left.length);
      for (const index of left) {
        await run.prompt(index, shape.latents);
        done.push(index);
        if (done.length < options.prompts.length) await writeCalibration(checkpoint, state(done));
      }
      await refuseExisting(options.output);
      await writeCalibration(options.output, state(done));
      await rm(checkpoint, { force: true });
      const { peakBytes } = await host.status();
      return {
        output: options.output,
        activations: activations.length,
        resumed: resumed?.done.length ?? 0,
        forwards: run.forwards,
        tokens,
        provider,
        peakBytes,
        nonFinite: activations.filter((statistics) => !statistics.total().finite).map(({ value }) => value),
        truncatedTimesteps:
          denoiser.truncatesTimesteps && makeScheduler(options.steps).timesteps.some((t) => !Number.isInteger(t)),
      };
    } finally {
      await host.close();
    }
  } finally {
    await loaded.close();
  }
}

/** Where the state of an unfinished run lies. */
export function checkpointPath(output: string): string {
  return `${output}.partial`;
}

/** One value for each distinct input of a MatMul or Gemm; q, k and v share theirs. Conv inputs have no token rows to sample. */
function observedValues(loaded: LoadedModel): ObservedValue[] {
  const values = new Map<string, ObservedValue>();
  for (const { kind, activation, inFeatures, computeType } of findLinears(loaded.model.graph)) {
    if (kind === 'Conv') continue;
    values.set(activation, { value: activation, channels: inFeatures, dtype: computeType });
  }
  if (values.size === 0) {
    throw new WanqError('MODEL_UNSUPPORTED', `${printable(loaded.path)} has no MatMul or Gemm with a constant weight`, {
      hint: 'wanq quantizes linear layers; is this the transformer?',
    });
  }
  return [...values.values()];
}

function tokensPerForward(tokens: CalibrateOptions['tokens'], observed: readonly ObservedValue[]): number | 'all' {
  if (tokens !== 'auto') return tokens;
  const bytesPerToken = observed.reduce((sum, { channels }) => sum + 4 * channels, 0);
  return Math.max(1, Math.floor(SAMPLE_BUDGET_BYTES / bytesPerToken));
}

function hashPrompts(prompts: readonly string[], negative: string): string {
  return createHash('sha256')
    .update(JSON.stringify([prompts, negative]))
    .digest('hex');
}

async function resume(checkpoint: string, identity: CalibrationIdentity): Promise<Calibration | undefined> {
  if (!(await exists(checkpoint))) return undefined;
  const hint = 'remove it to start afresh';
  const found = await readCalibration(checkpoint).catch((error: WanqError) => {
    throw new WanqError(error.code ?? 'CALIBRATION_INVALID', error.message, { cause: error, hint });
  });
  const differs = (Object.keys(identity) as (keyof CalibrationIdentity)[]).filter(
    (key) => JSON.stringify(found.identity[key]) !== JSON.stringify(identity[key]),
  );
  if (differs.length === 0) return found;
  throw new WanqError(
    'CALIBRATION_MISMATCH',
    `${printable(checkpoint)} is the checkpoint of another run (it differs in ${differs.join(', ')})`,
    { hint: 'repeat that run to finish it, remove the file, or name another output' },
  );
}

interface RunParts {
  readonly denoiser: Denoiser;
  readonly embeddings: ReadonlyMap<string, PromptEmbeddings>;
  readonly makeScheduler: SchedulerFactory;
  readonly outputs: readonly ObserverOutputs[];
  readonly tokens: number | 'all';
  readonly activations: readonly ActivationStatistics[];
}

/** The chains of a run, prompt by prompt. A prompt's statistics join the total only when its chain is complete. */
class CalibrationRun {
  forwards = 0;
  #total = 0;
  readonly #options: CalibrateOptions;
  readonly #parts: RunParts;

  constructor(options: CalibrateOptions, parts: RunParts) {
    this.#options = options;
    this.#parts = parts;
  }

  expect(prompts: number): void {
    this.#total = prompts * this.#options.steps * branchesAt(this.#options.guidance).length;
  }

  async prompt(index: number, shape: LatentShape): Promise<void> {
    const { prompts, negativePrompt, steps, guidance, seed, signal, onProgress } = this.#options;
    const { denoiser, embeddings, makeScheduler, outputs, activations } = this.#parts;
    const scheduler = makeScheduler(steps);
    const text = {
      cond: embeddings.get(prompts[index] as string) as PromptEmbeddings,
      uncond: embeddings.get(negativePrompt) as PromptEmbeddings,
    };
    const fetches = outputs.flatMap(({ min, max, sample }) => [min, max, sample]);
    const fresh = activations.map(({ value, channels }) => new ActivationStatistics(value, channels));
    await runChain({
      scheduler,
      shape,
      noise: randn(seed + index, latentElements(shape)),
      text,
      guidance,
      predict: async (input, { step, branch }) => {
        signal?.throwIfAborted();
        const { velocity, extra, peakBytes } = await denoiser.predict(
          input,
          this.#jitter(index, step, branch),
          fetches,
        );
        const bucket = bucketOf(scheduler.sigmas[step] as number, this.#options.buckets);
        outputs.forEach(({ min, max, sample }, i) => {
          const floats = (name: string): Float32Array => toFloat32(extra[name] as HostTensor);
          fresh[i]?.slice(branch, bucket).add(floats(min), floats(max), floats(sample));
        });
        this.forwards++;
        onProgress?.({
          prompt: index + 1,
          prompts: prompts.length,
          step: step + 1,
          steps,
          forwards: this.forwards,
          totalForwards: this.#total,
          peakBytes,
        });
        return velocity;
      },
    });
    for (const [i, statistics] of fresh.entries()) activations[i]?.merge(statistics);
  }

  #jitter(index: number, step: number, branch: Branch): Record<string, HostTensor> {
    const { tokens } = this.#parts;
    if (tokens === 'all') return {};
    const generator = new MersenneTwister(deriveSeed(this.#options.seed, index, step, branch === 'cond' ? 0 : 1));
    const data = Float64Array.from({ length: tokens }, () => generator.uniform());
    return { [JITTER_INPUT]: { dtype: 'float64', dims: [tokens], data } };
  }
}
