import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeCorpus } from './fuzz/corpus.js';
import { Fuzzer, type Input, KINDS } from './fuzz/fuzzer.js';
import { PLANTED } from './fuzz/planted.js';
import { emptyReport, LIMITS, Pool } from './fuzz/pool.js';
import { addTally, type Batch } from './fuzz/protocol.js';

const SEED = 20261130;
const INPUTS = { models: 150, files: 300 } as const;

let work: string;
let fuzzer: Fuzzer;

beforeAll(async () => {
  work = await mkdtemp(path.join(tmpdir(), 'wanq-fuzz-'));
  await makeCorpus(path.join(work, 'corpus'), true);
  fuzzer = await Fuzzer.open(path.join(work, 'corpus'), path.join(work, 'own'));
});

afterAll(async () => {
  await rm(work, { recursive: true, force: true });
});

const running = (run: () => Promise<void>): Input => ({ name: 'made', bytes: new Uint8Array(), run });

describe('the fuzzer', () => {
  it('has wanq take every input that is not mutated', async () => {
    for (const original of fuzzer.originals()) {
      expect([original.name, await fuzzer.look(original)]).toEqual([original.name, { kind: 'accepted' }]);
    }
  });

  it('makes the same input of the same seed and index, and another of others', () => {
    for (const kind of KINDS) {
      const bytesOf = (seed: number, index: number): string =>
        Buffer.from(fuzzer.input(kind, seed, index).bytes).toString('base64');
      expect(bytesOf(SEED, 5)).toBe(bytesOf(SEED, 5));
      expect(new Set([bytesOf(SEED, 5), bytesOf(SEED, 6), bytesOf(SEED + 1, 5)]).size).toBe(3);
    }
  });

  it.each(KINDS)('finds nothing in mutated %s but what wanq takes or refuses with a code', async (kind) => {
    const seen = { accepted: 0, rejected: 0 };
    for (let index = 0; index < INPUTS[kind]; index++) {
      const input = fuzzer.input(kind, SEED, index);
      const outcome = await fuzzer.look(input);
      if (outcome.kind === 'finding') expect.fail(`${kind} ${index} (${input.name}): ${outcome.what}`);
      seen[outcome.kind]++;
    }
    // Mutations that all end alike look at nothing.
    expect(seen.accepted).toBeGreaterThan(INPUTS[kind] / 10);
    expect(seen.rejected).toBeGreaterThan(INPUTS[kind] / 10);
  });

  it.each<[string, () => Promise<void>, RegExp]>([
    [
      'an error that is none of wanq',
      () => Promise.reject(new TypeError('x is not a function')),
      /TypeError: x is not/,
    ],
    [
      'a file that is made outside of the folder',
      async () => {
        const { writeFile } = await import('node:fs/promises');
        await writeFile(path.join(work, 'outside'), '');
      },
      /outside of its folder: writeFile .*outside/,
    ],
    [
      'a file that is left open',
      async () => {
        const { openSync } = await import('node:fs');
        openSync('/dev/null', 'r');
      },
      /left 1 files open/,
    ],
  ])('finds %s', async (_, run, says) => {
    const outcome = await fuzzer.look(running(run));
    expect(outcome).toMatchObject({ kind: 'finding', what: expect.stringMatching(says) });
  });
});

describe('its processes', () => {
  it('see each planted defect, and go on after it', async () => {
    const limits = { ...LIMITS, hangMs: 500, memoryBytes: 100 * 2 ** 20 };
    const pool = new Pool(path.join(work, 'none'), work, limits);
    const planted: Omit<Batch, 'skip'>[] = [{ kind: 'planted', seed: 0, from: 0, to: PLANTED.length }];
    const seen = emptyReport();
    await pool.run(
      1,
      () => planted.pop(),
      (_, part) => {
        addTally(seen.tally, part.tally);
        for (const key of ['crashes', 'hangs', 'overMemory'] as const) seen[key] += part[key];
      },
    );
    const { tally, ...ends } = seen;
    expect(ends).toMatchObject({ crashes: 1, hangs: 1, overMemory: 1 });
    expect(tally).toMatchObject({ inputs: PLANTED.length, accepted: 1, rejected: { MODEL_INVALID: 1 } });
    const found = new Map(tally.findings.map(({ index, what }) => [PLANTED[index], what]));
    expect([...found.keys()].sort()).toEqual(['death', 'hang', 'memory', 'type-error']);
    expect(found.get('type-error')).toMatch(/^TypeError/);
    expect(found.get('hang')).toBe('no answer in 500 ms');
    expect(found.get('death')).toContain('SIGKILL');
  });
});
