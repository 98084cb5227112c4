import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from '../../helpers/fixtures.js';
import { parseYaml } from '../../helpers/yaml.js';

interface Step {
  readonly id?: string;
  readonly name?: string;
  readonly uses?: string;
  readonly run?: string;
  readonly shell?: string;
  readonly env?: Readonly<Record<string, string>>;
}

interface Composite {
  readonly inputs: Readonly<Record<string, { description: string; required?: string; default?: string }>>;
  readonly outputs: Readonly<Record<string, { description: string; value: string }>>;
  readonly runs: { readonly using: string; readonly steps: readonly Step[] };
}

interface Workflow {
  readonly on: unknown;
  readonly permissions: unknown;
  readonly jobs: { readonly gate: { readonly steps: readonly Step[] } };
}

const read = (...parts: string[]): string => readFileSync(path.join(ROOT, ...parts), 'utf8');
const text = read('action.yml');
const action = parseYaml(text) as unknown as Composite;
const example = read('examples', 'github', 'quantization-gate.yml');
const workflow = parseYaml(example) as unknown as Workflow;

/** What makes steps safe against text that somebody else chose. */
function expectSafe(steps: readonly Step[]): void {
  for (const { run, shell, name } of steps) {
    if (run === undefined) continue;
    expect(shell, name).toBe('bash');
    // An expression is put into the script before bash sees it: what it holds would be code.
    expect(run, name).not.toContain('${{');
  }
}

/** Versions of actions, as comments tell them, by the commit they are pinned to. */
function pins(source: string): string[] {
  return [...source.matchAll(/^\s*(?:- )?uses: (.*)$/gm)].map(([, use = '']) => use);
}

describe('action.yml', () => {
  it('runs nothing but bash, with nothing from outside in a script', () => {
    expect(action.runs.using).toBe('composite');
    expectSafe(action.runs.steps);
    expect(action.runs.steps.flatMap(({ run }) => run ?? [])).toEqual([
      'bash "$GITHUB_ACTION_PATH/action/install.sh"',
      'bash "$GITHUB_ACTION_PATH/action/run.sh"',
    ]);
  });

  it('pins every action to a commit, and tells its version', () => {
    expect(pins(text)).toHaveLength(2);
    for (const use of pins(text)) expect(use).toMatch(/^actions\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  });

  it('declares every input that it reads, and reads every one', () => {
    const used = [...text.matchAll(/\$\{\{ inputs\.([\w-]+) \}\}/g)].map(([, name]) => name);
    expect([...new Set(used)].sort()).toEqual(Object.keys(action.inputs).sort());
  });

  it('hands its scripts the variables they read', () => {
    for (const [script, id, own] of [
      ['install.sh', 'install', ['PWD', 'RUNNER_TEMP', 'GITHUB_OUTPUT']],
      [
        'run.sh',
        'gate',
        ['BASH_SOURCE', 'RUNNER_TEMP', 'TMPDIR', 'GITHUB_OUTPUT', 'GITHUB_ACTIONS', 'GITHUB_STEP_SUMMARY'],
      ],
    ] as const) {
      const given = Object.keys(action.runs.steps.find((step) => step.id === id)?.env ?? {});
      const names = [...read('action', script).matchAll(/\$\{?([A-Z][A-Z_]+)/g)].map(([, name]) => name as string);
      expect(names.filter((name) => !given.includes(name) && !(own as readonly string[]).includes(name))).toEqual([]);
    }
  });

  it('takes its outputs from steps that are there', () => {
    for (const { value } of Object.values(action.outputs)) {
      const [, id] = value.match(/^\$\{\{ steps\.(\w+)\.outputs\.[\w-]+ \}\}$/) ?? [];
      expect(action.runs.steps.map((step) => step.id)).toContain(id);
    }
  });

  it('keeps the report whatever became of the steps before', () => {
    expect(text).toMatch(/if: always\(\) && steps\.gate\.outputs\.report-path != ''/);
  });
});

describe('the example workflow', () => {
  it('may read the repository and nothing else, and runs on pull requests without secrets', () => {
    expect(workflow.permissions).toEqual({ contents: 'read' });
    expect(workflow.on).toEqual({ pull_request: '' });
    expect(example).not.toContain('secrets.');
  });

  it('is as careful as the action', () => {
    expectSafe(workflow.jobs.gate.steps);
    const [checkout, own] = pins(example);
    expect(checkout).toMatch(/^actions\/checkout@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
    expect(own).toBe('OWNER/wanq@FULL_COMMIT_SHA');
  });

  it('gives the action inputs that it has', () => {
    const step = workflow.jobs.gate.steps.find(({ id }) => id === 'gate') as unknown as { with: object };
    for (const name of Object.keys(step.with)) expect(Object.keys(action.inputs)).toContain(name);
  });
});

describe('the example for GitLab', () => {
  it('keeps the JUnit report of a job that failed', () => {
    const file = parseYaml(read('examples', 'gitlab', '.gitlab-ci.yml')) as never as {
      'quantization-gate': { script: string[]; artifacts: { when: string; reports: { junit: string } } };
    };
    const { script, artifacts } = file['quantization-gate'];
    expect(artifacts).toMatchObject({ when: 'always', reports: { junit: 'report/junit.xml' } });
    expect(script.at(-1)).toContain('--junit report/junit.xml');
  });
});
