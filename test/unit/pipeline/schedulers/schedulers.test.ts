import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PipelineFolder } from '../../../../src/pipeline/layout.js';
import { readScheduler, type Scheduler, schedulerFrom } from '../../../../src/pipeline/schedulers/index.js';
import { linspace, shiftSigma } from '../../../../src/pipeline/schedulers/scheduler.js';
import { expectRefusal, expectRejection, thrownBy } from '../../helpers/errors.js';
import { temporaryFolder } from '../../helpers/temporary.js';

const UNIPC = {
  _class_name: 'UniPCMultistepScheduler',
  use_flow_sigmas: true,
  prediction_type: 'flow_prediction',
  flow_shift: 5,
};
const EULER = { _class_name: 'FlowMatchEulerDiscreteScheduler', shift: 5 };

const make = (config: object, steps: number): Scheduler =>
  schedulerFrom(config as Parameters<typeof schedulerFrom>[0], 'test')(steps);

describe('linspace and shiftSigma', () => {
  it('spread evenly, both ends included', () => {
    expect(linspace(1, 0, 5)).toEqual([1, 0.75, 0.5, 0.25, 0]);
    expect(linspace(3, 9, 1)).toEqual([3]);
  });

  it('move sigmas toward 1 and leave the ends where they are', () => {
    expect(shiftSigma(0, 5)).toBe(0);
    expect(shiftSigma(1, 5)).toBe(1);
    expect(shiftSigma(0.5, 3)).toBeCloseTo(0.75, 15);
    expect(shiftSigma(0.3, 1)).toBeCloseTo(0.3, 15);
  });
});

describe('UniPC', () => {
  it('has truncated timesteps, and begins just below sigma 1', () => {
    const { sigmas, timesteps } = make({ ...UNIPC, flow_shift: 1 }, 2);
    expect([...sigmas]).toEqual([1 - 1e-6, 0.5005, 0].map(Math.fround));
    expect(timesteps).toEqual([999, 500]);
  });

  it('shifts its sigmas', () => {
    const { sigmas } = make({ ...UNIPC, flow_shift: 3 }, 2);
    expect(sigmas[1]).toBeCloseTo((3 * 0.5005) / (1 + 2 * 0.5005), 6);
  });

  it('ends at its last sigma where the configuration says so', () => {
    const { sigmas } = make({ ...UNIPC, final_sigmas_type: 'sigma_min' }, 4);
    expect(sigmas.at(-1)).toBe(sigmas.at(-2));
  });
});

describe('FlowMatchEuler', () => {
  it('has fractional timesteps from 1 to 1 / 1000', () => {
    const { sigmas, timesteps } = make({ ...EULER, shift: 1 }, 3);
    expect([...sigmas]).toEqual([1, 0.5005, 0.001, 0].map(Math.fround));
    expect(timesteps).toEqual([1000, Math.fround(Math.fround(0.5005) * 1000), 1]);
  });

  it('shifts the lower end once more than the rest, as diffusers does', () => {
    const once = 0.005 / 1.004;
    const { sigmas } = make(EULER, 2);
    expect(sigmas[1]).toBeCloseTo((5 * once) / (1 + 4 * once), 6);
    expect(make(EULER, 2).timestepOf(0.25)).toBe(250);
  });

  it('steps along the velocity by the difference of sigmas', () => {
    const scheduler = make({ ...EULER, shift: 1 }, 3);
    const next = scheduler.step(Float32Array.of(2, -4), Float32Array.of(1, 1));
    expect(next[0]).toBeCloseTo(1 - 2 * 0.4995, 5);
    expect(next[1]).toBeCloseTo(1 + 4 * 0.4995, 5);
  });
});

const configs = fc.oneof(
  fc.record({
    _class_name: fc.constant('UniPCMultistepScheduler'),
    use_flow_sigmas: fc.constant(true),
    prediction_type: fc.constant('flow_prediction'),
    flow_shift: fc.double({ min: 1, max: 12, noNaN: true }),
    solver_order: fc.integer({ min: 1, max: 3 }),
    disable_corrector: fc.subarray([0, 1, 2]),
  }),
  fc.record({
    _class_name: fc.constant('FlowMatchEulerDiscreteScheduler'),
    shift: fc.double({ min: 1, max: 12, noNaN: true }),
  }),
);

describe('every scheduler', () => {
  const steps = fc.integer({ min: 1, max: 30 });

  it('goes down from noise to nothing, with one timestep for each step', () => {
    fc.assert(
      fc.property(configs, steps, (config, count) => {
        const { sigmas, timesteps } = make(config, count);
        expect(timesteps).toHaveLength(count);
        expect(sigmas).toHaveLength(count + 1);
        expect(sigmas[0]).toBeGreaterThan(0.9999);
        expect(sigmas.at(-1)).toBe(0);
        for (let i = 0; i < count; i++) {
          expect(sigmas[i + 1]).toBeLessThan(sigmas[i] as number);
          expect(timesteps[i]).toBeGreaterThan(0);
          expect(timesteps[i]).toBeLessThanOrEqual(1000);
        }
      }),
    );
  });

  /** The last sample of a run whose model always predicts the velocity away from `clean`. */
  function denoise(scheduler: Scheduler, clean: readonly number[]): Float32Array {
    let sample = Float32Array.from(clean, (_, i) => Math.cos(i + 1) * 2);
    for (const sigma of scheduler.sigmas.slice(0, -1)) {
      const velocity = sample.map((x, k) => (x - (clean[k] as number)) / sigma);
      sample = Float32Array.from(scheduler.step(velocity, sample));
    }
    return sample;
  }

  it('arrives at the clean sample where the model knows it', () => {
    const samples = fc.array(fc.double({ min: -3, max: 3, noNaN: true }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(configs, steps, samples, (config, count, clean) => {
        const arrived = denoise(make(config, count), clean);
        clean.forEach((x, k) => {
          expect(arrived[k]).toBeCloseTo(x, 3);
        });
      }),
    );
  });

  it('arrives somewhere with bh1', () => {
    expect(denoise(make({ ...UNIPC, solver_type: 'bh1' }, 4), [1, -2]).every(Number.isFinite)).toBe(true);
  });

  it('starts anew for every run', () => {
    const factory = schedulerFrom(UNIPC, 'test');
    const run = (scheduler: Scheduler): number[] => {
      const results: number[] = [];
      let sample = Float32Array.of(1);
      for (let i = 0; i < 4; i++) {
        sample = Float32Array.from(scheduler.step(Float32Array.of(i), sample));
        results.push(sample[0] as number);
      }
      return results;
    };
    expect(run(factory(4))).toEqual(run(factory(4)));
  });

  it('leaves its arguments as they were', () => {
    for (const config of [UNIPC, EULER]) {
      const scheduler = make(config, 3);
      const [velocity, sample] = [Float32Array.of(1, 2), Float32Array.of(3, 4)];
      scheduler.step(velocity, sample);
      scheduler.step(velocity, sample);
      expect([...velocity, ...sample]).toEqual([1, 2, 3, 4]);
    }
  });
});

describe('schedulerFrom', () => {
  it.each<[object, string]>([
    [{ ...UNIPC, _class_name: 'DDIMScheduler' }, 'DDIMScheduler'],
    [{ ...UNIPC, use_flow_sigmas: false }, 'use_flow_sigmas'],
    [{ ...UNIPC, use_flow_sigmas: undefined }, 'use_flow_sigmas'],
    [{ ...UNIPC, prediction_type: 'epsilon' }, 'epsilon'],
    [{ ...UNIPC, prediction_type: undefined }, 'prediction_type'],
    [{ ...UNIPC, predict_x0: false }, 'predict_x0'],
    [{ ...UNIPC, thresholding: true }, 'thresholding'],
    [{ ...UNIPC, solver_type: 'heun' }, 'heun'],
    [{ ...UNIPC, lower_order_final: false }, 'lower_order_final'],
    [{ ...UNIPC, use_karras_sigmas: true }, 'use_karras_sigmas'],
    [{ ...UNIPC, use_exponential_sigmas: true }, 'use_exponential_sigmas'],
    [{ ...UNIPC, use_beta_sigmas: true }, 'use_beta_sigmas'],
    [{ ...UNIPC, use_dynamic_shifting: true }, 'use_dynamic_shifting'],
    [{ ...EULER, use_dynamic_shifting: true }, 'use_dynamic_shifting'],
    [{ ...EULER, shift_terminal: 0.1 }, 'shift_terminal'],
    [{ ...EULER, invert_sigmas: true }, 'invert_sigmas'],
    [{ ...EULER, stochastic_sampling: true }, 'stochastic_sampling'],
    [{ ...EULER, use_karras_sigmas: true }, 'use_karras_sigmas'],
  ])('refuses %j and names the setting', (config, setting) => {
    const error = thrownBy(() => make(config, 4));
    expect(error.code).toBe('SCHEDULER_UNSUPPORTED');
    expect(error.message).toContain(setting);
    expect(error.message).toMatch(/^test: /);
  });

  it('refuses before it is asked for steps', () => {
    expectRefusal(() => schedulerFrom({ ...UNIPC, thresholding: true }, 'test'), 'SCHEDULER_UNSUPPORTED');
  });

  it('passes over settings that change nothing, null too', () => {
    const config = { ...UNIPC, use_karras_sigmas: null, beta_start: 0.1, timestep_spacing: 'linspace' };
    expect(make(config, 4).timesteps).toEqual(make(UNIPC, 4).timesteps);
  });
});

describe('readScheduler', () => {
  async function pipeline(config: unknown): Promise<PipelineFolder> {
    const root = await temporaryFolder();
    for (const name of ['transformer', 'scheduler']) await mkdir(path.join(root, name));
    await writeFile(path.join(root, 'model_index.json'), '{}');
    await writeFile(path.join(root, 'transformer', 'model.onnx'), '');
    await writeFile(path.join(root, 'scheduler', 'scheduler_config.json'), JSON.stringify(config));
    return PipelineFolder.open(root);
  }

  it('reads the configuration of a pipeline', async () => {
    const factory = await readScheduler(await pipeline(EULER));
    expect(factory(3).timesteps).toEqual(make(EULER, 3).timesteps);
  });

  it.each([
    [{}],
    [[]],
    [{ ...UNIPC, flow_shift: 0 }],
    [{ ...UNIPC, flow_shift: '5' }],
    [{ ...UNIPC, solver_order: 4 }],
    [{ ...UNIPC, num_train_timesteps: 0 }],
    [{ ...UNIPC, final_sigmas_type: 'other' }],
  ])('refuses %j', async (config) => {
    await expectRejection(readScheduler(await pipeline(config)), 'PIPELINE_INVALID');
  });
});
