import { printable } from '../errors.js';
import { dB, stepName, videoName, worstLinears, worstSteps, worstVideos } from '../gate/blame.js';
import type { Verdict } from '../gate/judge.js';
import { baselineLine, gateLines } from '../gate/lines.js';
import type { Results } from './results.js';

/** Rows of a table of what is worst. */
const WORST = 5;

const MARKS = { ok: '✅', warn: '⚠️', failed: '❌' } as const;

/** Markdown for a job summary or a comment on a change: the verdict, what was checked, and where the quantized model is worst. */
export function jobSummary(verdict: Verdict, results: Pick<Results, 'linears' | 'steps' | 'videos'>): string {
  const notes = [baselineLine(verdict), ...(verdict.baseline?.notes ?? [])].flatMap((note) => note ?? []);
  return [
    `## wanq gate ${verdict.passed ? 'passed' : 'failed'}`,
    '',
    ...table(
      ['', 'check', 'against'],
      gateLines(verdict).map(({ kind, status, message }) => [
        MARKS[status],
        message,
        kind === 'rule' ? 'rules' : 'baseline',
      ]),
    ),
    ...notes.map((note) => `- ${text(note)}`),
    ...(notes.length > 0 ? [''] : []),
    ...section(
      'Linears that lose most beyond what INT8 costs there',
      ['linear', 'lost', 'SQNR', 'INT8 can have'],
      worstLinears(results, WORST).map(({ linear, excess, sqnr, attainable }) => [
        linear,
        ...[excess, sqnr, attainable].map(dB),
      ]),
    ),
    ...section(
      'Worst steps',
      ['step', 'timestep', 'SQNR'],
      worstSteps(results, WORST).map((row) => [stepName(row), row.timestep.toFixed(1), dB(row.sqnr)]),
    ),
    ...section(
      'Worst prompts',
      ['prompt', 'SQNR', 'free-running PSNR'],
      worstVideos(results, WORST).map((row) => [videoName(row), dB(row.sqnr), dB(row.psnr)]),
    ),
  ].join('\n');
}

function section(title: string, head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return rows.length === 0 ? [] : [`### ${title}`, '', ...table(head, rows)];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.map(text).join(' | ')} |`;
  return [line(head), `|${' --- |'.repeat(head.length)}`, ...rows.map(line), ''];
}

/** Characters that begin something in GitHub's Markdown: HTML, links, images, emphasis, code, cells, maths, mentions, references. */
const MARKUP = /[&<>\\`*[\]|~$@#]|(?<=:)\/(?=\/)|(?<![\p{L}\p{N}])_|_(?![\p{L}\p{N}])|(?<=www)\./giu;

/** Other people's text as text: a numeric character reference never begins markup (CommonMark, section 2.5). */
function text(value: string): string {
  return printable(value, 1000).replace(MARKUP, (character) => `&#${character.codePointAt(0)};`);
}
