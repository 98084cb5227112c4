/** How linears that are not quantized are stored. */
export const FLOAT_STORAGES = ['fp32', 'fp16'] as const;

export type FloatStorage = (typeof FLOAT_STORAGES)[number];

/** How far a written model is checked. `load`: its numbers, and onnxruntime loads it; `run`: a forward beside the original too. */
export const VERIFICATIONS = ['auto', 'load', 'run'] as const;

export type Verification = (typeof VERIFICATIONS)[number];
