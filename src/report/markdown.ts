import { printable } from '../errors.js';
import { worstLinears } from '../gate/blame.js';
import type { Verdict } from '../gate/judge.js';
import { mean } from '../numerics/stats.js';
import { formatBytes, formatInterval, formatMetric, titledMetrics } from './format.js';
import { type Advice, adviceMarkdown } from './ladder.js';
import type { Results } from './results.js';
import { DIFFERENCE_GAIN } from './strip.js';

/**
 * The report for people who open the folder on a code host: verdict first, then what may mend it, every figure, and how it was made.
 * @param advice absent where it passed, or nothing is to be said
 */
export function markdownReport(results: Results, verdict: Verdict, advice?: Advice): string {
  const { settings, reference, quantized } = results;
  return [
    `# ${verdict.passed ? 'Passed' : 'Failed'}: INT8 against reference`,
    ...verdict.checks.map(({ passed, message, rule }) => `- ${mark(passed, rule.level)} ${text(message)}`),
    ...(quantized.calibratedOn === 'synthetic'
      ? [
          '',
          'The quantized model was calibrated on random embeddings, not on prompts: its ranges are not those of real use.',
        ]
      : []),
    '',
    ...adviceMarkdown(advice),
    '## Figures',
    table(
      ['metric', 'value', '95 % interval', 'n', 'note'],
      titledMetrics(results.metrics).map(({ name, title, metric }) => [
        `${title} (\`${name}\`)`,
        formatMetric(metric),
        formatInterval(metric),
        String(metric.n),
        metric.note ?? '',
      ]),
    ),
    '',
    'Free-running PSNR says how far two chains diverge, not how good either is: read it beside its noise floor, which is what a harmless ' +
      'change of the reference model does to the same seeds.',
    '',
    '## Models',
    table(
      ['', 'reference', 'quantized'],
      [
        ['folder', reference.path, quantized.path],
        ['transformer on disk', formatBytes(reference.transformerBytes), formatBytes(quantized.transformerBytes)],
        ['peak memory of its process', formatBytes(reference.peakBytes), formatBytes(quantized.peakBytes)],
        ['median forward', `${reference.forwardMs.toFixed(1)} ms`, `${quantized.forwardMs.toFixed(1)} ms`],
        ['execution provider', reference.provider, quantized.provider],
        ['calibrated on', reference.calibratedOn ?? '-', quantized.calibratedOn ?? '-'],
      ],
    ),
    '',
    ...devicesSection(results),
    ...componentsSection(results),
    ...linearsSection(results),
    '## PSNR drop by noise level',
    table(
      ['sigma', 'reference', 'quantized', 'drop'],
      settings.sigmas.map((sigma) => {
        const rows = results.psnrDrop.filter((row) => row.sigma === sigma);
        const average = (key: 'reference' | 'quantized' | 'drop'): string =>
          formatMetric({ value: mean(rows.map((row) => row[key] ?? Number.NaN)), unit: 'dB' });
        return [String(sigma), average('reference'), average('quantized'), average('drop')];
      }),
    ),
    '',
    '## Teacher-forced error by step',
    table(
      ['step', 'timestep', 'branch', 'SQNR', 'cosine', 'relative error'],
      results.steps.map(({ step, timestep, branch, sqnr, cosine, relativeError }) => [
        String(step + 1),
        timestep.toFixed(1),
        branch,
        formatMetric({ value: sqnr, unit: 'dB' }),
        (cosine ?? Number.NaN).toFixed(6),
        (relativeError ?? Number.NaN).toExponential(2),
      ]),
    ),
    '',
    '## Videos',
    table(
      ['prompt', 'seed', 'PSNR', 'SSIM', 'floor PSNR', 'floor SSIM'],
      results.videos.map(({ prompt, seed, psnr, ssim, floorPsnr, floorSsim }) => [
        prompt,
        String(seed),
        formatMetric({ value: psnr, unit: 'dB' }),
        formatMetric({ value: ssim, unit: '' }),
        formatMetric({ value: floorPsnr, unit: 'dB' }),
        formatMetric({ value: floorSsim, unit: '' }),
      ]),
    ),
    '',
    ...results.videos.flatMap(({ prompt, strip }) =>
      strip === null
        ? []
        : [`**${text(prompt)}**`, '', `![reference, quantized, difference x ${DIFFERENCE_GAIN}](${strip})`, ''],
    ),
    '## How it was made',
    `${settings.prompts} prompts x ${settings.seedsPerPrompt} seeds from ${settings.seed}, ${settings.steps} steps of ${text(settings.scheduler)}, ` +
      `guidance ${settings.guidance}, latents ${settings.latents.join(' x ')}, clips: ${text(settings.clips)}, features: ` +
      `${text(settings.features ?? 'none')}, noise floor: ${settings.noiseFloor}. wanq ${results.wanqVersion}, onnxruntime-node ` +
      `${results.runtimeVersion}, Node ${results.nodeVersion}, ${results.platform}, ${results.createdAt}.`,
    '',
  ].join('\n');
}

function devicesSection({ devices }: Results): string[] {
  return [
    '## Devices',
    table(
      ['component', 'asked', 'ran on', 'refused', 'peak memory', 'of the device'],
      devices.map(({ component, asked, ran, refused, peakBytes, deviceBytes }) => [
        component,
        asked,
        ran,
        refused.map(({ provider, reason }) => `${provider}: ${reason}`).join('; '),
        formatBytes(peakBytes),
        deviceBytes === null ? '-' : formatBytes(deviceBytes),
      ]),
    ),
    '',
  ];
}

/** Linears shown: those that err most beyond what rounding costs. */
const WORST_LINEARS = 10;

function linearsSection(results: Results): string[] {
  const { linears } = results;
  if (linears.length === 0) return [];
  const worst = worstLinears(results, WORST_LINEARS);
  const dB = (value: number | null): string => formatMetric({ value, unit: 'dB' });
  return [
    `## Linears by themselves, the worst ${worst.length} of ${linears.length}`,
    '',
    'SQNR of the output, given the input that the linear really got; expected: what rounding to INT8 leaves with the ranges of the plan.',
    '',
    table(
      ['linear', 'precision', 'SQNR', 'expected', 'excess', 'scale over plan', 'clipped'],
      worstLinears(results, WORST_LINEARS).map(
        ({ linear, precision, sqnr, attainable, excess, scaleRatio, clipped }) => [
          linear,
          precision ?? '-',
          dB(sqnr),
          dB(attainable),
          dB(excess),
          scaleRatio === null ? '-' : scaleRatio.toFixed(3),
          clipped === null ? '-' : `${(100 * clipped).toFixed(3)} %`,
        ],
      ),
    ),
    '',
  ];
}

/** What of each component, and of all together, was measured against the reference; nothing where only the transformer differs. */
function componentsSection({ metrics, components, reference, quantized }: Results): string[] {
  if (!components) return [];
  const { changed, videos } = components;
  const figure = (name: string): string => formatMetric(metrics[name] ?? { value: null, unit: 'dB' });
  const pair = (name: string): string => `${figure(name)}, worst ${figure(`${name}_min`)}`;
  const row = (component: string): readonly string[] => {
    const found = changed.find((change) => change.component === component);
    const sizes = found && [found.reference.bytes, found.quantized.bytes];
    return sizes ? [sizes.map(formatBytes).join(' -> ')] : [];
  };
  const transformer = mean(videos.flatMap(({ transformerPsnr }) => transformerPsnr ?? []));
  const rows = [
    ['text encoder alone', ...row('text_encoder'), pair('embedding_sqnr'), pair('text_encoder_sqnr'), '-'],
    [
      'transformer alone',
      [reference, quantized].map(({ transformerBytes }) => formatBytes(transformerBytes)).join(' -> '),
      '-',
      pair('sqnr'),
      formatMetric({ value: transformer, unit: 'dB' }),
    ],
    ['VAE decoder alone', ...row('vae_decoder'), '-', '-', pair('vae_decoder_psnr')],
    ['VAE encoder alone', ...row('vae_encoder'), `latents ${figure('vae_encoder_sqnr')}`, '-', '-'],
    ['all together', '', '-', pair('pipeline_sqnr'), figure('pipeline_psnr')],
  ];
  return [
    '## Components',
    table(
      ['against the reference', 'on disk', 'SQNR of embeddings', 'teacher-forced SQNR', 'PSNR of videos'],
      // A component that is the same has no sizes, and so no row.
      rows.filter((cells) => cells.length === 5),
    ),
    '',
    table(
      ['prompt', 'seed', 'transformer alone', 'VAE decoder alone', 'all together', 'SSIM, all together'],
      videos.map(({ prompt, seed, transformerPsnr, vaePsnr, pipelinePsnr, pipelineSsim }) => [
        prompt,
        String(seed),
        ...[transformerPsnr, vaePsnr, pipelinePsnr].map((value) => formatMetric({ value, unit: 'dB' })),
        formatMetric({ value: pipelineSsim, unit: '' }),
      ]),
    ),
    '',
  ];
}

function mark(passed: boolean, level: string): string {
  return passed ? '✅' : level === 'warn' ? '⚠️' : '❌';
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(text).join(' | ')} |`;
  return [line(head), `|${' --- |'.repeat(head.length)}`, ...rows.map(line)].join('\n');
}

/** Prompts and paths are other people's text: no Markdown cell breaks, no HTML, no images, nothing unseen. */
function text(value: string): string {
  return printable(value, 10_000)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replace(/[\\|]|(?<=!)\[/g, '\\$&');
}
