import { readdirSync, readlinkSync } from 'node:fs';
import { cp, readFile } from 'node:fs/promises';
import path from 'node:path';
import { mutateBytes } from './bytes.js';
import { INDEX, type ModelItem } from './corpus.js';
import { FILE_KINDS, FileTarget, openContext } from './files.js';
import { FileGuard } from './guard.js';
import { mutateJson } from './json.js';
import { ModelTarget } from './models.js';
import { type Outcome, outcomeOf } from './outcome.js';
import { Random } from './random.js';
import { mutateSafetensors } from './safetensors.js';

export const KINDS = ['models', 'files'] as const;

export type Kind = (typeof KINDS)[number];

/** One mutated input: what it is of, its bytes, and how to look at it. */
export interface Input {
  readonly name: string;
  readonly bytes: Uint8Array;
  run(): Promise<void>;
}

/** Looks at inputs that (kind, seed, index) determine, in a folder of its own and one after the other. */
export class Fuzzer {
  readonly #folder: string;
  readonly #models: readonly ModelTarget[];
  readonly #files: readonly FileTarget[];
  readonly #guard = new FileGuard();
  #stray: unknown;

  private constructor(folder: string, models: readonly ModelTarget[], files: readonly FileTarget[]) {
    this.#folder = folder;
    this.#models = models;
    this.#files = files;
    process.on('unhandledRejection', (reason) => {
      this.#stray = reason;
    });
  }

  /** @param folder a fresh one, beside which nothing may be touched */
  static async open(corpus: string, folder: string): Promise<Fuzzer> {
    const own = path.join(folder, 'inside');
    await cp(path.join(corpus, 'models'), path.join(own, 'models'), { recursive: true });
    const items = JSON.parse(await readFile(path.join(corpus, INDEX), 'utf8')) as ModelItem[];
    const models: ModelTarget[] = [];
    for (const item of items) models.push(await ModelTarget.open(item, path.join(own, 'models', item.name)));
    // What files speak of is never mutated.
    const speaksOf = path.join(own, 'model');
    await cp(path.join(corpus, 'models', 'tiny'), speaksOf, { recursive: true });
    const context = await openContext(speaksOf);
    const files: FileTarget[] = [];
    for (const kind of FILE_KINDS) files.push(await FileTarget.open(kind, path.join(own, 'files', kind.name), context));
    return new Fuzzer(own, models, files);
  }

  /** All inputs as they are, unmutated: each of them is one that wanq takes. */
  *originals(): Generator<Input> {
    for (const target of this.#models) yield this.#inputOf(target.item.name, target.bytes, target, 0);
    for (const target of this.#files) yield this.#inputOf(target.kind.name, target.bytes, target, 0);
  }

  input(kind: Kind, seed: number, index: number): Input {
    const random = new Random(seed, KINDS.indexOf(kind), index);
    if (kind === 'models') {
      const target = weighted(this.#models, ({ item }) => item.weight, random);
      const bytes = target.mutated(random, random.pick(this.#models).bytes);
      return this.#inputOf(target.item.name, bytes, target, random.below(2 ** 31));
    }
    const target = weighted(this.#files, (one) => one.kind.weight, random);
    const other = random.pick(this.#files).bytes;
    const mutate = { json: mutateJson, safetensors: mutateSafetensors, text: mutateBytes }[target.kind.format];
    return this.#inputOf(target.kind.name, mutate(target.bytes, random, other), target, random.below(2 ** 31));
  }

  #inputOf(name: string, bytes: Uint8Array, target: ModelTarget | FileTarget, way: number): Input {
    return { name, bytes, run: () => target.run(bytes, new Random(way)) };
  }

  /** @returns what came of an input; a finding too where it reached outside, or left a file open or a promise unheard */
  async look(input: Input): Promise<Outcome> {
    this.#stray = undefined;
    const open = openFiles();
    const { result: outcome, outside } = await this.#guard.watch(this.#folder, async (): Promise<Outcome> => {
      const seen = await outcomeOf(() => input.run());
      // Rejections that nobody hears are told after the turn that they come in.
      await new Promise((resolve) => setImmediate(resolve));
      return seen;
    });
    if (outcome.kind === 'finding') return outcome;
    if (outside.length > 0) return { kind: 'finding', what: `outside of its folder: ${outside.join(', ')}` };
    if (this.#stray !== undefined) return { kind: 'finding', what: `nobody heard: ${String(this.#stray)}` };
    let left = openFiles() - open;
    // Who compiles these tests opens its own files in passing; what wanq left stays.
    for (let tries = 0; left > 0 && tries < 20; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      left = openFiles() - open;
    }
    return left > 0 ? { kind: 'finding', what: `left ${left} files open` } : outcome;
  }
}

function weighted<T>(items: readonly T[], weight: (item: T) => number, random: Random): T {
  return random.weighted(items.map((item) => ({ item, weight: weight(item) }))).item;
}

/** Open files of this process, where the system tells. Not pipes: those to who compiles these tests come when a module is loaded at last. */
function openFiles(): number {
  if (process.platform !== 'linux') return 0;
  return readdirSync('/proc/self/fd').filter((fd) => !/^(pipe|socket|anon_inode):/.test(linkOf(fd))).length;
}

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // The one that listed them.
    return 'pipe:';
  }
}
