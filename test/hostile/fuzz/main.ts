/**
 * Mutates models and other files that wanq reads, and has wanq load and plan them: each is taken or refused with a code.
 *
 *   npm run fuzz -- [--minutes N] [--seed S] [--models N] [--files N] [--workers W] [--json FILE] [--findings FOLDER]
 *   npm run fuzz -- --repeat models:SEED:INDEX
 */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { renderTable } from '../../../src/cli/ui/table.js';
import { ROOT } from '../../helpers/fixtures.js';
import { makeCorpus } from './corpus.js';
import { Fuzzer, type Input, KINDS, type Kind } from './fuzzer.js';
import { batches, emptyReport, type KindReport, LIMITS, Pool } from './pool.js';
import { addTally, type Finding, type Tally } from './protocol.js';

/** Files in memory, where the system has them: each input is written to one. */
const MEMORY = '/dev/shm';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string' },
    seed: { type: 'string', default: '1' },
    models: { type: 'string' },
    files: { type: 'string' },
    workers: { type: 'string', default: String(Math.min(availableParallelism(), 2)) },
    json: { type: 'string' },
    findings: { type: 'string', default: path.join(ROOT, 'reports', 'fuzz') },
    repeat: { type: 'string' },
  },
});

const number = (text: string | undefined, name: string): number | undefined => {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!(value >= 0 && Number.isFinite(value))) throw new Error(`--${name} ${text} is no number`);
  return value;
};

const work = await mkdtemp(path.join(existsSync(MEMORY) ? MEMORY : tmpdir(), 'wanq-fuzz-'));

async function fuzz(corpus: string): Promise<void> {
  const seed = number(values.seed, 'seed') as number;
  const [models, files] = [number(values.models, 'models'), number(values.files, 'files')];
  const counted = models !== undefined || files !== undefined;
  const minutes = number(values.minutes, 'minutes') ?? (counted ? Number.POSITIVE_INFINITY : 1);
  const rest = counted ? 0 : Number.POSITIVE_INFINITY;
  const counts = { models: models ?? rest, files: files ?? rest };
  const reports = new Map<Kind, KindReport>(KINDS.map((kind) => [kind, emptyReport()]));
  const saver = new Saver(corpus, seed, values.findings);
  const start = performance.now();
  let shown = start;
  const until = Date.now() + minutes * 60_000;
  await new Pool(corpus, work).run(
    number(values.workers, 'workers') as number,
    batches({ seed, counts, until }),
    (kind, part) => {
      const report = reports.get(kind as Kind) as KindReport;
      addReport(report, part);
      for (const finding of part.tally.findings) saver.add(kind as Kind, finding);
      if (performance.now() - shown < 10_000) return;
      shown = performance.now();
      console.error([...reports].map(([of, { tally }]) => `${of}: ${tally.inputs}`).join(', '));
    },
  );
  const seconds = (performance.now() - start) / 1000;
  await saver.close();
  console.log(tableOf(reports, seed));
  for (const [kind, { tally }] of reports) {
    const codes = codesOf(tally).map(([code, count]) => `${code} ${count}`);
    console.log(`${kind} rejected by code: ${codes.join(', ')}`);
    if (tally.slowest.index >= 0)
      console.log(`${kind}, slowest: ${tally.slowest.name}, ${commandOf(kind, seed, tally.slowest.index)}`);
  }
  console.log(`${seconds.toFixed(0)} s with ${values.workers} processes`);
  const found = [...reports.values()].reduce((sum, { tally }) => sum + tally.findings.length, 0);
  if (values.json !== undefined) {
    const kinds = Object.fromEntries(
      [...reports].map(([kind, report]) => [kind, { ...report, perSecond: speedOf(report) }]),
    );
    await writeFile(
      values.json,
      `${JSON.stringify({ seed, workers: Number(values.workers), seconds, limits: LIMITS, kinds }, null, 2)}\n`,
    );
  }
  if (found > 0) {
    console.error(`${found} findings, in ${values.findings}`);
    process.exitCode = 1;
  }
}

function addReport(sum: KindReport, part: KindReport): void {
  addTally(sum.tally, part.tally);
  for (const key of ['crashes', 'hangs', 'overMemory', 'busyMs'] as const) sum[key] += part[key];
  sum.peakBytes = Math.max(sum.peakBytes, part.peakBytes);
  sum.controlBytes = Math.max(sum.controlBytes, part.controlBytes);
}

/** Of one process. */
function speedOf({ tally, busyMs }: KindReport): number {
  return busyMs === 0 ? 0 : (1000 * tally.inputs) / busyMs;
}

/** The most frequent first. */
function codesOf({ rejected }: Tally): [string, number][] {
  return Object.entries(rejected).sort(([, a], [, b]) => b - a);
}

function tableOf(reports: ReadonlyMap<Kind, KindReport>, seed: number): string {
  const rows = [...reports].map(([kind, report]) => {
    const { tally, crashes, hangs, overMemory, peakBytes, controlBytes } = report;
    const codes = codesOf(tally);
    const rejected = codes.reduce((sum, [, count]) => sum + count, 0);
    return [
      kind,
      String(tally.inputs),
      String(tally.accepted),
      String(rejected),
      String(tally.findings.length - crashes - hangs - overMemory),
      String(crashes),
      String(hangs),
      String(overMemory),
      `${Math.round(peakBytes / 2 ** 20)} (valid: ${Math.round(controlBytes / 2 ** 20)})`,
      `${Math.round(tally.slowest.ms)}`,
      speedOf(report).toFixed(0),
      String(seed),
    ];
  });
  const head = [
    'kind',
    'inputs',
    'accepted',
    'rejected',
    'defects',
    'crashes',
    'hangs',
    'memory',
    'peak MiB',
    'slowest ms',
    'a second',
    'seed',
  ];
  return renderTable(head, rows, []);
}

/** Keeps what is found as files, and says how to see it again. */
class Saver {
  readonly #corpus: string;
  readonly #seed: number;
  readonly #folder: string;
  readonly #found: { kind: Kind; finding: Finding }[] = [];

  constructor(corpus: string, seed: number, folder: string) {
    this.#corpus = corpus;
    this.#seed = seed;
    this.#folder = folder;
  }

  add(kind: Kind, finding: Finding): void {
    this.#found.push({ kind, finding });
    console.error(
      `${commandOf(kind, this.#seed, finding.index)}\n  ${finding.name}: ${finding.what.split('\n').slice(0, 4).join('\n  ')}`,
    );
  }

  async close(): Promise<void> {
    if (this.#found.length === 0) return;
    await mkdir(this.#folder, { recursive: true });
    const fuzzer = await openFuzzer(this.#corpus);
    for (const { kind, finding } of this.#found) {
      const { name, bytes } = fuzzer.input(kind, this.#seed, finding.index);
      const file = path.join(this.#folder, `${kind}-${this.#seed}-${finding.index}-${name}`);
      await writeFile(file, bytes);
      await writeFile(`${file}.txt`, `${commandOf(kind, this.#seed, finding.index)}\n\n${finding.what}\n`);
    }
  }
}

function commandOf(kind: Kind, seed: number, index: number): string {
  return `npm run fuzz -- --repeat ${kind}:${seed}:${index}`;
}

async function openFuzzer(corpus: string): Promise<Fuzzer> {
  return Fuzzer.open(corpus, await mkdtemp(path.join(work, 'worker-')));
}

/** Looks at one input in this process. */
async function repeat(corpus: string, named: string): Promise<void> {
  const [kind, seed, index] = named.split(':');
  if (!KINDS.includes(kind as Kind)) throw new Error(`--repeat ${named} is not KIND:SEED:INDEX`);
  const fuzzer = await openFuzzer(corpus);
  const input: Input = fuzzer.input(kind as Kind, Number(seed), Number(index));
  const file = path.join(values.findings, `${kind}-${seed}-${index}-${input.name}`);
  await mkdir(values.findings, { recursive: true });
  await writeFile(file, input.bytes);
  console.log(`${input.name}, ${input.bytes.length} bytes: ${file}`);
  const start = performance.now();
  const outcome = await fuzzer.look(input);
  console.log(outcome, `${Math.round(performance.now() - start)} ms`);
  if (outcome.kind === 'finding') process.exitCode = 1;
}

try {
  const corpus = path.join(work, 'corpus');
  await makeCorpus(corpus);
  if (values.repeat === undefined) await fuzz(corpus);
  else await repeat(corpus, values.repeat);
} finally {
  await rm(work, { recursive: true, force: true });
}
