import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from '../helpers/fixtures.js';

/** Lints one line of code as if it stood in `file`. */
function lint(file: string, code: string): string {
  const biome = path.join(ROOT, 'node_modules', '.bin', 'biome');
  const { stdout, stderr } = spawnSync(biome, ['lint', `--stdin-file-path=${path.join(ROOT, file)}`], {
    cwd: ROOT,
    input: code,
    encoding: 'utf8',
  });
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
    ['src/evaluate/new.ts', "import 'onnxruntime-node';"],
    ['src/passes/new.ts', "import 'protobufjs';"],
  ])('refuses, in %s, %s', (file, code) => {
    expect(lint(file, code)).toContain('lint/style/noRestrictedImports');
  });

  it('allows imports that go down', () => {
    expect(lint('src/quantize/new.ts', "import '../passes/pass.js';")).not.toContain('lint/style/noRestrictedImports');
  });
});
