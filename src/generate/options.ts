import type { VideoSize } from '../pipeline/geometry.js';
import type { Provenance } from './provenance.js';

export interface PreviewOptions {
  /** PNG to write, and to write anew as the video comes out of the noise. */
  readonly file: string;
  /** Steps from one picture to the next. */
  readonly every: number;
}

export interface GenerateOptions extends VideoSize {
  /** Pipeline folder. */
  readonly pipeline: string;
  readonly prompt: string;
  readonly negativePrompt: string;
  readonly steps: number;
  readonly guidance: number;
  readonly seed: number;
  readonly device: string;
  /** Frames a second of the file, a whole number from 1 to {@link MAX_FPS}. */
  readonly fps: number;
  /** File to write; its extension names the format. */
  readonly output: string;
  /** Whether the file tells how it was made, prompts included. */
  readonly metadata: boolean;
  readonly preview?: PreviewOptions | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: GenerateProgress) => void) | undefined;
}

export type Stage = 'text encoder' | 'transformer' | 'preview' | 'vae decoder' | 'writing';

export interface GenerateProgress {
  readonly stage: Stage;
  /** Denoising steps. */
  readonly done: number;
  readonly total: number;
}

/** What one part of the pipeline took. */
export interface PartCost {
  /** Execution provider that ran it. */
  readonly provider: string;
  /** Wall time, loading included, ms. */
  readonly ms: number;
  /** Largest resident set of its process, bytes. */
  readonly peakBytes: number;
}

export interface GenerateSummary extends Provenance {
  readonly output: string;
  readonly bytes: number;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  readonly fps: number;
  /** As asked for. */
  readonly device: string;
  readonly textEncoder: PartCost;
  readonly transformer: PartCost & { readonly forwards: number };
  readonly vaeDecoder: PartCost;
  /** Making the file of the frames, ms. */
  readonly writingMs: number;
  /** Of the runtime's processes that were there at one time; this process and its frames are not in it. */
  readonly peakBytes: number;
  /** Whether the graph takes whole timesteps and the scheduler makes others. */
  readonly truncatedTimesteps: boolean;
}

/** Encoders count frames in whole numbers a second. */
export const MAX_FPS = 120;

/** What Wan2.2-TI2V-5B was trained on. No configuration of a pipeline says it. */
export const DEFAULT_FPS = 24;
