import { WanqError } from '../errors.js';
import type { Session } from '../runtime/host.js';
import { fromFloat32, type HostTensor, toFloat32 } from '../runtime/tensor.js';
import { type LatentShape, latentDims, tokensOf } from './geometry.js';
import type { Scheduler } from './schedulers/scheduler.js';
import type { TransformerSignature } from './signature.js';
import type { PromptEmbeddings } from './text-encoder.js';

/** Guidance branches: with the prompt, and with the negative prompt. */
export const BRANCHES = ['cond', 'uncond'] as const;

export type Branch = (typeof BRANCHES)[number];

/** What one call of the transformer gets. */
export interface DenoiserInput {
  /** `[channels, frames, height, width]` */
  readonly latents: Float32Array;
  readonly shape: LatentShape;
  /** In [0, 1000]; the same for every token. */
  readonly timestep: number;
  readonly text: PromptEmbeddings;
}

export interface DenoiserOutput {
  /** Flow velocity, in the latents' shape. */
  readonly velocity: Float32Array;
  readonly ms: number;
}

/** How a transformer graph is fed. */
export interface TransformerFace {
  readonly signature: TransformerSignature;
  /** Height and width of a token in latent units. */
  readonly patch: readonly [number, number];
}

/**
 * The graph inputs for one call, by the types and ranks the graph declares.
 * @throws WanqError MODEL_UNSUPPORTED for a timestep of another rank than 0, 1 or 2
 */
export function transformerFeeds(
  face: TransformerFace,
  { latents, shape, timestep, text }: DenoiserInput,
): Record<string, HostTensor> {
  const { signature: s } = face;
  return {
    [s.latents.name]: fromFloat32(latents, latentDims(shape), s.latents.dtype),
    [s.timestep.name]: timestepTensor(face, timestep, shape),
    [s.text.name]: fromFloat32(text.data, [1, text.length, text.features], s.text.dtype),
  };
}

/** [B] for most exports; [B, tokens] where they keep diffusers' expand_timesteps. */
function timestepTensor({ signature, patch }: TransformerFace, timestep: number, shape: LatentShape): HostTensor {
  const { dims, dtype } = signature.timestep;
  const rank = dims?.length ?? 1;
  if (rank > 2) throw new WanqError('MODEL_UNSUPPORTED', `the timestep input has rank ${rank}; 0, 1 or 2 is supported`);
  const tokens = tokensOf(shape, patch);
  const size = rank === 0 ? [] : rank === 1 ? [1] : [1, tokens];
  return fromFloat32(new Float32Array(rank === 2 ? tokens : 1).fill(timestep), size, dtype);
}

/** @throws WanqError NON_FINITE where the prediction holds NaN or infinity */
export function velocityOf(output: HostTensor, timestep: number): Float32Array {
  const velocity = toFloat32(output);
  if (velocity.every(Number.isFinite)) return velocity;
  throw new WanqError('NON_FINITE', `the transformer's output at timestep ${timestep} holds NaN or infinity`, {
    hint: 'an FP16 overflow inside the model is the usual cause: run the FP32 model, or another device',
  });
}

/** Whether a graph takes integer timesteps, so that a fractional one loses its fraction. */
export function truncatesTimesteps({ timestep }: TransformerSignature): boolean {
  return timestep.dtype === 'int64' || timestep.dtype === 'int32';
}

/** A transformer session. */
export class Denoiser {
  readonly session: Session;
  readonly #face: TransformerFace;

  constructor(session: Session, face: TransformerFace) {
    this.session = session;
    this.#face = face;
  }

  /** @throws WanqError NON_FINITE where the prediction holds NaN or infinity */
  async predict(input: DenoiserInput): Promise<DenoiserOutput> {
    const { output } = this.#face.signature;
    const { outputs, ms } = await this.session.run(transformerFeeds(this.#face, input), [output]);
    return { velocity: velocityOf(outputs[output] as HostTensor, input.timestep), ms };
  }
}

/** One call of the transformer inside a chain. */
export interface ChainCall {
  readonly step: number;
  readonly branch: Branch;
  readonly input: DenoiserInput;
}

/** What a step of the chain is made of. */
export interface ChainStep {
  /** Latents before it. */
  readonly sample: Float32Array;
  /** The transformer's prediction, with guidance. */
  readonly velocity: Float32Array;
}

export interface ChainOptions {
  readonly scheduler: Scheduler;
  readonly shape: LatentShape;
  /** Latents to start from. */
  readonly noise: Float32Array;
  readonly text: Readonly<Record<Branch, PromptEmbeddings>>;
  /** Classifier-free guidance scale; at 1 or below only the prompt's branch runs, as in diffusers. */
  readonly guidance: number;
  /**
   * Runs the transformer for all branches of a step, which do not depend on each other. Stands between the chain and the session, to observe or to record.
   * @returns one velocity for each call
   */
  predict(calls: readonly ChainCall[]): Promise<readonly Float32Array[]>;
  /** @param latents after the step */
  onStep?(step: number, latents: Float32Array, of: ChainStep): void | Promise<void>;
}

/** @returns branches that run at this guidance scale */
export function branchesAt(guidance: number): readonly Branch[] {
  return guidance > 1 ? BRANCHES : ['cond'];
}

/**
 * The denoising chain of diffusers' WanPipeline: both branches as separate forwards, guidance, scheduler step.
 * @returns the finished latents
 */
export async function runChain(options: ChainOptions): Promise<Float32Array> {
  const { scheduler, shape, text, guidance } = options;
  let latents = options.noise;
  for (const [step, timestep] of scheduler.timesteps.entries()) {
    const calls = branchesAt(guidance).map(
      (branch): ChainCall => ({ step, branch, input: { latents, shape, timestep, text: text[branch] } }),
    );
    const [cond, uncond] = (await options.predict(calls)) as [Float32Array, Float32Array | undefined];
    const velocity = uncond
      ? cond.map((c, i) => {
          const u = uncond[i] as number;
          return u + guidance * (c - u);
        })
      : cond;
    const sample = latents;
    latents = scheduler.step(velocity, sample);
    await options.onStep?.(step, latents, { sample, velocity });
  }
  return latents;
}
