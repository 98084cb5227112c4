import { WanqError } from '../../errors.js';
import { generate } from '../../generate/generate.js';
import type { GenerateOptions, GenerateSummary } from '../../generate/options.js';
import { formatBytes, formatDuration } from '../../report/format.js';
import type { Action } from '../command.js';
import { startProgress } from '../ui/progress.js';

type Flags = Omit<GenerateOptions, 'pipeline' | 'preview' | 'signal' | 'onProgress'> & {
  readonly preview?: string;
  readonly previewEvery: number;
};

export const run: Action = async (context, { positional, flags, given }) => {
  const [pipeline] = positional as [string];
  const { preview: file, previewEvery: every, ...options } = flags as unknown as Flags;
  if (file === undefined && given.has('previewEvery')) {
    throw new WanqError('USAGE', '--preview-every says how often, not where to', { hint: 'give --preview FILE.png' });
  }
  const progress = startProgress(context, 'loading the pipeline');
  const summary = await generate({
    ...options,
    pipeline,
    preview: file === undefined ? undefined : { file, every },
    signal: context.signal,
    onProgress: ({ stage, done, total }) => progress.update(`${stage}: step ${done}/${total}`, done / total),
  }).finally(() => progress.stop());
  if (summary.truncatedTimesteps) {
    context.say(
      'warning: the scheduler makes fractional timesteps, and this graph takes whole ones: fractions are cut off',
    );
  }
  context.print(context.json ? JSON.stringify(summary, null, 2) : described(summary));
  return undefined;
};

function described(made: GenerateSummary): string {
  const { output, bytes, frames, height, width, fps, seed, steps, precision, textEncoder, transformer, vaeDecoder } =
    made;
  const providers = [...new Set([textEncoder, transformer, vaeDecoder].map(({ provider }) => provider))].join(', ');
  const time = textEncoder.ms + transformer.ms + vaeDecoder.ms + made.writingMs;
  return [
    `${output}: ${formatBytes(bytes)}, ${frames} frames of ${width} x ${height} at ${fps} a second`,
    `${precision}, steps ${steps}, seed ${seed}, on ${providers}: ${formatDuration(time)}, peak memory ${formatBytes(made.peakBytes)}`,
  ].join('\n');
}
