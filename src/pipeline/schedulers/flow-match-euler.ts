import { linspace, type Scheduler, shiftSigma } from './scheduler.js';

export interface FlowMatchEulerOptions {
  readonly steps: number;
  readonly shift: number;
  readonly trainTimesteps: number;
}

/** Euler steps along the flow: `FlowMatchEulerDiscreteScheduler` in diffusers. Its timesteps are fractional. */
export class FlowMatchEulerScheduler implements Scheduler {
  readonly name = 'FlowMatchEulerDiscreteScheduler';
  readonly timesteps: readonly number[];
  readonly sigmas: readonly number[];
  readonly #trainTimesteps: number;
  #index = 0;

  constructor({ steps, shift, trainTimesteps }: FlowMatchEulerOptions) {
    this.#trainTimesteps = trainTimesteps;
    // diffusers shifts its range's lower end when it is built, in float32, and all sigmas again when steps are set.
    const { fround } = Math;
    const start = fround(1 / trainTimesteps);
    const lowest = fround(fround(shift * start) / fround(1 + fround((shift - 1) * start)));
    const sigmas = linspace(1, lowest, steps).map((sigma) => Math.fround(shiftSigma(sigma, shift)));
    this.sigmas = [...sigmas, 0];
    this.timesteps = sigmas.map((sigma) => this.timestepOf(sigma));
  }

  timestepOf(sigma: number): number {
    return Math.fround(Math.fround(sigma) * this.#trainTimesteps);
  }

  step(velocity: Float32Array, sample: Float32Array): Float32Array {
    const i = this.#index++;
    const dt = (this.sigmas[i + 1] as number) - (this.sigmas[i] as number);
    return sample.map((x, k) => x + dt * (velocity[k] as number));
  }
}
