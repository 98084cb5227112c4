import { expect } from 'vitest';
import type { ErrorCode } from '../../src/errors.js';
import type { Workplace } from './cli.js';

/** Exactly one line that names the mistake, the right exit code, and nothing left behind. */
export async function expectMistakeIn(
  place: Workplace,
  args: readonly string[],
  code: ErrorCode,
  exit: number,
  says: string,
): Promise<void> {
  const before = place.listing();
  const outcome = await place.wanq(args);
  expect(outcome.stderr).toMatch(new RegExp(`^wanq: .* \\[${code}\\]\\n$`));
  expect(outcome.stderr).toContain(says);
  expect(outcome).toMatchObject({ code: exit, stdout: '' });
  expect(place.listing()).toEqual(before);
}
