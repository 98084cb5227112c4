/** A sampler over the flow-matching path x_t = (1 - sigma) x_0 + sigma noise. */
export interface Scheduler {
  readonly name: string;
  /** What the transformer is told at each step, in [0, num_train_timesteps]. */
  readonly timesteps: readonly number[];
  /** One more than timesteps; the last is where sampling ends. */
  readonly sigmas: readonly number[];
  /** The timestep the transformer is told for any sigma in [0, 1], rounded as this scheduler rounds. */
  timestepOf(sigma: number): number;
  /**
   * One step. Call once for each timestep, in order.
   *
   * @param velocity the transformer's prediction at `sample`
   * @param sample latents at timesteps[i]
   * @returns latents at timesteps[i + 1]
   */
  step(velocity: Float32Array, sample: Float32Array): Float32Array;
}

/** numpy.linspace. */
export function linspace(from: number, to: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => (count === 1 ? from : from + ((to - from) * i) / (count - 1)));
}

/** Moves sigmas toward high noise (SD3, section 5.3.2): s' = shift s / (1 + (shift - 1) s). */
export function shiftSigma(sigma: number, shift: number): number {
  return (shift * sigma) / (1 + (shift - 1) * sigma);
}
