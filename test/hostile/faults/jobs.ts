import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { checkpointPath } from '../../../src/calibrate/checkpoint.js';
import { type Calibration, readCalibration, writeCalibration } from '../../../src/calibrate/file.js';
import { main } from '../../../src/cli/main.js';
import { withJournal } from '../../../src/evaluate/journal.js';
import { judge } from '../../../src/gate/judge.js';
import { markdownReport } from '../../../src/report/markdown.js';
import { type Metric, type Results, resultsToJson } from '../../../src/report/results.js';
import { type EvaluationSettings, Evaluations } from '../../../src/search/evaluations.js';
import { giveName, withOutput } from '../../../src/util/files.js';
import { writeFolderResumable } from '../../../src/util/resumable.js';
import { MICRO, MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { capturedIo } from '../../helpers/io.js';
import { SAMPLE, sampleResults } from '../../helpers/results.js';
import { World } from './layer.mjs';
import type { Job } from './loop.js';

const PROMPTS = ['a red circle', 'a green ring', 'a blue square'];

/** As little as a calibration can be. */
export const BRIEFLY = ['--steps', '1', '--guidance', '1', '--device', 'cpu'];
export const FEW_TOKENS = ['--tokens', '16', '--held-tokens', '4'];

/** Runs `wanq` in this process. @throws where it does not end with 0 */
export async function wanq(args: readonly string[], world?: World): Promise<void> {
  const { io, said } = capturedIo();
  const run = (): Promise<number> => main(args, io);
  const code = await (world ? world.run(run) : run());
  if (code !== 0) throw new Error(`wanq ${args.join(' ')} ended with ${code}: ${said.stderr}`);
}

/**
 * Everything of wanq that writes files of its own.
 * @param inputs a folder for what the jobs read
 * @param place the folder they write into
 */
export async function makeJobs(inputs: string, place: string): Promise<Map<string, Job>> {
  const input = (...parts: string[]): string => path.join(inputs, ...parts);
  const output = (name: string): string => path.join(place, name);
  mkdirSync(inputs, { recursive: true });
  writeFileSync(input('prompts.txt'), PROMPTS.join('\n'));
  const calibrating = ['calibrate', MICRO_PIPELINE, '--prompts', input('prompts.txt'), ...BRIEFLY, ...FEW_TOKENS, '-q'];
  const watching = new World();
  watching.onRename = async (file) => {
    if (file.endsWith('.partial')) copyFileSync(file, input(`checkpoint-${++checkpoints}`));
  };
  let checkpoints = 0;
  await wanq([...calibrating, '-o', input('calibration')], watching);
  for (const shard of ['1/2', '2/2']) {
    await wanq([...calibrating, '--shard', shard, '-o', input(`shard-${shard[0]}`)]);
  }
  const results = sampleResults({ ...SAMPLE, prompts: 4, steps: 4, blocks: 1 });
  for (const name of ['a', 'b']) {
    mkdirSync(input(name), { recursive: true });
    const quantized = { ...results.quantized, fingerprint: results.quantized.fingerprint.replace(/^./, name) };
    writeFileSync(input(name, 'results.json'), JSON.stringify({ ...results, quantized }));
  }
  writeFileSync(input('rules.json'), JSON.stringify({ rules: [{ metric: 'sqnr', operator: '>=', limit: -100 }] }));
  const gate = ['gate', input('a', 'results.json'), '--rules', input('rules.json')];
  const outputs = ['--markdown', output('gate.md'), '--junit', output('gate.xml')];
  const updating = ['--baseline', output('baseline.json'), '--update'];
  const quantizing = ['quantize', MICRO_PIPELINE, '--calibration', input('calibration'), '--method', 'minmax'];
  const plain = [...quantizing, '--smooth', 'none', '--verify', 'load', '-q'];
  const old =
    (...names: string[]) =>
    (folder: string) => {
      for (const name of names) writeFileSync(path.join(folder, name), 'what was there before\n');
    };
  const oldCheckpoint = (folder: string): void => copyFileSync(input('checkpoint-1'), path.join(folder, 'c.partial'));
  await wanq([...gate, '--baseline', input('baseline.json'), '--update']);
  await wanq([...plain, '--link', '-o', input('quantized')]);
  await evaluations(inputs, ['a']);
  const cache = readdirSync(inputs).find((name) => name.startsWith('evaluations-')) as string;

  const whole = await readCalibration(input('calibration'));
  // As many activations as show how a file is written.
  const shown = { ...whole, activations: whole.activations.slice(0, 2), outputs: whole.outputs.slice(0, 2) };

  const jobs: Job[] = [
    { name: 'quantize', does: [...plain, '--link', '-o', output('q')], outputs: ['q'] },
    {
      name: 'quantize, all components, into new folders',
      does: [...plain, '--text-encoder', 'w8', '--vae', 'fp16', '-o', path.join(output('deep'), 'er', 'q')],
      outputs: [path.join('deep', 'er', 'q')],
      every: 23,
    },
    {
      name: 'quantize --save-plan',
      does: [...plain, '--link', '--save-plan', output('plan.json'), '-o', output('q')],
      outputs: ['q', 'plan.json'],
      every: 13,
    },
    {
      name: 'plan file',
      does: [...plain, '--dry-run', '--save-plan', output('plan.json')],
      outputs: ['plan.json'],
    },
    {
      name: 'calibrate',
      does: [...calibrating, '-o', output('c')],
      outputs: ['c'],
      states: ['c.partial'],
      every: 97,
    },
    {
      name: 'calibrate, resumed',
      does: [...calibrating, '-o', output('c')],
      outputs: ['c'],
      states: ['c.partial'],
      prepare: oldCheckpoint,
      every: 101,
    },
    { name: 'merge', does: ['merge', input('shard-1'), input('shard-2'), '-o', output('c')], outputs: ['c'] },
    {
      name: 'gate outputs',
      does: [...gate, ...outputs, ...updating],
      outputs: ['gate.md', 'gate.xml', 'baseline.json'],
      prepare: (folder) => {
        old('gate.md', 'gate.xml')(folder);
        copyFileSync(input('baseline.json'), path.join(folder, 'baseline.json'));
      },
    },
    { name: 'compare', does: ['compare', input('a'), input('b'), '-o', output('page')], outputs: ['page'] },
    { name: 'import', does: ['import', path.join(MICRO, 'checkpoint'), '-o', output('p'), '-q'], outputs: ['p'] },
    {
      name: 'import --copy',
      does: ['import', path.join(MICRO, 'checkpoint'), '--copy', '-o', output('p'), '-q'],
      outputs: ['p'],
      every: 7,
    },
    {
      name: 'sensitivity',
      does: [
        ...['sensitivity', MICRO_PIPELINE, '--prompts', input('prompts.txt'), ...BRIEFLY, '--calibration'],
        ...[input('calibration'), '--scheme', 'ffn', '--method', 'minmax', '--smooth', 'none', '--samples', '2', '-q'],
        ...['--plot', output('s.svg'), '-o', output('s.json')],
      ],
      outputs: ['s.json', 's.svg'],
      states: ['s.json'],
      every: 41,
    },
    {
      name: 'evaluations',
      does: () => evaluations(place, ['b', 'c']),
      outputs: [cache],
      states: [cache],
      prepare: (folder) => copyFileSync(input(cache), path.join(folder, cache)),
    },
    {
      name: 'checkpoint of a calibration',
      does: () => checkpoint(shown, output('c')),
      outputs: ['c'],
      states: ['c.partial'],
    },
    {
      name: 'report',
      does: () => report(output('report'), results),
      outputs: ['report'],
      keeps: ['report.partial'],
    },
  ];
  return new Map(jobs.map((job) => [job.name, job]));
}

/** What a calibration writes after each prompt, and how it ends. */
async function checkpoint(calibration: Calibration, target: string): Promise<void> {
  const partial = checkpointPath(target);
  const write = async (): Promise<void> => {
    for (const done of [[0], calibration.done]) await writeCalibration(partial, { ...calibration, done });
    await giveName(partial, target);
  };
  await withOutput(target, write, [partial]);
}

/** What an evaluation keeps meanwhile, and the report that it leaves. */
async function report(target: string, results: Results): Promise<void> {
  await writeFolderResumable(target, (folder, kept) =>
    withJournal(kept, async (journal) => {
      await journal.begin({ seed: results.settings.seed });
      for (const take of [0, 1]) {
        const figures = await journal.once(`take ${take}`, async () => {
          await journal.scratch.put(`take${take}`, Float32Array.of(take, Number.NaN));
          return { take, psnr: Number.POSITIVE_INFINITY };
        });
        const latents = await journal.scratch.get(`take${take}`);
        if (figures.take !== take || latents[0] !== take) throw new Error('what was taken over is another');
      }
      await writeFile(path.join(folder, 'results.json'), resultsToJson(results));
      await writeFile(path.join(folder, 'report.md'), markdownReport(results, judge(results.metrics, [])));
    }),
  );
}

const SETTINGS = { model: 'm', plan: 'p' } as unknown as EvaluationSettings;
const METRIC: Metric = { value: 20, unit: 'dB', better: 'higher', n: 1 };

/** The cache of a search gets more plans. */
async function evaluations(folder: string, plans: readonly string[]): Promise<void> {
  for (const plan of plans) {
    await (await Evaluations.open(folder, SETTINGS)).set([plan], { sqnr: METRIC });
  }
}
