import type { VideoSize } from '../pipeline/geometry.js';
import type { Video } from '../pipeline/vae.js';
import type { SharedReference } from './shared-reference.js';

/** How the noise floor is made: what nobody would call a change of the model. */
export const NOISE_FLOORS = ['fp16-weights', 'optimization-level', 'none'] as const;

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
  /** Clips file; absent: the reference model's own finished latents. */
  readonly clips?: string | undefined;
  /** Folder of a feature network for FVD. */
  readonly features?: string | undefined;
  /** Videos that teacher forcing, re-noising (without a clips file), the noise floor and the strips look at. */
  readonly inspected: number;
  readonly noiseFloor: NoiseFloor;
  readonly device: string;
  readonly deviceReference?: string | undefined;
  /** Of evaluations that differ in `quantized` and `noiseFloor` alone. */
  readonly shared?: SharedReference | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: EvaluationProgress) => void) | undefined;
  /** Gets the frames of inspected videos. @returns the strip's file name for the results */
  readonly onVideo?: ((index: number, reference: Video, quantized: Video) => Promise<string>) | undefined;
}

export interface EvaluationProgress {
  readonly stage: string;
  readonly done: number;
  readonly total: number;
}
