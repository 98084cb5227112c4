import { THRESHOLD_METHODS } from '../numerics/thresholds/index.js';

/** How linears that are not quantized are stored. */
export const FLOAT_STORAGES = ['fp32', 'fp16'] as const;

export type FloatStorage = (typeof FLOAT_STORAGES)[number];

/** How far a written model is checked. `load`: its numbers, and onnxruntime loads it; `run`: a forward beside the original too. */
export const VERIFICATIONS = ['auto', 'load', 'run'] as const;

export type Verification = (typeof VERIFICATIONS)[number];

/** How the text encoder may be stored. `w8`: weight-only INT8. */
export const TEXT_ENCODER_FORMS = ['w8'] as const;

export type TextEncoderForm = (typeof TEXT_ENCODER_FORMS)[number];

/** How both halves of the VAE may be stored. */
export const VAE_FORMS = ['fp16'] as const;

export type VaeForm = (typeof VAE_FORMS)[number];

/** How scales of activations come about: measured in calibration, one a tensor; or computed in the graph, one a token. */
export const ACTIVATIONS = ['static', 'dynamic'] as const;

export type Activations = (typeof ACTIVATIONS)[number];

/** How ranges of activations are chosen. `auto`: for each, of these and of multiples of the range seen, what errs least at the linear's output. */
export const RANGE_METHODS = ['auto', ...THRESHOLD_METHODS] as const;

/** Percent of samples that method `percentile` keeps where nothing is said. */
export const DEFAULT_PERCENTILE = 99.999;

export type RangeMethod = (typeof RANGE_METHODS)[number];

/** Strength of smoothing: none, one alpha in [0, 1] for all, or for each activation what errs least at the linears' outputs. */
export type Smoothing = 'none' | 'auto' | number;
