import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Diagnosis } from '../../src/doctor/doctor.js';
import { MICRO_PIPELINE, ROOT } from '../helpers/fixtures.js';

const run = promisify(execFile);

interface Packed {
  readonly filename: string;
  readonly unpackedSize: number;
  readonly size: number;
  readonly files: readonly { readonly path: string; readonly mode: number }[];
}

interface Locked {
  readonly name?: string;
  readonly version: string;
  readonly integrity?: string;
  readonly resolved?: string;
  readonly license?: string;
  readonly link?: boolean;
  readonly dev?: boolean;
  readonly hasInstallScript?: boolean;
}

function json<T>(file: string): T {
  return JSON.parse(readFileSync(path.join(ROOT, file), 'utf8')) as T;
}

const { packages } = json<{ packages: Readonly<Record<string, Locked>> }>('package-lock.json');
/** Without wanq itself. */
const locked = Object.entries(packages).filter(([place]) => place !== '');
const nameOf = (place: string, { name }: Locked): string => name ?? place.replace(/^.*node_modules\//, '');

const folder = realpathSync(mkdtempSync(path.join(tmpdir(), 'wanq-pack-')));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the package', () => {
  const home = path.join(folder, 'package');
  let packed: Packed;

  /** Runs the packed wanq in another folder. */
  async function wanq(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const { PATH = '', SystemRoot = '' } = process.env;
    const options = { cwd: folder, env: { PATH, SystemRoot, TMPDIR: folder, TEMP: folder } };
    return run(process.execPath, [path.join(home, 'bin', 'wanq.js'), ...args], options).then(
      (ended) => ({ code: 0, ...ended }),
      ({ code, stdout, stderr }) => ({ code, stdout, stderr }),
    );
  }

  beforeAll(async () => {
    // Without its scripts: they would build, and others are running what is built.
    const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder];
    const { stdout } = await run('npm', args, { cwd: ROOT, shell: process.platform === 'win32' });
    [packed] = JSON.parse(stdout) as [Packed];
    await run('tar', ['-xzf', packed.filename], { cwd: folder });
    for (const [place, { dev }] of locked) {
      // Of what lies inside another package a link to that one is enough. Optional ones are those of other platforms.
      const [, name] = place.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)$/) ?? [];
      if (name === undefined || dev) continue;
      const target = path.join(home, 'node_modules', name);
      mkdirSync(path.dirname(target), { recursive: true });
      symlinkSync(realpathSync.native(path.join(ROOT, 'node_modules')) + path.sep + name, target, 'junction');
    }
  });

  it('has the program, its prompts and scripts, and nothing else', () => {
    const sources = readdirSync(path.join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
      .map((file) => file.replaceAll('\\', '/'))
      .filter((file) => file.endsWith('.ts'));
    const scripts = ['wan_export', 'wan_features', 'wan_qat'].flatMap((part) =>
      readdirSync(path.join(ROOT, 'python', part))
        .filter((file) => file.endsWith('.py'))
        .map((file) => `python/${part}/${file}`),
    );
    expect(packed.files.map((file) => file.path).sort()).toEqual(
      [
        ...['LICENSE', 'README.md', 'SECURITY.md', 'package.json', 'bin/wanq.js'],
        ...['prompts/calibration.txt', 'prompts/eval.txt'],
        ...['README.md', 'requirements.txt', 'requirements-features.txt'].map((file) => `python/${file}`),
        ...['export_i3d.py', 'export_lpips.py', 'export_wan.py', 'qat.py'].map((file) => `python/${file}`),
        ...scripts,
        ...sources.flatMap((file) => ['.js', '.d.ts'].map((ending) => `dist/${file.replace(/\.ts$/, ending)}`)),
      ].sort(),
    );
  });

  it('is small, and its program may be executed', () => {
    expect(packed.size).toBeLessThan(1e6);
    expect(packed.unpackedSize).toBeLessThan(4e6);
    expect((packed.files.find((file) => file.path === 'bin/wanq.js')?.mode ?? 0) & 0o111).toBe(0o111);
  });

  it('runs with production dependencies alone, without a home folder', async () => {
    expect(await wanq('--version')).toMatchObject({ code: 0, stdout: `${json<Locked>('package.json').version}\n` });
    const inspected = await wanq('inspect', MICRO_PIPELINE, '--json');
    expect(inspected).toMatchObject({ code: 0, stderr: '' });
    const { code, stdout, stderr } = await wanq('doctor', '--json');
    expect([code, stderr]).toEqual([0, '']);
    const { findings } = JSON.parse(stdout) as Diagnosis;
    expect(findings).toContainEqual({ check: 'installation', status: 'ok', seen: `complete, in ${home}${path.sep}` });
    expect(findings).toContainEqual(
      expect.objectContaining({
        check: 'onnxruntime',
        status: 'ok',
        seen: expect.stringContaining('cpu: runs a model'),
      }),
    );
    expect(findings).toContainEqual(expect.objectContaining({ check: 'images', status: 'ok' }));
    expect(findings).toContainEqual(
      expect.objectContaining({ check: 'home folder', seen: 'not set; wanq does without' }),
    );
  });

  it('that lost files and packages is told of by `wanq doctor`, exit code 4', async () => {
    rmSync(path.join(home, 'dist', 'gate', 'judge.js'));
    rmSync(path.join(home, 'prompts', 'eval.txt'));
    for (const name of ['onnxruntime-node', 'sharp']) rmSync(path.join(home, 'node_modules', name));
    const { code, stdout } = await wanq('doctor', '--json');
    expect(code).toBe(4);
    const { ok, findings } = JSON.parse(stdout) as Diagnosis;
    expect(ok).toBe(false);
    expect(findings.filter(({ status }) => status === 'problem')).toEqual([
      {
        check: 'installation',
        status: 'problem',
        seen: 'files missing: dist/gate/judge.js, prompts/eval.txt',
        mend: 'install wanq again',
      },
      {
        check: 'installation',
        status: 'problem',
        seen: 'packages missing: onnxruntime-node, sharp',
        mend: 'install wanq again',
      },
      {
        check: 'onnxruntime',
        status: 'problem',
        seen: 'the package onnxruntime-node is not installed',
        mend: 'install wanq again with its dependencies',
      },
      { check: 'images', status: 'problem', seen: expect.stringMatching(/Cannot find/), mend: expect.any(String) },
    ]);
  });
});

describe('package-lock.json', () => {
  it('holds every package by a SHA-512, from the public registry', () => {
    expect(locked.length).toBeGreaterThan(100);
    for (const [place, { integrity, resolved, link }] of locked) {
      expect(integrity, place).toMatch(/^sha512-[A-Za-z0-9+/]{86}==$/);
      if (resolved !== undefined) expect(resolved, place).toMatch(/^https:\/\/registry\.npmjs\.org\//);
      expect(link, place).toBeUndefined();
    }
  });

  it('has no install script that package.json does not refuse', () => {
    const scripts = locked.filter(([, { hasInstallScript }]) => hasInstallScript);
    const { allowScripts } = json<{ allowScripts: Readonly<Record<string, boolean>> }>('package.json');
    expect(Object.keys(allowScripts).sort()).toEqual(
      [...new Set(scripts.map(([place, entry]) => nameOf(place, entry)))].sort(),
    );
    expect(Object.values(allowScripts)).not.toContain(true);
    // Whose script only downloads CUDA libraries: SECURITY.md, `wanq doctor`.
    expect(scripts.filter(([, { dev }]) => !dev).map(([place]) => place)).toEqual(['node_modules/onnxruntime-node']);
  });
});

describe('the bill of materials', () => {
  interface Component {
    readonly name: string;
    readonly version: string;
    readonly purl: string;
    readonly licenses: readonly unknown[];
    readonly hashes: readonly { readonly alg: string; readonly content: string }[];
  }

  it('has every production dependency with version, licence and hash, and is the same at every run', async () => {
    const file = path.join(folder, 'sbom.json');
    await run(process.execPath, [path.join(ROOT, '.ci', 'sbom.mjs'), file]);
    const text = readFileSync(file, 'utf8');
    expect(text).not.toMatch(/serialNumber|timestamp/);
    const { bomFormat, metadata, components, dependencies } = JSON.parse(text) as {
      bomFormat: string;
      metadata: { component: Component };
      components: readonly Component[];
      dependencies: readonly { ref: string; dependsOn: readonly string[] }[];
    };
    expect([bomFormat, metadata.component.name]).toEqual(['CycloneDX', 'wanq']);

    const production = locked.filter(([, { dev }]) => !dev);
    const wanted = new Map(production.map(([place, entry]) => [`${nameOf(place, entry)}@${entry.version}`, entry]));
    expect(components.map(({ name, version }) => `${name}@${version}`).sort()).toEqual([...wanted.keys()].sort());
    for (const { name, version, purl, licenses, hashes } of components) {
      const { integrity = '' } = wanted.get(`${name}@${version}`) as Locked;
      const content = Buffer.from(integrity.replace('sha512-', ''), 'base64').toString('hex');
      expect(hashes, name).toEqual([{ alg: 'SHA-512', content }]);
      expect(licenses, name).toHaveLength(1);
      expect(purl, name).toBe(`pkg:npm/${name.replace('@', '%40')}@${version}`);
    }
    const { dependencies: direct } = json<{ dependencies: Readonly<Record<string, string>> }>('package.json');
    const own = dependencies.find(({ ref }) => ref.startsWith('wanq@'))?.dependsOn ?? [];
    expect(own.map((reference) => reference.replace(/@[^@]+$/, ''))).toEqual(Object.keys(direct).sort());
    for (const { dependsOn } of dependencies)
      for (const reference of dependsOn) expect(wanted.has(reference)).toBe(true);
  });
});
