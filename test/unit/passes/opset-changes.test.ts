import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { FIRST_OPSET, IR_VERSIONS, LAST_OPSET, OPERATORS } from '../../../src/passes/opset-changes.js';
import { ROOT } from '../../helpers/fixtures.js';

const facts = JSON.parse(readFileSync(path.join(ROOT, 'fixtures', 'onnx-operators', 'versions.json'), 'utf8')) as {
  operators: Record<string, number[]>;
  irVersions: Record<string, number>;
};

/** Operators no model from opset 11 on can have. */
const GONE = ['Scatter', 'Upsample'];

/** The version in force at the first opset, and every later one up to the last. */
function versionsOf(operator: string): number[] {
  const versions = (facts.operators[operator] ?? []).filter((version) => version <= LAST_OPSET);
  const first = versions.findLastIndex((version) => version <= FIRST_OPSET);
  return versions.slice(Math.max(first, 0));
}

it('has every operator of ONNX with every version it changed at', () => {
  const known = Object.keys(facts.operators).filter((name) => versionsOf(name).length > 0 && !GONE.includes(name));
  expect(known.length).toBeGreaterThan(190);
  const table = Object.entries(OPERATORS).map(([name, versions]) => [
    name,
    versions.map((version) => (typeof version === 'number' ? version : version[0])),
  ]);
  expect(Object.fromEntries(table)).toEqual(Object.fromEntries(known.map((name) => [name, versionsOf(name)])));
});

it('has the IR version of every opset', () => {
  for (let opset = FIRST_OPSET; opset <= LAST_OPSET; opset++) {
    expect([opset, IR_VERSIONS.findLast(([from]) => from <= opset)?.[1]]).toEqual([opset, facts.irVersions[opset]]);
  }
});
