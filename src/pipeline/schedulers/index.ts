import { z } from 'zod';
import { WanqError } from '../../errors.js';
import { exists } from '../../util/files.js';
import { readJson } from '../../util/json.js';
import type { PipelineFolder } from '../layout.js';
import { FlowMatchEulerScheduler } from './flow-match-euler.js';
import type { Scheduler } from './scheduler.js';
import { UniPCScheduler } from './unipc.js';

export type { Scheduler } from './scheduler.js';

const config = z.looseObject({
  _class_name: z.string(),
  num_train_timesteps: z.int().positive().default(1000),
  use_dynamic_shifting: z.boolean().default(false),
  shift_terminal: z.number().nullish(),
  use_karras_sigmas: z.boolean().nullish(),
  use_exponential_sigmas: z.boolean().nullish(),
  use_beta_sigmas: z.boolean().nullish(),
  flow_shift: z.number().positive().default(1),
  shift: z.number().positive().default(1),
  use_flow_sigmas: z.boolean().default(false),
  prediction_type: z.string().default('epsilon'),
  predict_x0: z.boolean().default(true),
  thresholding: z.boolean().default(false),
  solver_order: z.int().min(1).max(3).default(2),
  solver_type: z.string().default('bh2'),
  lower_order_final: z.boolean().default(true),
  disable_corrector: z.array(z.int()).default([]),
  final_sigmas_type: z.enum(['zero', 'sigma_min']).default('zero'),
  invert_sigmas: z.boolean().default(false),
  stochastic_sampling: z.boolean().default(false),
});

/** Makes a fresh scheduler for one run of the chain. */
export type SchedulerFactory = (steps: number) => Scheduler;

/** The scheduler that Wan2.2-TI2V-5B is published with. */
const WAN22_5B = {
  _class_name: 'UniPCMultistepScheduler',
  prediction_type: 'flow_prediction',
  use_flow_sigmas: true,
  flow_shift: 5,
} as const;

/**
 * Reads `scheduler/scheduler_config.json`.
 *
 * @param optional whether a folder without it gets Wan2.2-TI2V-5B's scheduler
 * @throws WanqError SCHEDULER_UNSUPPORTED for a class or setting that wanq would sample differently from diffusers
 */
export async function readScheduler(folder: PipelineFolder, optional = false): Promise<SchedulerFactory> {
  if (optional && !(await exists(folder.path('scheduler')))) return schedulerFrom(WAN22_5B, 'the default scheduler');
  const file = await folder.requireFile('scheduler', 'scheduler_config.json');
  return schedulerFrom(await readJson(file, config, 'PIPELINE_INVALID'), file);
}

/** @param where names the configuration in errors */
export function schedulerFrom(settings: z.input<typeof config>, where: string): SchedulerFactory {
  const c = config.parse(settings);
  const refuse = (what: string): never => {
    throw new WanqError('SCHEDULER_UNSUPPORTED', `${where}: ${what} is not supported`, {
      hint: 'use UniPCMultistepScheduler (flow_prediction, use_flow_sigmas) or FlowMatchEulerDiscreteScheduler',
    });
  };
  for (const flag of [
    'use_dynamic_shifting',
    'use_karras_sigmas',
    'use_exponential_sigmas',
    'use_beta_sigmas',
  ] as const) {
    if (c[flag]) refuse(flag);
  }
  if (c.shift_terminal) refuse('shift_terminal');
  const trainTimesteps = c.num_train_timesteps;
  switch (c._class_name) {
    case 'UniPCMultistepScheduler': {
      const solver = c.solver_type;
      if (!c.use_flow_sigmas) refuse('use_flow_sigmas = false');
      if (c.prediction_type !== 'flow_prediction') refuse(`prediction_type ${c.prediction_type}`);
      if (!c.predict_x0) refuse('predict_x0 = false');
      if (c.thresholding) refuse('thresholding');
      if (solver !== 'bh1' && solver !== 'bh2') return refuse(`solver_type ${solver}`);
      if (!c.lower_order_final && c.solver_order > 1 && c.final_sigmas_type === 'zero') {
        refuse('lower_order_final = false down to sigma 0 (diffusers itself ends in NaN there)');
      }
      return (steps) =>
        new UniPCScheduler({
          steps,
          trainTimesteps,
          flowShift: c.flow_shift,
          order: c.solver_order,
          solver,
          lowerOrderFinal: c.lower_order_final,
          disableCorrector: c.disable_corrector,
          finalSigma: c.final_sigmas_type,
        });
    }
    case 'FlowMatchEulerDiscreteScheduler':
      if (c.invert_sigmas) refuse('invert_sigmas');
      if (c.stochastic_sampling) refuse('stochastic_sampling');
      return (steps) => new FlowMatchEulerScheduler({ steps, trainTimesteps, shift: c.shift });
    default:
      return refuse(`scheduler ${c._class_name}`);
  }
}
