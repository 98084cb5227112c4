import { describe, expect, it } from 'vitest';
import { examine } from '../../../src/doctor/doctor.js';
import type { Check } from '../../../src/doctor/finding.js';
import { WanqError } from '../../../src/errors.js';

const place = { env: {}, cwd: '.', signal: new AbortController().signal };
const well: Check = { name: 'well', look: async () => [{ status: 'ok', seen: 'fine' }] };
const fails = (name: string, error: unknown): Check => ({
  name,
  look: () => {
    throw error;
  },
});

describe('a diagnosis', () => {
  it('has a check that fails as a problem, on one line, and the others in their order', async () => {
    const late: Check = {
      name: 'late',
      look: async () => {
        await new Promise((resolve) => setTimeout(resolve, 5));
        return [{ status: 'note', seen: 'a', mend: 'b' }];
      },
    };
    const checks = [late, fails('broken', new Error('no\nluck')), well, fails('odd', 'text')];
    expect(await examine(place, checks)).toEqual({
      ok: false,
      findings: [
        { check: 'late', status: 'note', seen: 'a', mend: 'b' },
        { check: 'broken', status: 'problem', seen: 'could not be looked at: no luck' },
        { check: 'well', status: 'ok', seen: 'fine' },
        { check: 'odd', status: 'problem', seen: 'could not be looked at: text' },
      ],
    });
  });

  it('is well with notes alone', async () => {
    const note: Check = { name: 'n', look: async () => [{ status: 'note', seen: 'x' }] };
    expect((await examine(place, [well, note])).ok).toBe(true);
  });

  it('tells how to mend what a check threw', async () => {
    const { findings } = await examine(place, [fails('x', new WanqError('NO_SPACE', 'full', { hint: 'free some' }))]);
    expect(findings[0]).toMatchObject({ seen: 'could not be looked at: full', mend: 'free some' });
  });

  it('ends when it is interrupted', async () => {
    const signal = AbortSignal.abort(new WanqError('INTERRUPTED', 'interrupted'));
    await expect(examine({ ...place, signal }, [well])).rejects.toMatchObject({ code: 'INTERRUPTED' });
  });
});
