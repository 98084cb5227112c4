import { printable, WanqError } from '../errors.js';
import { fingerprint, loadModel } from '../onnx/load.js';
import { NORMALIZE } from '../passes/normalize.js';
import { type PassReport, runPasses } from '../passes/pass.js';
import { branchesAt, truncatesTimesteps } from '../pipeline/denoise.js';
import type { VideoSize } from '../pipeline/geometry.js';
import { PipelineFolder } from '../pipeline/layout.js';
import { describePipeline, type PipelineShape } from '../pipeline/open.js';
import { readScheduler } from '../pipeline/schedulers/index.js';
import type { TextEncoder } from '../pipeline/text-encoder.js';
import { RuntimeHost } from '../runtime/host.js';
import { providersFor } from '../runtime/providers.js';
import { assertWritable, giveName, refuseExisting, withOutput } from '../util/files.js';
import { VERSION } from '../version.js';
import { checkpointPath, readCheckpoint } from './checkpoint.js';
import { type Calibration, type CalibrationIdentity, writeCalibration } from './file.js';
import { heldTokens } from './held.js';
import { promptInputs, readEmbeddings, syntheticInputs, type TextInputs } from './inputs.js';
import { memoryPlan } from './memory.js';
import { openTransformer } from './observed-transformer.js';
import { observedOutputs, observedValues, tokensPerForward } from './observed-values.js';
import { CalibrationRun } from './run.js';
import { promptsOf, type Shard } from './shard.js';
import { assertCalibrationSpace } from './space.js';
import {
  ActivationStatistics,
  type NonFinite,
  nonFiniteText,
  OutputStatistics,
  type Statistics,
} from './statistics.js';

export interface CalibrateOptions extends VideoSize {
  /** Pipeline folder. */
  readonly pipeline: string;
  /** Prompts for the pipeline's own text encoder. Give these, `embeddings` or `syntheticInputs`. */
  readonly prompts?: readonly string[] | undefined;
  readonly negativePrompt: string;
  /** Embeddings file, see `readEmbeddings`. */
  readonly embeddings?: string | undefined;
  /** Chains to run over random embeddings. */
  readonly syntheticInputs?: number | undefined;
  readonly steps: number;
  readonly guidance: number;
  /** Prompt i starts from the noise of seed + i, as torch's CPU generator makes it. */
  readonly seed: number;
  /** The calibration file to write. A checkpoint lies beside it while the run goes on. */
  readonly output: string;
  readonly buckets: number;
  /** Tokens sampled a forward for the histograms; `auto` keeps the samples of a forward below 16 MiB. */
  readonly tokens: number | 'all' | 'auto';
  /** Tokens of each activation kept whole, over all prompts, to choose ranges and smoothing by; `auto`: 1,024, less where they are wide. */
  readonly heldTokens?: number | 'auto' | undefined;
  /** Runs a part of the prompts; {@link mergeCalibrations} joins the parts. */
  readonly shard?: Shard | undefined;
  /** Memory of all processes together, bytes. CPU provider only. */
  readonly maxMemory?: number | undefined;
  readonly device: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: CalibrationProgress) => void) | undefined;
}

export interface CalibrationProgress {
  /** Prompts begun in this run, and to do in this run. */
  readonly prompt: number;
  readonly prompts: number;
  readonly step: number;
  readonly steps: number;
  /** Transformer calls done in this run, resumed ones left out, and to do in this run. */
  readonly forwards: number;
  readonly totalForwards: number;
}

export interface CalibrationSummary {
  readonly output: string;
  readonly inputs: CalibrationIdentity['inputs'];
  readonly activations: number;
  /** Prompts taken over from a checkpoint. */
  readonly resumed: number;
  readonly forwards: number;
  readonly tokens: number | 'all';
  readonly provider: string;
  /** Pieces the transformer was run in. */
  readonly segments: number;
  /** Largest resident set of the runtime's process, mapped weights included, bytes. */
  readonly peakBytes: number;
  /** What was foreseen for all processes together, bytes. null on other providers than the CPU's. */
  readonly estimatedBytes: number | null;
  /** Activations in which NaN or infinities were seen, and how much of them was. */
  readonly nonFinite: readonly (NonFinite & { readonly value: string })[];
  /** Whether the graph cuts the scheduler's timesteps down to integers. */
  readonly truncatedTimesteps: boolean;
  /** What was done to the graph before its linears were looked for. */
  readonly passes: readonly PassReport[];
}

/**
 * Runs the transformer along the real sampling chain and gathers statistics of every linear's input.
 *
 * Interrupted at any moment, a second call with the same options goes on after the last finished prompt and ends with the same
 * bits: what a prompt contributes depends on nothing but the prompt, its index and the seed.
 *
 * @throws WanqError of the pipeline, the runtime and the file system; CALIBRATION_MISMATCH where the checkpoint is of another run; NO_MEMORY; LOCKED;
 * NON_FINITE where the transformer makes NaN or infinity, or too many of its activations hold them
 */
export async function calibrate(options: CalibrateOptions): Promise<CalibrationSummary> {
  await refuseExisting(options.output);
  await assertWritable(options.output);
  const folder = await PipelineFolder.open(options.pipeline);
  const shape = await describePipeline(folder, options);
  const held = async (): Promise<CalibrationSummary> => {
    const inputs = await openInputs(options, folder, shape);
    try {
      return await calibrateOver(inputs, options, folder, shape);
    } finally {
      await inputs.close();
    }
  };
  return withOutput(options.output, held, [checkpointPath(options.output)]);
}

async function openInputs(
  { prompts, negativePrompt, embeddings, syntheticInputs: synthetic, seed, guidance }: CalibrateOptions,
  folder: PipelineFolder,
  { signature }: PipelineShape,
): Promise<TextInputs & { readonly encoder?: TextEncoder }> {
  if ([prompts, embeddings, synthetic].filter((source) => source !== undefined).length !== 1) {
    throw new WanqError('USAGE', 'calibration needs prompts, embeddings or synthetic inputs, and one of them only', {
      hint: 'give --prompts FILE, --embeddings FILE or --synthetic-inputs N',
    });
  }
  if (prompts?.length === 0) throw new WanqError('PROMPTS_EMPTY', 'there are no prompts to calibrate on');
  if (embeddings !== undefined) return readEmbeddings(embeddings, guidance, signature);
  if (synthetic !== undefined) return syntheticInputs(synthetic, seed, signature);
  return promptInputs(folder, prompts as readonly string[], negativePrompt);
}

async function calibrateOver(
  inputs: TextInputs & { readonly encoder?: TextEncoder },
  options: CalibrateOptions,
  folder: PipelineFolder,
  shape: PipelineShape,
): Promise<CalibrationSummary> {
  const { steps, guidance, seed, buckets, signal } = options;
  const shard = options.shard ?? null;
  const own = promptsOf(shard, inputs.count);
  const makeScheduler = await readScheduler(folder, inputs.kind !== 'prompts');
  const loaded = await loadModel(folder.modelPath('transformer'));
  try {
    const model = await fingerprint(loaded);
    const passes = runPasses(loaded.model, NORMALIZE);
    const observed = observedValues(loaded);
    const tokens = tokensPerForward(options.tokens, observed);
    const held = heldTokens(options.heldTokens ?? 'auto', observed);
    const { channels, frames, height, width } = shape.latents;
    const identity: CalibrationIdentity = {
      model,
      inputs: inputs.kind,
      prompts: inputs.hash,
      promptCount: inputs.count,
      seed,
      steps,
      guidance,
      scheduler: makeScheduler(steps).name,
      shape: [channels, frames, height, width],
      buckets,
      tokens,
      held,
    };
    await assertCalibrationSpace(options.output, {
      ...{ channels: observed.map((value) => value.channels), buckets, held },
      branches: branchesAt(guidance).length,
    });
    const checkpoint = checkpointPath(options.output);
    const resumed = await readCheckpoint(checkpoint, identity, shard);
    const done = [...(resumed?.done ?? [])];
    const left = own.filter((index) => !done.includes(index));
    const magnitudes = observedOutputs(loaded);
    const statistics: Statistics = resumed ?? {
      activations: observed.map(({ value, channels: width }) => new ActivationStatistics(value, width)),
      outputs: magnitudes.map((value) => new OutputStatistics(value)),
    };
    const { activations, outputs } = statistics;

    const host = new RuntimeHost({ signal });
    try {
      const providers = providersFor(options.device);
      const source = { loaded, face: shape, values: observed, magnitudes, tokens, held };
      const plan = providers.includes('cpu')
        ? memoryPlan(source, options, shape, inputs, await folder.transformerConfig())
        : null;
      await inputs.prepare(host, { providers }, left);
      const transformer = await openTransformer(host, source, providers, plan?.cuts ?? []);
      const { runtimeVersion } = await host.status();
      const state = (): Calibration => ({
        identity,
        provider: transformer.provider,
        runtimeVersion,
        wanqVersion: VERSION,
        shard,
        done,
        activations,
        outputs,
      });
      const run = new CalibrationRun(
        { ...options, tokens, held, promptCount: inputs.count, shape: shape.latents, makeScheduler, signal },
        transformer,
        inputs,
      );
      for (const [position, index] of left.entries()) {
        await run.prompt(index, statistics, (step) =>
          options.onProgress?.({
            prompt: position + 1,
            prompts: left.length,
            step: step + 1,
            steps,
            forwards: run.forwards,
            totalForwards: left.length * steps * branchesAt(guidance).length,
          }),
        );
        refuseBroken(activations, index);
        done.push(index);
        await writeCalibration(checkpoint, state());
      }
      await giveName(checkpoint, options.output);
      return {
        output: options.output,
        inputs: inputs.kind,
        activations: activations.length,
        resumed: resumed?.done.length ?? 0,
        forwards: run.forwards,
        tokens,
        provider: transformer.provider,
        segments: transformer.segments,
        peakBytes: (await host.status()).peakBytes,
        estimatedBytes: transformer.provider === 'cpu' ? (plan?.bytes ?? null) : null,
        nonFinite: activations.flatMap((activation) =>
          activation.finite ? [] : { value: activation.value, ...activation.total().nonFinite },
        ),
        truncatedTimesteps:
          truncatesTimesteps(shape.signature) &&
          makeScheduler(steps).timesteps.some((timestep) => !Number.isInteger(timestep)),
        passes,
      };
    } finally {
      await host.close();
    }
  } finally {
    await loaded.close();
  }
}

/**
 * Share of activations that may hold NaN or infinity. One in each block of a Wan transformer, such as a value whose padding is masked out
 * behind, is a seventh of all; where it is more than that, the model is broken and its ranges are worth nothing.
 */
const MOST_NON_FINITE = 1 / 4;

/** @throws WanqError NON_FINITE */
function refuseBroken(activations: readonly ActivationStatistics[], prompt: number): void {
  const broken = activations.filter(({ finite }) => !finite);
  const [first] = broken;
  if (!first || broken.length <= MOST_NON_FINITE * activations.length) return;
  throw new WanqError(
    'NON_FINITE',
    `${broken.length} of ${activations.length} activations hold NaN or infinity at prompt ${prompt + 1}: ${printable(first.value)} ${nonFiniteText(first.total().nonFinite)}`,
    { hint: 'export the model again, in FP32 or BF16: these values left the range of their type' },
  );
}
