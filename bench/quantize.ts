/**
 * `wanq quantize` on a model of full size, beside a plain read of its weights and `cp` of them with fsync: wall time from a cold page cache, and
 * peak memory of the whole process tree.
 *
 *   npm run build && npx tsx bench/quantize.ts [--model FOLDER | --shape 2-blocks-fp32|5b-fp32 --blocks N] [--runs N] [--peer]
 *
 * Without --model a pipeline is made first (two blocks: 1.7 GB; the 5B: 20 GB, and as much again for the copy).
 * --peer adds onnxruntime's own quantizer (PYTHON with onnx, onnxruntime and safetensors), which calibrates on one forward on the way.
 */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { compareWeights } from './lib/compare-weights.js';
import { makeFullShape, type Shape } from './lib/full-shape.js';
import { dropCaches, measure, median } from './lib/measure.js';
import { ROOT } from './lib/paths.js';
import { hasPeer, nodesOf, oneForward, peerCommand } from './lib/peer.js';
import { type Row, report } from './lib/report.js';

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    shape: { type: 'string', default: '2-blocks-fp32' },
    blocks: { type: 'string' },
    runs: { type: 'string', default: '1' },
    peer: { type: 'boolean', default: false },
  },
});
/** Ranges as they were seen, which nothing is read for; the default looks at kept tokens and weights. */
const PLAIN = ['--method', 'minmax', '--smooth', 'none'];
const wanq = path.join(ROOT, 'bin', 'wanq.js');
const work = await mkdtemp(
  path.join(values.model ? path.dirname(path.resolve(values.model)) : tmpdir(), 'wanq-bench-'),
);
try {
  const blocks = values.blocks === undefined ? undefined : Number(values.blocks);
  const model =
    values.model ?? (await makeFullShape(values.shape as Shape, path.join(work, 'model'), { blocks })).folder;
  const data = path.join(model, 'transformer', 'model.onnx_data');
  const bytes = (await stat(data)).size;

  // Four prompts, which judge each other, of as many tokens as calibration keeps of a 5B.
  const calibration = path.join(work, 'calibration.safetensors');
  const size = ['--frames', '1', '--height', '256', '--width', '256'];
  const calibrate = ['--synthetic-inputs', '4', '--steps', '1', '--guidance', '1', ...size, '--device', 'cpu'];
  await measure(process.execPath, [wanq, 'calibrate', model, ...calibrate, '-o', calibration]);

  const copy = path.join(work, 'copy');
  const quantize = (name: string, flags: readonly string[]): [string, string, string[], string] => {
    const output = path.join(work, name);
    const args = [wanq, 'quantize', model, '--calibration', calibration, '--link', ...flags, '-o', output];
    return [`wanq quantize ${flags.join(' ')}`, process.execPath, args, output];
  };
  const commands: [name: string, command: string, args: string[], output: string][] = [
    ['read', 'sh', ['-c', 'cat "$0" > /dev/null', data], copy],
    ['cp and fsync', 'sh', ['-c', 'cp "$0" "$1" && sync "$1"', data, copy], copy],
    quantize('ffn', ['--scheme', 'ffn', ...PLAIN]),
    quantize('ffn16', ['--scheme', 'ffn', '--float', 'fp16', ...PLAIN]),
    quantize('blocks16', ['--scheme', 'blocks', '--float', 'fp16', ...PLAIN]),
    quantize('ffn-auto', ['--scheme', 'ffn']),
    quantize('blocks16-auto', ['--scheme', 'blocks', '--float', 'fp16']),
  ];
  if (values.peer && hasPeer()) {
    const file = path.join(model, 'transformer', 'model.onnx');
    const feeds = await oneForward(model, { frames: 1, height: 64, width: 64 });
    const peer = await peerCommand(file, feeds, await nodesOf(file, 'ffn'), work, 'peer');
    commands.push(["onnxruntime's quantizer, ffn", peer.command, peer.args, `${peer.output}.data`]);
  }
  const seconds = new Map<string, number[]>();
  const rows: Row[] = [];
  const notes: string[] = [];
  for (const [name, command, args, output] of commands) {
    let peak = 0;
    let anonymous = 0;
    for (let run = 0; run < Number(values.runs); run++) {
      await rm(output, { recursive: true, force: true });
      if (!dropCaches()) throw new Error('the page cache cannot be dropped here: run as root');
      const measured = await measure(command, args);
      seconds.set(name, [...(seconds.get(name) ?? []), measured.seconds]);
      peak = Math.max(peak, measured.peakBytes);
      anonymous = Math.max(anonymous, measured.peakAnonBytes);
    }
    const time = median(seconds.get(name) ?? []);
    const copied = median(seconds.get('cp and fsync') ?? []);
    rows.push({
      command: name,
      'wall, s': time,
      'of cp': Number.isNaN(copied) ? null : time / copied,
      'GB read / s': bytes / 1e9 / time,
      'peak, MB': peak / 1e6,
      'of it own, MB': anonymous / 1e6,
      'written, GB': name === 'read' ? null : (await sizeOf(output)) / 1e9,
    });
    // Smoothed weights are others than their source.
    if (name.includes('--smooth none') && !name.includes('ffn --float')) {
      const { weights, values: compared, worst } = await compareWeights(model, output);
      notes.push(
        `${name}: ${weights} weights, ${(compared / 1e9).toFixed(3)} G values, none further than ${worst.toFixed(6)} x scale / 2 from its source.`,
      );
    }
    await rm(output, { recursive: true, force: true });
  }
  await report(`quantize-${path.basename(values.model ?? values.shape)}`, {
    title: `Quantizing ${(bytes / 1e9).toFixed(2)} GB of FP32 weights`,
    command: `npx tsx bench/quantize.ts ${process.argv.slice(2).join(' ')}`,
    rows,
    notes: [...notes, 'Every command starts from a cold page cache and ends with its output on the disk.'],
  });
} finally {
  await rm(work, { recursive: true, force: true });
}

async function sizeOf(output: string): Promise<number> {
  const info = await stat(output);
  return info.isFile() ? info.size : (await stat(path.join(output, 'transformer', 'model.onnx_data'))).size;
}
