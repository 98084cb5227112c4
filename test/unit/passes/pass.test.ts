import { describe, expect, it } from 'vitest';
import { type Pass, requireOpset, runPasses } from '../../../src/passes/pass.js';
import { expectRefusal } from '../helpers/errors.js';
import { model, node } from '../helpers/graphs.js';

const pass = (name: string, modifies: boolean, more: Partial<Pass> = {}): Pass => ({
  name,
  description: name,
  run: (made) => {
    made.graph.name += name;
    return modifies ? `did ${name}` : undefined;
  },
  ...more,
});

describe('runPasses', () => {
  it('runs in order and names the passes that changed something', () => {
    const made = model({ nodes: [node('Relu', ['x'], 'y')] });
    expect(runPasses(made, [pass('A', true), pass('B', false), pass('C', true)])).toEqual([
      { pass: 'A', did: 'did A' },
      { pass: 'C', did: 'did C' },
    ]);
    expect(made.graph.name).toBe('testABC');
  });

  it('runs nothing where the model does not meet a requirement', () => {
    const made = model({ nodes: [] }, 12);
    const demanding = pass('A', true, { requires: (given) => requireOpset(given, 13, 'this test') });
    expectRefusal(() => runPasses(made, [demanding]), 'MODEL_UNSUPPORTED');
    expect(made.graph.name).toBe('test');
    expect(runPasses(model({ nodes: [] }, 13), [demanding])).toHaveLength(1);
  });

  it('throws a plain error where a pass broke the model', () => {
    const broken = pass('A', true, { ensures: () => 'it is broken' });
    expect(() => runPasses(model({ nodes: [] }), [broken])).toThrow('pass A left the model broken: it is broken');
  });
});
