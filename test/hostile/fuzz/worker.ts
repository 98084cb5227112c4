/** A process of the fuzzer: it looks at ranges of inputs that its parent names. {@link Pool} starts it and watches it. */
import { openSync, writeSync } from 'node:fs';
import type { Fuzzer, Kind } from './fuzzer.js';
import { outcomeOf } from './outcome.js';
import { isPlanted, planted } from './planted.js';
import { addOutcome, type Batch, emptyTally, type FromWorker, type ToWorker } from './protocol.js';

const [corpus, folder, beat, memoryBytes] = process.argv.slice(2) as [string, string, string, string];
const heart = openSync(beat, 'w');
const mark = new Int32Array(2);

/** What the parent reads where this process cannot answer any more: the input that it is at, and that it has come to another one. */
function begin(index: number): void {
  mark[0] = index;
  mark[1] = (mark[1] as number) + 1;
  writeSync(heart, mark, 0, 8, 0);
}

function tell(message: FromWorker): void {
  process.send?.(message);
}

const peak = (): number => process.resourceUsage().maxRSS * 1024;

let fuzzer: Fuzzer | undefined;
/** Memory of looking at valid inputs alone. */
let control = 0;

async function open(): Promise<Fuzzer> {
  begin(-1);
  // Not before it is needed: it loads all of wanq.
  const { Fuzzer } = await import('./fuzzer.js');
  const opened = await Fuzzer.open(corpus, folder);
  for (const original of opened.originals()) {
    const outcome = await opened.look(original);
    if (outcome.kind === 'finding') throw new Error(`${original.name}, unmutated: ${outcome.what}`);
  }
  control = peak();
  return opened;
}

async function work({ kind, seed, from, to, skip }: Batch): Promise<void> {
  if (!isPlanted(kind)) fuzzer ??= await open();
  else control ||= peak();
  const tally = emptyTally();
  for (let index = from; index < to; index++) {
    if (skip.includes(index)) continue;
    begin(index);
    const before = peak();
    const start = performance.now();
    let name: string = kind;
    if (isPlanted(kind)) addOutcome(tally, await outcomeOf(() => planted(index)), { index, name: kind });
    else {
      const input = (fuzzer as Fuzzer).input(kind as Kind, seed, index);
      name = input.name;
      addOutcome(tally, await (fuzzer as Fuzzer).look(input), { index, name });
    }
    const ms = performance.now() - start;
    if (ms > tally.slowest.ms) tally.slowest = { ms, index, name };
    if (peak() > before && peak() > control + Number(memoryBytes)) {
      tell({ type: 'memory', index, bytes: peak() - control });
      return;
    }
  }
  begin(-1);
  tell({ type: 'done', from, to, tally, peakBytes: peak(), controlBytes: control });
}

process.on('message', (message: ToWorker) => {
  work(message.batch).catch((error) => {
    tell({ type: 'broken', what: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  });
});
process.on('disconnect', () => process.exit(0));
tell({ type: 'ready' });
