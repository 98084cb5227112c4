import { type ImportOptions, type ImportSummary, importCheckpoint } from '../../import/import.js';
import { formatBytes } from '../../report/format.js';
import type { Action } from '../command.js';
import { startProgress } from '../ui/progress.js';

type Flags = Omit<ImportOptions, 'checkpoint' | 'signal' | 'onProgress'>;

export const run: Action = async (context, { positional, flags }) => {
  const [checkpoint] = positional as [string];
  const progress = startProgress(context, 'importing');
  const summary = await importCheckpoint({
    ...(flags as unknown as Flags),
    checkpoint,
    signal: context.signal,
    onProgress: (done, total) => progress.update(`copying ${formatBytes(done)} of ${formatBytes(total)}`, done / total),
  }).finally(() => progress.stop());
  if (context.json) {
    context.print(JSON.stringify(summary, null, 2));
    return undefined;
  }
  context.print(`${summary.output}: ${described(summary)}`);
  const { checked, lacking, others, imageToVideo, output } = summary;
  context.say(`checked: onnxruntime loads the graph${checked === 'ran' ? ' and ran it on a random input' : ''}`);
  if (imageToVideo) context.say('warning: the model takes an image too, which wanq calibrate does not feed');
  if (others.length > 0) {
    context.say(`left out: ${others.join(', ')}: to import it too, name that folder and another output`);
  }
  if (lacking.length > 0) {
    context.say(
      `lacking: ${lacking.join(', ')}: python/export_wan.py makes the ONNX models; --components takes them from a pipeline`,
    );
  }
  context.say(
    `next: wanq calibrate ${output} ${lacking.length > 0 ? '--synthetic-inputs 1' : '--prompts FILE'} -o FILE`,
  );
  return undefined;
};

function described({ blocks, tensors, weightBytes, shards, types, placed }: ImportSummary): string {
  const files = shards.length === 1 ? '1 safetensors file' : `${shards.length} safetensors files`;
  const how = placed === 'linked' ? 'linked, none copied' : 'copied';
  return `${blocks} blocks, ${tensors} tensors (${Object.keys(types).join(', ')}), ${formatBytes(weightBytes)} of weights in ${files}, ${how}`;
}
