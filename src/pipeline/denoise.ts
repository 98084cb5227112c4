import { WanqError } from '../errors.js';
import type { Session } from '../runtime/host.js';
import { fromFloat32, type HostTensor, toFloat32 } from '../runtime/tensor.js';
import { type LatentShape, latentDims } from './geometry.js';
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
  /** Other graph outputs that were asked for. */
  readonly extra: Readonly<Record<string, HostTensor>>;
  readonly ms: number;
  /** Largest resident set of the runtime's process so far, bytes. */
  readonly peakBytes: number;
}

/** A transformer session, fed by the types and ranks its graph declares. */
export class Denoiser {
  readonly session: Session;
  readonly #signature: TransformerSignature;
  readonly #patch: readonly [number, number];

  /** @param patch height and width of a token in latent units */
  constructor(session: Session, signature: TransformerSignature, patch: readonly [number, number]) {
    this.session = session;
    this.#signature = signature;
    this.#patch = patch;
  }

  /** Whether the graph takes integer timesteps, so that a fractional one loses its fraction. */
  get truncatesTimesteps(): boolean {
    return this.#signature.timestep.dtype === 'int64' || this.#signature.timestep.dtype === 'int32';
  }

  /**
   * @param feeds further graph inputs
   * @param fetches further graph outputs to return
   * @throws WanqError NON_FINITE where the prediction holds NaN or infinity
   */
  async predict(
    { latents, shape, timestep, text }: DenoiserInput,
    feeds: Readonly<Record<string, HostTensor>> = {},
    fetches: readonly string[] = [],
  ): Promise<DenoiserOutput> {
    const s = this.#signature;
    const { outputs, ms, peakBytes } = await this.session.run(
      {
        ...feeds,
        [s.latents.name]: fromFloat32(latents, latentDims(shape), s.latents.dtype),
        [s.timestep.name]: this.#timestepTensor(timestep, shape),
        [s.text.name]: fromFloat32(text.data, [1, text.length, text.features], s.text.dtype),
      },
      [s.output, ...fetches],
    );
    const velocity = toFloat32(outputs[s.output] as HostTensor);
    if (!velocity.every(Number.isFinite)) {
      throw new WanqError('NON_FINITE', `the transformer's output at timestep ${timestep} holds NaN or infinity`, {
        hint: 'an FP16 overflow inside the model is the usual cause: run the FP32 model, or another device',
      });
    }
    const extra = Object.fromEntries(fetches.map((name) => [name, outputs[name] as HostTensor]));
    return { velocity, extra, ms, peakBytes };
  }

  /** [B] for most exports; [B, tokens] where they keep diffusers' expand_timesteps. */
  #timestepTensor(timestep: number, { frames, height, width }: LatentShape): HostTensor {
    const { dims, dtype } = this.#signature.timestep;
    const rank = dims?.length ?? 1;
    if (rank > 2)
      throw new WanqError('MODEL_UNSUPPORTED', `the timestep input has rank ${rank}; 0, 1 or 2 is supported`);
    const tokens = frames * Math.floor(height / this.#patch[0]) * Math.floor(width / this.#patch[1]);
    const shape = rank === 0 ? [] : rank === 1 ? [1] : [1, tokens];
    return fromFloat32(new Float32Array(rank === 2 ? tokens : 1).fill(timestep), shape, dtype);
  }
}

/** One call of the transformer inside a chain. */
export interface ChainCall {
  readonly step: number;
  readonly timestep: number;
  readonly branch: Branch;
  /** Latents before the step. */
  readonly latents: Float32Array;
}

export interface ChainOptions {
  readonly scheduler: Scheduler;
  readonly shape: LatentShape;
  /** Latents to start from. */
  readonly noise: Float32Array;
  readonly text: Readonly<Record<Branch, PromptEmbeddings>>;
  /** Classifier-free guidance scale; at 1 or below only the prompt's branch runs, as in diffusers. */
  readonly guidance: number;
  /** Runs the transformer. Stands between the chain and the session, to observe or to record. */
  predict(input: DenoiserInput, call: ChainCall): Promise<Float32Array>;
  onStep?(step: number, latents: Float32Array): void | Promise<void>;
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
    const predictions: Partial<Record<Branch, Float32Array>> = {};
    for (const branch of branchesAt(guidance)) {
      const input = { latents, shape, timestep, text: text[branch] };
      predictions[branch] = await options.predict(input, { step, timestep, branch, latents });
    }
    const { cond, uncond } = predictions as { cond: Float32Array; uncond?: Float32Array };
    const velocity = uncond
      ? cond.map((c, i) => {
          const u = uncond[i] as number;
          return u + guidance * (c - u);
        })
      : cond;
    latents = scheduler.step(velocity, latents);
    await options.onStep?.(step, latents);
  }
  return latents;
}
