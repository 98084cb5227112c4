import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeKilledJobs } from './kills/jobs.js';
import { type KilledJob, KillLoop } from './kills/loop.js';

const root = mkdtempSync(path.join(tmpdir(), 'wanq-kills-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A few kills; `npm run kill-loop` does hundreds. */
describe.skipIf(process.platform === 'win32')('killed at random moments and run again,', () => {
  let jobs: Map<string, KilledJob>;

  beforeAll(async () => {
    jobs = await makeKilledJobs(path.join(root, 'inputs'));
  });

  it('calibrate ends with the same bytes, and nothing else is left', async () => {
    const tally = await new KillLoop(root, 5).run(jobs.get('calibrate, briefly') as KilledJob, 3);
    expect(tally).toMatchObject({ kills: 3, mismatches: 0, leftovers: 0, survivors: 0, problems: [] });
  });

  it('a job that takes over what is of another run is found out', async () => {
    const job = jobs.get('quantize') as KilledJob;
    let made = 0;
    const { mismatches, problems } = await new KillLoop(root, 2).run({ ...job, digest: () => String(made++) }, 1);
    expect(mismatches).toBe(1);
    expect(problems[0]).toMatch(/q is not what it is undisturbed/);
  });
});
