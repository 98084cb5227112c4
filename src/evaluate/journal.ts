import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { printable, WanqError } from '../errors.js';
import { exists, writeAtomic } from '../util/files.js';
import { sha256 } from '../util/hash.js';
import { readJson } from '../util/json.js';
import { fileOf, Scratch } from '../util/scratch.js';

/** Version of the folder's layout. */
const JOURNAL_SCHEMA = 1;

const SETTINGS = 'settings.json';

const settingsSchema = z.strictObject({
  schema: z.literal(JOURNAL_SCHEMA),
  settings: z.record(z.string(), z.unknown()),
});

/** What a step left behind: its value, and the arrays that it put. */
const entrySchema = z.strictObject({ step: z.string(), value: z.unknown(), arrays: z.record(z.string(), z.string()) });

type Sums = Map<string, string>;

/**
 * What an evaluation has finished, in a folder, so that one that was interrupted at any moment is gone on with. Steps are of a name and have a value
 * of JSON; the arrays that a step puts into the scratch folder belong to it. A step is taken over only where all that it left is there, bit for bit:
 * after a power cut it need not be, and is done again.
 */
export class Journal {
  readonly scratch: Scratch;
  /** Steps that were taken over. */
  resumed = 0;
  readonly #folder: string;
  /** Of the steps under way, which may lie in each other: arrays that were put since they began. */
  readonly #open = new Set<Sums>();

  private constructor(folder: string) {
    this.#folder = folder;
    this.scratch = new JournalScratch(folder, (name, sum) => this.#note(name, sum));
  }

  /** @param folder made where it is not there */
  static async open(folder: string): Promise<Journal> {
    await mkdir(folder, { recursive: true });
    return new Journal(folder);
  }

  /**
   * Must be called before the first step.
   * @param settings all that the steps' values depend on
   * @throws WanqError CACHE_INVALID where the folder is of other settings
   */
  async begin(settings: Readonly<Record<string, unknown>>): Promise<void> {
    const file = path.join(this.#folder, SETTINGS);
    const text = JSON.stringify({ schema: JOURNAL_SCHEMA, settings });
    if (!(await exists(file))) return writeAtomic(file, text);
    const hint = 'repeat that evaluation to finish it, remove the folder, or name another output';
    const before = (await readJson(file, settingsSchema, 'CACHE_INVALID').catch((error: WanqError) => {
      throw new WanqError(error.code ?? 'CACHE_INVALID', error.message, { cause: error, hint });
    })) as { settings: Record<string, unknown> };
    const now = (JSON.parse(text) as typeof before).settings;
    const keys = [...new Set([...Object.keys(before.settings), ...Object.keys(now)])];
    const differs = keys.filter((key) => JSON.stringify(before.settings[key]) !== JSON.stringify(now[key]));
    if (differs.length === 0) return;
    const what = printable(differs.join(', '), 200);
    throw new WanqError(
      'CACHE_INVALID',
      `${printable(path.dirname(this.#folder))} is of another evaluation (it differs in ${what})`,
      { hint },
    );
  }

  /**
   * @param step name; the same one must always mean the same
   * @returns what `make` returned, now or in the run that was interrupted
   */
  async once<T>(step: string, make: () => Promise<T>): Promise<T> {
    const found = await this.#find(step);
    if (found) {
      this.resumed++;
      for (const [name, sum] of Object.entries(found.arrays)) this.#note(name, sum);
      return found.value as T;
    }
    const sums: Sums = new Map();
    this.#open.add(sums);
    try {
      const value = await make();
      const body = JSON.stringify({ step, value: value ?? null, arrays: Object.fromEntries(sums) }, encodeNumber);
      await writeAtomic(this.#file(step), `${sha256(body)}\n${body}`, { sync: false });
      return value;
    } finally {
      this.#open.delete(sums);
    }
  }

  /** Whether no step was finished, in this run or an earlier one. */
  async isEmpty(): Promise<boolean> {
    return !(await readdir(this.#folder)).some((name) => name.endsWith('.step'));
  }

  #note(name: string, sum: string | undefined): void {
    for (const sums of this.#open) {
      if (sum === undefined) sums.delete(name);
      else sums.set(name, sum);
    }
  }

  #file(step: string): string {
    return path.join(this.#folder, `${sha256(step).slice(0, 32)}.step`);
  }

  async #find(step: string): Promise<{ value: unknown; arrays: Record<string, string> } | undefined> {
    const text = await readFile(this.#file(step), 'utf8').catch(() => '');
    const end = text.indexOf('\n');
    const body = text.slice(end + 1);
    if (end < 0 || sha256(body) !== text.slice(0, end)) return undefined;
    const entry = entrySchema.parse(JSON.parse(body, decodeNumber));
    if (entry.step !== step) return undefined;
    for (const [name, sum] of Object.entries(entry.arrays)) {
      const bytes = await this.scratch.getBytes(name).catch(() => undefined);
      if (!bytes || sha256(bytes) !== sum) return undefined;
    }
    return entry;
  }
}

/** Tells the sum of all that is put, and what is removed. */
class JournalScratch extends Scratch {
  readonly #onChange: (name: string, sum: string | undefined) => void;

  constructor(folder: string, onChange: (name: string, sum: string | undefined) => void) {
    super(folder);
    this.#onChange = onChange;
  }

  override async putBytes(name: string, bytes: Uint8Array): Promise<void> {
    await super.putBytes(name, bytes);
    this.#onChange(name, sha256(bytes));
  }

  override async remove(key: string): Promise<void> {
    this.#onChange(fileOf(key), undefined);
    await super.remove(key);
  }
}

/** JSON has neither infinities nor NaN nor a negative zero. */
const NUMBERS: ReadonlyMap<string, number> = new Map([
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
  ['-0', -0],
]);

function encodeNumber(_: string, value: unknown): unknown {
  if (typeof value !== 'number' || (Number.isFinite(value) && !Object.is(value, -0))) return value;
  return { $number: value === 0 ? '-0' : String(value) };
}

function decodeNumber(_: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('$number' in value)) return value;
  return NUMBERS.get(String(value.$number)) ?? value;
}

/**
 * Does an evaluation with a journal.
 * @param folder to keep it in; gone where nothing was finished
 */
export async function withJournal<T>(folder: string, use: (journal: Journal) => Promise<T>): Promise<T> {
  const journal = await Journal.open(folder);
  try {
    return await use(journal);
  } catch (error) {
    if (await journal.isEmpty()) await rm(folder, { recursive: true, force: true });
    throw error;
  }
}
