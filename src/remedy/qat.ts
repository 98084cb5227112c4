import { rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { isInt8 } from '../quantize/precision.js';
import { quantizeByPlan } from './quantized.js';
import { MADE, quantizeCommand, type Rung } from './rung.js';
import { runScript } from './script.js';

/** Part of the package, beside what is compiled. */
const SCRIPT = fileURLToPath(new URL('../../python/qat.py', import.meta.url));

/** Name of the file with fine-tuned weights, as the script calls it. */
export const WEIGHTS_NAME = 'weights.safetensors';

/** Quantization-aware training: weights fine-tuned in torch, by distillation, for the plan. */
export const qat: Rung = {
  name: 'qat',
  applies: ({ plan }) => Object.values(plan.linears).some(({ precision }) => isInt8(precision)),
  does: () => 'weights fine-tuned for the plan against the reference (python/qat.py)',
  costs: 'no bytes, no speed; training: torch, the diffusers checkpoint, a GPU for models of size',
  commands: (context) => {
    const { calibration, base, stem } = context;
    const { checkpoint = 'CHECKPOINT', calibrationPrompts = 'CALIBRATION_PROMPTS', negativePrompt } = context;
    const tuned = `${stem}-qat.weights`;
    return [
      [
        ...['python3', SCRIPT, '--checkpoint', checkpoint, '--plan', base],
        ...['--calibration', calibration, '--prompts', calibrationPrompts, ...negative(negativePrompt), '-o', tuned],
      ],
      quantizeCommand(context, 'qat', path.join(tuned, 'plan.json'), ['--weights', path.join(tuned, WEIGHTS_NAME)]),
    ];
  },
  run: async (attempt) => {
    const { calibration, checkpoint, calibrationPrompts, measured, base, work, python, signal, onProgress } = attempt;
    if (checkpoint === undefined || calibrationPrompts === undefined) {
      return { made: false, why: 'not run: it needs --checkpoint and --calibration-prompts' };
    }
    const tuned = path.join(work, 'tuned');
    const sources = ['--checkpoint', checkpoint, '--plan', base, '--calibration', calibration];
    const prompts = ['--prompts', calibrationPrompts, ...negative(measured.negativePrompt)];
    const args = [SCRIPT, ...sources, ...prompts, '-o', tuned];
    await runScript(python, args, { signal, onLine: (line) => onProgress?.(line) });
    await quantizeByPlan(attempt, path.join(tuned, 'plan.json'), path.join(tuned, WEIGHTS_NAME));
    // Its plan, with the ranges that were learned, lies in the pipeline.
    await rename(path.join(tuned, WEIGHTS_NAME), path.join(work, WEIGHTS_NAME));
    await rm(tuned, { recursive: true });
    return MADE;
  },
};

/**
 * Finds out before hours of work whether the script finds what it imports.
 * @throws WanqError as {@link runScript}
 */
export function assertTunable(python: string, signal: AbortSignal | undefined): Promise<void> {
  return runScript(python, ['-c', 'import diffusers, safetensors, torch, transformers'], { signal, name: SCRIPT });
}

/** Calibration and evaluation have one in common; the script refuses another than the calibration's. */
function negative(prompt: string): string[] {
  return prompt === '' ? [] : ['--negative-prompt', prompt];
}
