import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { judgeKernels } from '../../../src/doctor/checks/kernels.js';
import { judgeLocale } from '../../../src/doctor/checks/locale.js';
import { judgeMemory } from '../../../src/doctor/checks/memory.js';
import { judgeNode } from '../../../src/doctor/checks/node.js';
import { judgeOpenFiles } from '../../../src/doctor/checks/open-files.js';
import { missingFiles, missingPackages } from '../../../src/doctor/checks/own-files.js';
import { judgePlatform } from '../../../src/doctor/checks/platform.js';
import { manifest } from '../../../src/doctor/package.js';
import { ROOT } from '../../helpers/fixtures.js';

it.each([
  ['20.12.0', '>=20.12', 'ok'],
  ['20.12', '>=20.12', 'ok'],
  ['22.0.1', '>=20.12', 'ok'],
  ['25.0.0-nightly2026', '>=20.12', 'ok'],
  ['20.11.9', '>=20.12', 'problem'],
  ['18.20.0', '>=20.12', 'problem'],
  ['20.9.0', '>=20.12', 'problem'],
  ['20.12.0', '^20 || ^22', 'note'],
])('Node %s where %s is asked for: %s', (version, wanted, status) => {
  expect(judgeNode(version, wanted).status).toBe(status);
});

it('understands the engines of package.json', () => {
  expect(judgeNode(process.versions.node, manifest().engines.node).status).toBe('ok');
});

it.each([
  ['linux', 'x64', 'glibc 2.36', 'ok'],
  ['linux', 'arm64', 'glibc 2.28', 'ok'],
  ['linux', 'x64', 'no glibc (musl?)', 'problem'],
  ['linux', 'riscv64', 'glibc 2.36', 'problem'],
  ['darwin', 'arm64', undefined, 'ok'],
  ['darwin', 'x64', undefined, 'problem'],
  ['win32', 'x64', undefined, 'ok'],
  ['freebsd', 'x64', undefined, 'problem'],
])('%s %s, %s: %s', (platform, arch, library, status) => {
  expect(judgePlatform(platform, arch, library).status).toBe(status);
});

it.each([
  ['x64', 'flags\t\t: fpu avx2 avx512bw avx512_vnni', 'ok', 'avx512_vnni'],
  ['x64', 'processor: 0\nflags : fpu avx2 avx_vnni\n', 'ok', 'avx_vnni'],
  ['x64', 'flags\t: fpu avx avx2', 'note', 'avx2 without VNNI'],
  ['x64', 'flags\t: fpu sse4_2', 'note', 'neither'],
  ['arm64', 'Features\t: fp asimd asimddp', 'ok', 'asimddp'],
  ['arm64', 'Features\t: fp asimd', 'note', 'no dot products'],
  ['x64', '', 'note', 'unknown'],
])('INT8 kernels of %s with "%s": %s', (arch, cpuinfo, status, seen) => {
  expect(judgeKernels(arch, cpuinfo)).toMatchObject({ status, seen: expect.stringContaining(seen) });
});

it.each([
  [64e9, 0, 'ok', '64.0 GB, 1.0 GB free'],
  [64e9, 2 ** 64, 'ok', '64.0 GB, 1.0 GB free'],
  [64e9, 4e9, 'note', 'limited to 4.0 GB by the control group'],
  [64e9, 0.5e9, 'problem', 'limited to 0.5 GB'],
  [4e9, 0, 'note', '4.0 GB'],
])('memory of %d with a limit of %d: %s', (total, limit, status, seen) => {
  expect(judgeMemory(total, 1e9, limit)).toMatchObject({ status, seen: expect.stringContaining(seen) });
});

it.each([
  ['linux', {}, 'ok'],
  ['linux', { LANG: 'de_DE.UTF-8' }, 'ok'],
  ['linux', { LANG: 'en_US.UTF-8', LC_ALL: 'C' }, 'ok'],
  ['linux', { LANG: 'en_US.UTF-8', LC_CTYPE: 'ja_JP.eucJP' }, 'note'],
  ['win32', { LANG: 'ja_JP.eucJP' }, 'ok'],
])('locale on %s with %j: %s', (platform, env, status) => {
  expect(judgeLocale(platform, env).status).toBe(status);
});

it.each([
  [1024, 'ok'],
  [255, 'note'],
  ['unlimited', 'ok'],
  [undefined, 'ok'],
])('open files, %s: %s', (limit, status) => {
  expect(judgeOpenFiles(limit).status).toBe(status);
});

describe('files of an installation', () => {
  function installation(): string {
    const root = mkdtempSync(path.join(tmpdir(), 'wanq-doctor-'));
    onTestFinished(() => rmSync(root, { recursive: true, force: true }));
    for (const part of ['dist', 'prompts', 'bin', 'python/qat.py'])
      cpSync(path.join(ROOT, part), path.join(root, part), {
        recursive: true,
        filter: (file) => !/\.(map|d\.ts)$/.test(file),
      });
    return root;
  }

  it('are all there, or are named: imported, loaded later, started or read', () => {
    const root = installation();
    expect(missingFiles(root)).toEqual([]);
    const gone = [
      'dist/cli/actions/gate.js',
      'dist/errors.js',
      'dist/onnx/convert/worker.js',
      'dist/runtime/watchdog.js',
      'dist/runtime/worker.js',
      'prompts/calibration.txt',
    ];
    for (const file of gone) rmSync(path.join(root, file));
    expect(missingFiles(root)).toEqual(gone);
  });

  it('include packages, here or in a folder above', () => {
    const root = mkdtempSync(path.join(tmpdir(), 'wanq-doctor-'));
    onTestFinished(() => rmSync(root, { recursive: true, force: true }));
    const home = path.join(root, 'node_modules', 'wanq');
    for (const [folder, name] of [
      [home, '@scope/inner'],
      [root, 'outer'],
    ] as const) {
      mkdirSync(path.join(folder, 'node_modules', name), { recursive: true });
      writeFileSync(path.join(folder, 'node_modules', name, 'package.json'), '{}');
    }
    expect(missingPackages(home, ['outer', '@scope/inner', 'neither'])).toEqual(['neither']);
  });
});
