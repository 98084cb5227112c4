import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import * as limits from '../../src/limits.js';
import { ROOT } from '../helpers/fixtures.js';

const values = new Map<string, unknown>(Object.entries(limits));
const source = readFileSync(path.join(ROOT, 'src', 'limits.ts'), 'utf8');
const document = readFileSync(path.join(ROOT, 'docs', 'security.md'), 'utf8');

/** Rows of the table: name, value, CWE, what it bounds. */
const rows = [...document.matchAll(/^\| `(MAX_\w+)` \| ([\d,]+) \| ([^|]*) \| ([^|]+) \|$/gm)];

/** The comment above each limit. */
const comments = new Map(
  [...source.matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\nexport const (MAX_\w+)/g)].map(([, comment, name]) => [
    name as string,
    comment as string,
  ]),
);

describe('the limits', () => {
  it('stand in docs/security.md, all of them, in their order, with their values', () => {
    expect(rows.map(([, name, value]) => [name, Number(value?.replaceAll(',', ''))])).toEqual(
      [...source.matchAll(/export const (MAX_\w+)/g)].map(([, name]) => [name, values.get(name as string)]),
    );
  });

  it.each([...values.keys()])('%s says why, how large real ones are, and what it stops', (name) => {
    const comment = comments.get(name) ?? '';
    const [, , , cwe] = rows.find(([, of]) => of === name) ?? [];
    expect(comment).toMatch(/\d/);
    expect([...comment.matchAll(/CWE-\d+/g)].map(String).join(', ')).toBe(cwe);
    expect(cwe).not.toBe('');
  });
});
