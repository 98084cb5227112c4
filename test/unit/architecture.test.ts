import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ROOT } from '../helpers/fixtures.js';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'wanq-lint-'));
  copyFileSync(path.join(ROOT, 'biome.json'), path.join(folder, 'biome.json'));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Lints one line of code in `file` under the project's configuration. */
function lint(file: string, code: string): string {
  mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
  writeFileSync(path.join(folder, file), `${code}\n`);
  const biome = path.join(ROOT, 'node_modules', '.bin', 'biome');
  const { stdout, stderr } = spawnSync(biome, ['lint', '--vcs-enabled=false', file], { cwd: folder, encoding: 'utf8' });
  return stdout + stderr;
}

describe('the import rule', () => {
  it.each([
    ['src/numerics/new.ts', "import '../ir/tensor.js';"],
    ['src/ir/new.ts', "import '../onnx/codec.js';"],
    ['src/gate/new.ts', "import '../pipeline/vae.js';"],
    ['src/passes/new.ts', "import '../quantize/plan.js';"],
    ['src/calibrate/new.ts', "import '../cli/main.js';"],
    ['src/quantize/new.ts', "import 'commander';"],
    ['src/import/new.ts', "import '../cli/main.js';"],
    ['src/onnx/new.ts', "import '../import/import.js';"],
    ['src/generate/new.ts', "import '../cli/main.js';"],
    ['src/generate/new.ts', "import '../search/search.js';"],
    ['src/pipeline/new.ts', "import '../generate/generate.js';"],
    ['src/evaluate/new.ts', "import 'onnxruntime-node';"],
    ['src/evaluate/new.ts', "import '../search/search.js';"],
    ['src/report/new.ts', "import '../search/search.js';"],
    ['src/compare/new.ts', "import '../evaluate/evaluate.js';"],
    ['src/compare/new.ts', "import '../pipeline/vae.js';"],
    ['src/report/new.ts', "import '../compare/compare.js';"],
    ['src/gate/new.ts', "import '../compare/compare.js';"],
    ['src/search/new.ts', "import '../cli/main.js';"],
    ['src/search/new.ts', "import 'onnxruntime-node';"],
    ['src/search/new.ts', "import '../remedy/ladder.js';"],
    ['src/quantize/new.ts', "import '../remedy/ladder.js';"],
    ['src/report/new.ts', "import '../remedy/rung.js';"],
    ['src/remedy/new.ts', "import '../cli/main.js';"],
    ['src/passes/new.ts', "import 'protobufjs';"],
    ['src/doctor/new.ts', "import '../cli/main.js';"],
    ['src/doctor/new.ts', "import '../evaluate/evaluate.js';"],
    ['src/runtime/new.ts', "import '../doctor/doctor.js';"],
  ])('refuses, in %s, %s', (file, code) => {
    expect(lint(file, code)).toContain('lint/style/noRestrictedImports');
  });

  it('leaves onnxruntime to one file, which runs in a process of its own', () => {
    const files = readdirSync(path.join(ROOT, 'src'), { recursive: true, encoding: 'utf8' });
    const importing = files.filter(
      (file) =>
        file.endsWith('.ts') &&
        /(from|import\(|require\() ?'onnxruntime-(node|common)/.test(
          readFileSync(path.join(ROOT, 'src', file), 'utf8'),
        ),
    );
    expect(importing).toEqual([path.join('runtime', 'worker.ts')]);
  });

  it('allows imports that go down', () => {
    const output = lint('src/quantize/new.ts', "import '../passes/pass.js';");
    expect(output).toContain('Checked 1 file');
    expect(output).not.toContain('noRestrictedImports');
  });
});
