import { mergeCalibrations } from '../../calibrate/merge.js';
import type { Action } from '../command.js';

export const run: Action = async (context, { positional, flags }) => {
  const { output } = flags as { output: string };
  const summary = await mergeCalibrations(positional, output);
  context.print(
    context.json
      ? JSON.stringify(summary, null, 2)
      : `${summary.output}: ${summary.activations} activations over ${summary.prompts} prompts`,
  );
  return undefined;
};
