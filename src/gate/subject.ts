/** What the gate needs to know of a measured number. */
export interface JudgedMetric {
  readonly value: number | null;
  readonly unit: string;
  readonly better?: 'lower' | 'higher' | null | undefined;
  /** Samples it was taken over. */
  readonly n?: number | undefined;
  readonly interval?:
    | {
        readonly low: number | null;
        readonly high: number | null;
        readonly level: number;
        /** Prompts that were resampled. */
        readonly units: number;
      }
    | undefined;
  /** Of the samples. */
  readonly median?: number | null | undefined;
  readonly worst?: number | null | undefined;
  readonly note?: string | undefined;
}

export interface JudgedStep {
  /** From 0. */
  readonly step: number;
  readonly timestep: number;
  readonly branch: string;
  /** dB. */
  readonly sqnr: number | null;
}

export interface JudgedVideo {
  readonly prompt: string;
  readonly seed: number;
  /** dB. */
  readonly psnr: number | null;
  /** Of inspected videos, dB. */
  readonly sqnr: number | null;
}

export interface JudgedLinear {
  readonly linear: string;
  /** All dB. */
  readonly sqnr: number | null;
  readonly attainable: number | null;
  readonly excess: number | null;
  /** Scale of its input over the one of the plan's range. */
  readonly scaleRatio?: number | null | undefined;
}

export interface JudgedClip {
  readonly clip: number;
  readonly prompt: string;
  /** dB. */
  readonly drop: number | null;
}

/** What the gate needs of results.json. */
export interface JudgedResults {
  readonly settings: {
    readonly prompts: number;
    readonly promptsDigest: string;
    readonly seedsPerPrompt: number;
    readonly seed: number;
    readonly steps: number;
    readonly guidance: number;
    readonly negativePrompt: string;
    readonly scheduler: string;
    readonly latents: readonly number[];
    readonly sigmas: readonly number[];
    readonly clipsDigest: string | null;
    readonly featuresDigest: string | null;
  };
  readonly reference: { readonly fingerprint: string };
  readonly metrics: Readonly<Record<string, JudgedMetric>>;
  /** A row for each clip and sigma. */
  readonly psnrDrop: readonly JudgedClip[];
  readonly steps: readonly JudgedStep[];
  readonly videos: readonly JudgedVideo[];
  readonly linears: readonly JudgedLinear[];
}
