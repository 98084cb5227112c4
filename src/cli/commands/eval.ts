import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Option } from 'commander';
import { ExitCode } from '../../errors.js';
import { evaluate } from '../../evaluate/evaluate.js';
import { type EvaluateOptions, NOISE_FLOORS } from '../../evaluate/options.js';
import { judge } from '../../gate/judge.js';
import { DEFAULT_RULES, readRules } from '../../gate/rules.js';
import { readPrompts } from '../../pipeline/prompts.js';
import { formatBytes, formatMetric, titledMetrics } from '../../report/format.js';
import { markdownReport } from '../../report/markdown.js';
import { type Results, resultsToJson } from '../../report/results.js';
import { frameStrip } from '../../report/strip.js';
import { DEVICE_NAMES } from '../../runtime/providers.js';
import { writeFolderAtomic } from '../../util/files.js';
import type { CommandModule } from '../command.js';
import { integer, numbersBetween, samplingOptions } from '../options.js';
import { startProgress } from '../ui/progress.js';
import { renderTable } from '../ui/table.js';
import { verdictText } from '../ui/verdict.js';

type Flags = Omit<EvaluateOptions, 'reference' | 'quantized' | 'prompts' | 'signal' | 'onProgress' | 'onVideo'> & {
  readonly prompts: string;
  readonly output: string;
  readonly gate?: string | true;
};

export const evalCommand: CommandModule = {
  define: (command) => {
    command
      .name('eval')
      .description('measure a quantized pipeline against its reference, and judge it with --gate')
      .argument('<reference>', 'pipeline folder of the reference model')
      .argument('<quantized>', 'pipeline folder of the quantized model');
    for (const option of samplingOptions({ seed: 1000 })) command.addOption(option);
    return command
      .addOption(new Option('-o, --output <folder>', 'report folder to write').makeOptionMandatory())
      .addOption(
        new Option('--seeds-per-prompt <n>', 'videos made of each prompt').argParser(integer(1, 10_000)).default(1),
      )
      .addOption(
        new Option('--sigmas <list>', 'noise levels of the PSNR drop')
          .argParser(numbersBetween(0, 1))
          .default([0.3, 0.5, 0.7, 0.85]),
      )
      .addOption(
        new Option(
          '--clips <file>',
          'clips for the PSNR drop (.safetensors); default: the reference model’s own videos',
        ),
      )
      .addOption(new Option('--features <folder>', 'feature network and reference statistics for FVD'))
      .addOption(
        new Option('--inspected <n>', 'videos that get teacher forcing, a noise floor and a strip of frames')
          .argParser(integer(1, 10_000))
          .default(4),
      )
      .addOption(
        new Option('--noise-floor <kind>', 'the harmless change that free runs are held against')
          .choices(NOISE_FLOORS)
          .default('fp16-weights'),
      )
      .addOption(
        new Option('--device-reference <name>', 'where the reference runs, if elsewhere').choices(DEVICE_NAMES),
      )
      .addOption(new Option('--gate [rules]', 'exit 1 where a rule fails; a rules file, or the default rules'));
  },
  async run(context, { positional, flags }) {
    const [reference, quantized] = positional as [string, string];
    const { prompts: file, output, gate, ...options } = flags as unknown as Flags;
    const prompts = await readPrompts(file);
    const rules = typeof gate === 'string' ? await readRules(gate) : DEFAULT_RULES;
    const progress = startProgress(context, 'loading the pipelines');
    const { results, verdict } = await writeFolderAtomic(output, async (folder) => {
      await mkdir(path.join(folder, 'strips'));
      const measured = await evaluate({
        ...options,
        reference,
        quantized,
        prompts,
        signal: context.signal,
        onProgress: ({ stage, done, total }) => progress.update(`${stage}: ${done}/${total}`),
        onVideo: async (index, a, b) => {
          const name = `strips/${String(index).padStart(3, '0')}.png`;
          await writeFile(path.join(folder, name), await frameStrip(a, b));
          return name;
        },
      });
      const judged = judge(measured.metrics, rules);
      await writeFile(path.join(folder, 'results.json'), resultsToJson(measured));
      await writeFile(path.join(folder, 'report.md'), markdownReport(measured, judged));
      return { results: measured, verdict: judged };
    }).finally(() => progress.stop());
    if (context.json) {
      context.print(JSON.stringify({ ...JSON.parse(resultsToJson(results)), verdict }, null, 2));
    } else {
      context.print(resultsTable(results));
      context.print(verdictText(verdict));
      context.print(`report: ${path.join(output, 'report.md')}`);
    }
    return gate !== undefined && !verdict.passed ? ExitCode.gateFailed : undefined;
  },
};

function resultsTable({ metrics, reference, quantized }: Results): string {
  const rows = titledMetrics(metrics).map(({ title, metric }) => [
    title,
    formatMetric(metric),
    String(metric.n),
    metric.note ?? '',
  ]);
  const both = (a: string, b: string): string => `${a} -> ${b}`;
  rows.push(
    ['transformer', both(formatBytes(reference.transformerBytes), formatBytes(quantized.transformerBytes)), '', ''],
    ['peak memory', both(formatBytes(reference.peakBytes), formatBytes(quantized.peakBytes)), '', ''],
    ['forward', both(`${reference.forwardMs.toFixed(1)} ms`, `${quantized.forwardMs.toFixed(1)} ms`), '', ''],
    ['ran on', both(reference.provider, quantized.provider), '', ''],
  );
  return renderTable(['metric', 'value', 'n', 'note'], rows, [1, 2]);
}
