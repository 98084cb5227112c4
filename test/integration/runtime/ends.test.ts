import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { WanqError } from '../../../src/errors.js';
import { Graph } from '../../../src/ir/graph.js';
import { RuntimeHost, type Session } from '../../../src/runtime/host.js';
import { float32Tensor, type HostTensor } from '../../../src/runtime/tensor.js';
import { alive, until } from '../../helpers/cli.js';
import { ROOT } from '../../helpers/fixtures.js';
import { CPU, inMemory, modelOf, node, value } from '../support/graphs.js';

/** A graph that squares `x` as often as its input says, within one native run. */
const loop = inMemory(
  modelOf({
    nodes: [
      node('Loop', ['n', 'on', 'x'], 'y', [
        {
          name: 'body',
          type: 'graph',
          value: new Graph({
            name: 'body',
            nodes: [node('Identity', ['go'], 'goes'), node('Mul', ['z', 'z'], 'zz')],
            initializers: [],
            inputs: [value('i', 'int64', []), value('go', 'bool', []), value('z', 'float32', [1])],
            outputs: [value('goes', 'bool', []), value('zz', 'float32', [1])],
          }),
        },
      ]),
    ],
    inputs: [value('n', 'int64', []), value('on', 'bool', []), value('x', 'float32', [1])],
    outputs: [value('y', 'float32', [1])],
  }),
);

/** Feeds of {@link loop}; a million rounds take a second. */
const rounds = (n: number): Record<string, HostTensor> => ({
  n: { dtype: 'int64', dims: [], data: BigInt64Array.of(BigInt(n)) },
  on: { dtype: 'bool', dims: [], data: Uint8Array.of(1) },
  x: float32Tensor(Float32Array.of(1), [1]),
});
const FOR_HOURS = 1e11;

async function looping(): Promise<{ own: RuntimeHost; session: Session; pid: number }> {
  const own = new RuntimeHost();
  onTestFinished(() => own.close());
  const session = await own.createSession(loop, CPU);
  await session.run(rounds(3));
  return { own, session, pid: own.pid as number };
}

async function failure(promise: Promise<unknown>): Promise<WanqError> {
  const error = await promise.then(
    (result) => result,
    (reason: unknown) => reason,
  );
  if (error instanceof WanqError) return error;
  throw new Error(`expected a WanqError, got ${JSON.stringify(error)}`);
}

function folder(): string {
  const made = mkdtempSync(path.join(tmpdir(), 'wanq-runtime-'));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

// Windows has none of these signals.
describe.skipIf(process.platform === 'win32')('a process in the middle of a native run', () => {
  it.each(['SIGSEGV', 'SIGABRT', 'SIGKILL'] as const)('that %s ends is told of by its name', async (signal) => {
    const { own, session, pid } = await looping();
    const run = failure(session.run(rounds(FOR_HOURS)));
    process.kill(pid, signal);
    expect(await run).toMatchObject({
      code: 'RUNTIME_CRASHED',
      message: `the onnxruntime process was ended by ${signal}`,
      hint: expect.any(String),
    });
    await own.close();
    expect(alive([pid])).toEqual([]);
  });

  it('does not outlive a parent that is killed', async () => {
    const script = path.join(folder(), 'parent.mjs');
    const dist = (file: string): string => JSON.stringify(pathToFileURL(path.join(ROOT, 'dist', 'runtime', file)).href);
    const bytes = 'bytes' in loop ? Buffer.from(loop.bytes).toString('base64') : '';
    writeFileSync(
      script,
      `import { RuntimeHost } from ${dist('host.js')};
      const host = new RuntimeHost();
      const session = await host.createSession({ bytes: Buffer.from('${bytes}', 'base64'), folder: '.' }, { providers: ['cpu'] });
      const feeds = (n) => ({ n: { dtype: 'int64', dims: [], data: BigInt64Array.of(n) },
        on: { dtype: 'bool', dims: [], data: Uint8Array.of(1) }, x: { dtype: 'float32', dims: [1], data: Float32Array.of(1) } });
      await session.run(feeds(3n));
      session.run(feeds(${FOR_HOURS}n));
      setTimeout(() => process.stdout.write(host.pid + '\\n'), 200);`,
    );
    const parent = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    parent.stdout.on('data', (text) => {
      said += text;
    });
    const pid = Number(await until(() => said.includes('\n') && said));
    expect(alive([pid])).toEqual([pid]);
    onTestFinished(() => {
      for (const left of alive([pid])) process.kill(left, 'SIGKILL');
    });
    parent.kill('SIGKILL');
    await until(() => alive([pid]).length === 0, 5000);
  });
});

it.skipIf(process.platform === 'win32')('a process that cannot be started for want of files is told of', async () => {
  const script = path.join(folder(), 'full.mjs');
  writeFileSync(
    script,
    `import { openSync, closeSync } from 'node:fs';
    import { RuntimeHost } from ${JSON.stringify(pathToFileURL(path.join(ROOT, 'dist', 'runtime', 'host.js')).href)};
    const files = [];
    try { for (;;) files.push(openSync('/dev/null', 'r')); } catch {}
    const host = new RuntimeHost();
    const error = await host.status().catch((reason) => reason);
    await host.close();
    for (const file of files) closeSync(file);
    process.stdout.write(JSON.stringify({ code: error.code, hint: error.hint }));`,
  );
  const child = spawn('sh', ['-c', 'ulimit -n 64 && exec "$0" "$1"', process.execPath, script], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  await new Promise((resolve) => child.on('close', resolve));
  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toEqual({ code: 'RUNTIME_NOT_STARTED', hint: expect.stringContaining('ulimit -n') });
});

describe('memory that onnxruntime does not get', () => {
  it('is NO_MEMORY, and the runtime stays usable', async () => {
    const own = new RuntimeHost();
    onTestFinished(() => own.close());
    const session = await own.createSession(
      inMemory(
        modelOf({
          nodes: [node('ConstantOfShape', ['n'], 'y')],
          inputs: [value('n', 'int64', [1])],
          outputs: [value('y', 'float32', ['length'])],
        }),
      ),
      CPU,
    );
    const ask = (n: bigint) => session.run({ n: { dtype: 'int64', dims: [1], data: BigInt64Array.of(n) } });
    const error = await failure(ask(2n ** 45n));
    expect(error).toMatchObject({ code: 'NO_MEMORY', exitCode: 5, hint: expect.any(String) });
    expect(error.message).toMatch(/Failed to allocate memory for requested buffer of size 140737488355328$/);
    expect((await failure(ask(2n ** 62n))).code).toBe('RUNTIME_FAILED');
    expect((await ask(2n)).outputs.y?.data).toEqual(Float32Array.of(0, 0));
  });
});

describe('a request that is not to be passed on', () => {
  it('fails alone, and at once', async () => {
    const { session } = await looping();
    // Pages that nobody touches take no memory.
    const huge = { dtype: 'uint8', dims: [2.1e9], data: new Uint8Array(2.1e9) } as const;
    expect(await failure(session.run({ x: huge }))).toMatchObject({
      code: 'RUNTIME_FAILED',
      message: expect.stringContaining('2100000000 bytes'),
    });
    const functions = { dtype: 'float32', dims: [1], data: { byteLength: 4, call: () => {} } } as unknown as HostTensor;
    expect((await failure(session.run({ x: functions }))).message).toContain('could not be cloned');
    expect((await session.run(rounds(1))).outputs.y?.data).toEqual(Float32Array.of(1));
  });
});

/** A copy of the runtime's own files that finds the packages it is given, and no others. */
function copyOfRuntime(): string {
  const root = folder();
  cpSync(path.join(ROOT, 'package.json'), path.join(root, 'package.json'));
  const names = readdirSync(path.join(ROOT, 'dist'), { recursive: true, encoding: 'utf8' });
  for (const name of names.filter((file) => /^(errors|(runtime|numerics)[/\\].*)\.js$/.test(file))) {
    const target = path.join(root, 'dist', name);
    mkdirSync(path.dirname(target), { recursive: true });
    // Source maps are not copied.
    writeFileSync(
      target,
      readFileSync(path.join(ROOT, 'dist', name), 'utf8').replace(/^\/\/# sourceMappingURL=.*$/m, ''),
    );
  }
  return root;
}

async function hostOf(root: string): Promise<typeof RuntimeHost> {
  const { href } = pathToFileURL(path.join(root, 'dist', 'runtime', 'host.js'));
  return ((await import(/* @vite-ignore */ href)) as { RuntimeHost: typeof RuntimeHost }).RuntimeHost;
}

async function failureOf(root: string): Promise<WanqError> {
  const Copy = await hostOf(root);
  const host = new Copy();
  const error = await host.status().catch((reason: unknown) => reason as WanqError);
  await host.close();
  const { code, message, hint, exitCode } = error as WanqError;
  return { code, message, hint, exitCode } as WanqError;
}

describe('an onnxruntime that is not there', () => {
  const installed = path.join(ROOT, 'node_modules', 'onnxruntime-node');
  const binding = path.join('bin', 'napi-v6', process.platform, process.arch, 'onnxruntime_binding.node');
  const install = (root: string): string => {
    const target = path.join(root, 'node_modules', 'onnxruntime-node');
    mkdirSync(target, { recursive: true });
    cpSync(path.join(installed, 'package.json'), path.join(target, 'package.json'));
    cpSync(path.join(installed, 'dist'), path.join(target, 'dist'), { recursive: true });
    symlinkSync(
      path.join(ROOT, 'node_modules', 'onnxruntime-common'),
      path.join(root, 'node_modules', 'onnxruntime-common'),
      'junction',
    );
    return target;
  };

  it('as a package is RUNTIME_MISSING', async () => {
    expect(await failureOf(copyOfRuntime())).toMatchObject({
      code: 'RUNTIME_MISSING',
      exitCode: 4,
      message: 'the package onnxruntime-node is not installed',
      hint: expect.stringContaining('wanq doctor'),
    });
  });

  it('for this platform is RUNTIME_MISSING', async () => {
    const root = copyOfRuntime();
    install(root);
    expect(await failureOf(root)).toMatchObject({
      code: 'RUNTIME_MISSING',
      message: `onnxruntime-node has no library for ${process.platform} ${process.arch}`,
    });
  });

  it('without its library beside the binding is RUNTIME_MISSING', async () => {
    const root = copyOfRuntime();
    const target = path.join(install(root), binding);
    mkdirSync(path.dirname(target), { recursive: true });
    cpSync(path.join(installed, binding), target);
    expect(await failureOf(root)).toMatchObject({
      code: 'RUNTIME_MISSING',
      message: expect.stringContaining('library'),
    });
  });

  it('that is damaged is RUNTIME_MISSING', async () => {
    const root = copyOfRuntime();
    const target = path.join(install(root), binding);
    mkdirSync(path.dirname(target), { recursive: true });
    writeFileSync(target, readFileSync(path.join(installed, binding)).subarray(7, 5000));
    expect(await failureOf(root)).toMatchObject({
      code: 'RUNTIME_MISSING',
      message: expect.stringContaining('damaged, or that of another machine'),
    });
  });

  it('with its worker gone is RUNTIME_MISSING', async () => {
    const root = copyOfRuntime();
    const worker = path.join(root, 'dist', 'runtime', 'worker.js');
    rmSync(worker);
    expect(existsSync(worker)).toBe(false);
    expect(await failureOf(root)).toMatchObject({ code: 'RUNTIME_MISSING', hint: 'install wanq again' });
  });
});

it.skipIf(process.platform === 'win32')('a process that stands still is ended when its time is over', async () => {
  const own = new RuntimeHost({ timeoutMs: 300 });
  onTestFinished(() => own.close());
  const pid = own.pid as number;
  process.kill(pid, 'SIGSTOP');
  expect(await failure(own.status())).toMatchObject({
    code: 'RUNTIME_TIMEOUT',
    message: 'onnxruntime did not answer within 0.3 s',
    hint: expect.stringContaining('WANQ_RUNTIME_TIMEOUT'),
  });
  await own.close();
  expect(alive([pid])).toEqual([]);
});

it('each call of a queue has the whole time', async () => {
  const root = copyOfRuntime();
  writeFileSync(
    path.join(root, 'dist', 'runtime', 'worker.js'),
    `let before = Promise.resolve();
    const wait = () => new Promise((resolve) => setTimeout(resolve, 300));
    process.on('message', ({ id }) => { before = before.then(wait).then(() => process.send({ id, result: id })); });`,
  );
  const Copy = await hostOf(root);
  const own = new Copy({ timeoutMs: 2000 });
  onTestFinished(() => own.close());
  // Together they take longer than one may.
  expect(await Promise.all(Array.from({ length: 8 }, () => own.status()))).toHaveLength(8);
});

it('a process that ends by itself is told of with its code and its last words', async () => {
  const root = copyOfRuntime();
  writeFileSync(
    path.join(root, 'dist', 'runtime', 'worker.js'),
    "process.on('message', () => { process.stderr.write('noise\\n\\u001b[31mfatal error: 42\\u001b[0m\\n'); process.exit(7); });",
  );
  expect(await failureOf(root)).toMatchObject({
    code: 'RUNTIME_CRASHED',
    message: 'the onnxruntime process ended with code 7: fatal error: 42',
  });
});

it('a process that hangs up and goes on is ended', async () => {
  const root = copyOfRuntime();
  writeFileSync(
    path.join(root, 'dist', 'runtime', 'worker.js'),
    "process.on('message', () => setImmediate(() => process.disconnect())); setInterval(() => {}, 1000);",
  );
  expect(await failureOf(root)).toMatchObject({
    code: 'RUNTIME_CRASHED',
    message: 'the connection to the onnxruntime process broke',
  });
});
