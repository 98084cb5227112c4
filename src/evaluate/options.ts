import type { VideoSize } from '../pipeline/geometry.js';
import type { Video } from '../pipeline/vae.js';
import type { Sheets } from '../report/results.js';
import type { Journal } from './journal.js';
import type { SharedReference } from './shared-reference.js';

/** How the noise floor is made: what nobody would call a change of the model. */
export const NOISE_FLOORS = ['fp16-weights', 'optimization-level', 'threads', 'none'] as const;

export type NoiseFloor = (typeof NOISE_FLOORS)[number];

export interface EvaluateOptions extends VideoSize {
  /**
   * Pipeline folders. Prompts are encoded and latents decoded with the reference's components for both; where the quantized pipeline has others,
   * what they drift is measured beside that.
   */
  readonly reference: string;
  readonly quantized: string;
  readonly prompts: readonly string[];
  readonly negativePrompt: string;
  readonly seedsPerPrompt: number;
  /** Video i starts from the noise of seed + i. */
  readonly seed: number;
  readonly steps: number;
  readonly guidance: number;
  /** Noise levels of the re-noising test, in (0, 1). */
  readonly sigmas: readonly number[];
  /** Clips file or folder; absent: the reference model's own finished latents. */
  readonly clips?: string | undefined;
  /** Folder of a feature network for FVD. */
  readonly features?: string | undefined;
  /** LPIPS-style network. */
  readonly perceptual?: string | undefined;
  /** Weights that the quantized model was fine-tuned to, which its linears are held against. */
  readonly weights?: string | undefined;
  /** SQNR of the transformer's output with one linear quantized, dB, for the table of linears. */
  readonly sensitivities?: ReadonlyMap<string, number> | undefined;
  /** Videos that teacher forcing, re-noising (without clips), the noise floor, drift and pictures look at. */
  readonly inspected: number;
  readonly noiseFloor: NoiseFloor;
  /** Whether each linear is held against the reference's by itself; default true. */
  readonly linears?: boolean | undefined;
  readonly device: string;
  readonly deviceReference?: string | undefined;
  /** Where the VAE and the networks that look at videos run; absent: on `device`. */
  readonly deviceVae?: string | undefined;
  /** Of evaluations that differ in `quantized` and `noiseFloor` alone. */
  readonly shared?: SharedReference | undefined;
  /** Keeps what is finished, and gives what an interrupted evaluation with the same options had. */
  readonly journal?: Journal | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: EvaluationProgress) => void) | undefined;
  /** Gets the frames of inspected videos. @returns names of the pictures made of them, for the results */
  readonly onVideo?: ((index: number, reference: Video, quantized: Video) => Promise<Pictures>) | undefined;
}

export interface Pictures {
  readonly strip: string;
  readonly sheets: Sheets | null;
}

export interface EvaluationProgress {
  readonly stage: string;
  readonly done: number;
  readonly total: number;
}
