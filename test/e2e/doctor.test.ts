import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Diagnosis } from '../../src/doctor/doctor.js';
import { type Outcome, Workplace } from '../helpers/cli.js';

const place = new Workplace();

function diagnosis({ stdout }: Outcome): Diagnosis {
  return JSON.parse(stdout) as Diagnosis;
}

describe('wanq doctor', () => {
  it('shows a table, how to mend what could be better, and a verdict last', async () => {
    const { code, stdout, stderr } = await place.wanq(['doctor']);
    expect([code, stderr]).toEqual([0, '']);
    for (const check of ['Node', 'platform', 'installation', 'onnxruntime', 'INT8 kernels', 'memory', 'folders']) {
      expect(stdout).toMatch(new RegExp(`^│ (ok|note) +│ ${check} +│ \\S`, 'm'));
    }
    expect(stdout).toMatch(/^wanq \S+ runs here\n$/m);
    expect(place.listing()).toEqual(['tmp', 'work']);
    expect(place.leftovers()).toEqual([]);
  });

  it('finds a temporary folder that is not there, a program that does not run, and goes on', async () => {
    mkdirSync(place.path('bin'));
    const ffmpeg = place.path('bin', 'ffmpeg');
    writeFileSync(ffmpeg, '#!/bin/sh\nexit 3\n');
    chmodSync(ffmpeg, 0o755);
    const gone = path.join(place.root, 'gone');
    const outcome = await place.wanq(['doctor', '--json'], {
      ...{ PATH: place.path('bin'), TMPDIR: gone, TEMP: gone, TMP: gone, HOME: '', LC_ALL: 'de_DE.ISO-8859-1' },
    });
    expect([outcome.code, outcome.stderr]).toEqual([4, '']);
    const { ok, findings } = diagnosis(outcome);
    expect(ok).toBe(false);
    expect(findings.filter(({ status }) => status === 'problem')).toEqual([
      {
        check: 'folders',
        status: 'problem',
        seen: `temporary folder ${gone}: ${gone} does not exist`,
        mend: expect.stringContaining('TMPDIR'),
      },
    ]);
    const notes = findings.filter(({ status }) => status === 'note').map(({ check }) => check);
    expect(notes).toEqual(expect.arrayContaining(process.platform === 'win32' ? ['ffmpeg'] : ['ffmpeg', 'locale']));
    expect(findings.some(({ seen }) => seen.includes('does not run: 3'))).toBe(process.platform !== 'win32');
  });

  it.each([
    [['doctor'], 'WANQ_RUNTIME_TIMEOUT', 'soon', 'give seconds'],
    [['inspect', 'nowhere'], 'WANQ_RUNTIME_THREADS', 'all', 'give a whole number'],
  ])('%s refuses an environment of the runtime that cannot be: %s=%s', async (command, name, value, mend) => {
    const { code, stdout, stderr } = await place.wanq([...command], { [name]: value });
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(new RegExp(`^wanq: ${name} is "${value}": ${mend}.* \\[USAGE\\]\\n$`));
  });
});
