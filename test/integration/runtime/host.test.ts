import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { WanqError } from '../../../src/errors.js';
import { type HostOptions, RuntimeHost } from '../../../src/runtime/host.js';
import { float32Tensor, type HostTensor } from '../../../src/runtime/tensor.js';
import { MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { floats } from '../support/arrays.js';
import { sharedHost } from '../support/environment.js';
import { CPU, cast, inMemory, modelOf, node, value } from '../support/graphs.js';

const host = sharedHost();
const double = inMemory(
  modelOf({
    nodes: [node('Add', ['x', 'x'], 'y')],
    inputs: [value('x', 'float32', ['n'])],
    outputs: [value('y', 'float32', ['n'])],
  }),
);
const large = { path: `${MICRO_PIPELINE}/vae_decoder/model.onnx` };

function ownHost(options?: HostOptions): RuntimeHost {
  const own = new RuntimeHost(options);
  onTestFinished(() => own.close());
  return own;
}

function workers(): number[] {
  const rows = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,args='], { encoding: 'utf8' }).split('\n');
  return rows
    .map((row) => row.trim().split(/\s+/))
    .filter(([, parent, ...args]) => Number(parent) === process.pid && args.join(' ').includes('runtime/worker.js'))
    .map(([pid]) => Number(pid));
}

async function newWorker(options?: HostOptions): Promise<{ own: RuntimeHost; pid: number }> {
  const before = new Set(workers());
  const own = ownHost(options);
  const [pid] = workers().filter((worker) => !before.has(worker));
  if (pid === undefined) throw new Error('no child process was started');
  return { own, pid };
}

async function failure(promise: Promise<unknown>): Promise<WanqError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof WanqError) return error;
  throw new Error(`expected a WanqError, got ${String(error)}`);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be there
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;

describe('the child process', () => {
  it.each(['SIGKILL', 'SIGSEGV'] as const)(
    'ended by %s fails waiting and later calls with RUNTIME_CRASHED',
    async (signal) => {
      const { own, pid } = await newWorker();
      const session = await own.createSession(double, CPU);
      const waiting = own.createSession(large, CPU);
      process.kill(pid, signal);
      expect(await failure(waiting)).toMatchObject({
        code: 'RUNTIME_CRASHED',
        message: expect.stringContaining(signal),
      });
      expect((await failure(session.run({ x: float32Tensor(Float32Array.of(1), [1]) }))).code).toBe('RUNTIME_CRASHED');
      expect((await failure(own.createSession(double, CPU))).code).toBe('RUNTIME_CRASHED');
      await own.close();
      expect(workers()).not.toContain(pid);
    },
  );

  it('that does not answer in time is ended with RUNTIME_TIMEOUT', async () => {
    const { own, pid } = await newWorker({ timeoutMs: 1 });
    expect((await failure(own.createSession(double, CPU))).code).toBe('RUNTIME_TIMEOUT');
    await own.close();
    expect(workers()).not.toContain(pid);
  });

  it('is ended at once by the signal, whose reason rejects every waiting call', async () => {
    const controller = new AbortController();
    const { own, pid } = await newWorker({ signal: controller.signal });
    const waiting = [own.createSession(large, CPU), own.status()];
    const start = performance.now();
    controller.abort(new Error('stop'));
    for (const call of waiting) await expect(call).rejects.toThrow('stop');
    expect(performance.now() - start).toBeLessThan(50);
    await expect(own.status()).rejects.toThrow('stop');
    await own.close();
    expect(workers()).not.toContain(pid);
  });

  it('is not started under a signal that was given already', () => {
    const before = workers();
    expect(() => new RuntimeHost({ signal: AbortSignal.abort(new Error('too late')) })).toThrow('too late');
    expect(workers()).toEqual(before);
  });

  it('is gone after close(), which may be called again, and waiting calls fail', async () => {
    const { own, pid } = await newWorker();
    await own.createSession(double, CPU);
    const waiting = own.status().catch((error: Error) => error.message);
    await Promise.all([own.close(), own.close()]);
    await own.close();
    expect(workers()).not.toContain(pid);
    expect(await waiting).toMatch(/closed/);
    await expect(own.status()).rejects.toThrow(/closed/);
  });
});

describe('a model that does not load', () => {
  const broken = modelOf({
    nodes: [node('No\nSuch\u001b[31mOperator', ['x'], 'y\u2028\u0007')],
    inputs: [value('x', 'float32', [1])],
    outputs: [value('y\u2028\u0007', 'float32', [1])],
  });

  it.each([
    ['truncated', { bytes: inMemoryBytes().subarray(0, 40), folder: '.' }],
    ['of random bytes', { bytes: Uint8Array.of(1, 2, 3, 255, 0, 10), folder: '.' }],
    ['empty', { bytes: new Uint8Array(0), folder: '.' }],
    ['with control characters in its names', inMemory(broken)],
    ['that is not there', { path: '/nowhere/model.onnx' }],
  ])('%s gives RUNTIME_FAILED on one printable line', async (_, source) => {
    const error = await failure(host.createSession(source, CPU));
    expect(error.code).toBe('RUNTIME_FAILED');
    expect(error.message).not.toMatch(CONTROL);
    expect(error.message.length).toBeLessThan(300);
  });

  it('leaves the runtime usable', async () => {
    await failure(host.createSession({ bytes: Uint8Array.of(1), folder: '.' }, CPU));
    const session = await host.createSession(double, CPU);
    const { outputs } = await session.run({ x: float32Tensor(Float32Array.of(1, 2), [2]) });
    expect(floats(outputs, 'y')).toEqual(Float32Array.of(2, 4));
  });
});

describe('feeds that do not fit', () => {
  it.each([
    ['shape', { x: float32Tensor(new Float32Array(2), [1, 2]) }],
    ['length', { x: float32Tensor(new Float32Array(3), [2]) }],
    ['type', { x: { dtype: 'int64', dims: [1], data: BigInt64Array.of(1n) } }],
    ['name', { z: float32Tensor(new Float32Array(1), [1]) }],
  ] as [string, Record<string, HostTensor>][])('in %s give RUNTIME_FAILED', async (_, feeds) => {
    const session = await host.createSession(double, CPU);
    expect((await failure(session.run(feeds))).code).toBe('RUNTIME_FAILED');
  });
});

describe('execution providers', () => {
  it.each(['no-such-provider', 'cuda'])('that do not load are named: %s', async (provider) => {
    const error = await failure(host.createSession(double, { providers: [provider] }));
    expect(error).toMatchObject({
      code: 'PROVIDER_UNAVAILABLE',
      message: expect.stringContaining(provider),
      hint: expect.stringContaining('--device cpu'),
    });
  });

  it('takes the first provider that loads and says why the others did not', async () => {
    const { info } = await host.createSession(double, { providers: ['no-such-provider', 'cuda', 'cpu'] });
    expect(info).toEqual({
      provider: 'cpu',
      refused: [
        { provider: 'no-such-provider', reason: expect.stringContaining('not found') },
        { provider: 'cuda', reason: expect.stringMatching(/./) },
      ],
      inputs: ['x'],
      outputs: ['y'],
    });
  });
});

describe('sessions', () => {
  it('work side by side, and one that is released is gone', async () => {
    const square = inMemory(
      modelOf({
        nodes: [node('Mul', ['x', 'x'], 'y')],
        inputs: [value('x', 'float32', ['n'])],
        outputs: [value('y', 'float32', ['n'])],
      }),
    );
    const feeds = { x: float32Tensor(Float32Array.of(3, -5), [2]) };
    const sessions = await Promise.all([double, square, double].map((source) => host.createSession(source, CPU)));
    const results = await Promise.all(sessions.map((session) => session.run(feeds)));
    expect(results.map(({ outputs }) => [...floats(outputs, 'y')])).toEqual([
      [6, -10],
      [9, 25],
      [6, -10],
    ]);
    const [first, second] = sessions as [(typeof sessions)[0], (typeof sessions)[0]];
    await first.release();
    expect((await failure(first.run(feeds))).code).toBe('RUNTIME_FAILED');
    expect(floats((await second.run(feeds)).outputs, 'y')).toEqual(Float32Array.of(9, 25));
  });

  it('return only what is fetched', async () => {
    const session = await host.createSession(
      inMemory(
        modelOf({
          nodes: [node('Neg', ['x'], 'minus'), node('Abs', ['x'], 'size')],
          inputs: [value('x', 'float32', [1])],
          outputs: [value('minus', 'float32', [1]), value('size', 'float32', [1])],
        }),
      ),
      CPU,
    );
    const feeds = { x: float32Tensor(Float32Array.of(-2), [1]) };
    expect(Object.keys((await session.run(feeds)).outputs)).toEqual(['minus', 'size']);
    expect(Object.keys((await session.run(feeds, ['size'])).outputs)).toEqual(['size']);
  });

  const patterns = Uint16Array.of(0x0000, 0x8000, 0x0001, 0x3c00, 0xc248, 0x7bff, 0x7c00, 0xfc00);

  it('pass float16 through as bit patterns', async () => {
    const session = await host.createSession(
      inMemory(
        modelOf({
          nodes: [node('Identity', ['x'], 'y')],
          inputs: [value('x', 'float16', ['n'])],
          outputs: [value('y', 'float16', ['n'])],
        }),
      ),
      CPU,
    );
    const x: HostTensor = { dtype: 'float16', dims: [patterns.length], data: patterns };
    expect((await session.run({ x })).outputs.y).toEqual(x);
  });

  it('read and write the values of float16', async () => {
    const session = await host.createSession(
      inMemory(
        modelOf({
          nodes: [cast('x', 'wide', 'float32'), cast('z', 'narrow', 'float16')],
          inputs: [value('x', 'float16', ['n']), value('z', 'float32', ['m'])],
          outputs: [value('wide', 'float32', ['n']), value('narrow', 'float16', ['m'])],
        }),
      ),
      CPU,
    );
    const { outputs } = await session.run({
      x: { dtype: 'float16', dims: [patterns.length], data: patterns },
      z: float32Tensor(Float32Array.of(1, -3.140625, 65504, Number.POSITIVE_INFINITY), [4]),
    });
    expect([...floats(outputs, 'wide')]).toEqual([0, -0, 2 ** -24, 1, -3.140625, 65504, Infinity, -Infinity]);
    expect(outputs.narrow?.data).toEqual(Uint16Array.of(0x3c00, 0xc248, 0x7bff, 0x7c00));
  });

  it('take and give every element type', async () => {
    const tensors = {
      float64: { dtype: 'float64', dims: [2], data: Float64Array.of(1 / 3, -0) },
      int64: { dtype: 'int64', dims: [], data: BigInt64Array.of(-(2n ** 62n)) },
      int32: { dtype: 'int32', dims: [1, 2], data: Int32Array.of(-5, 7) },
      int8: { dtype: 'int8', dims: [2], data: Int8Array.of(-128, 127) },
      uint8: { dtype: 'uint8', dims: [2], data: Uint8Array.of(0, 255) },
      bool: { dtype: 'bool', dims: [2], data: Uint8Array.of(0, 1) },
    } as const satisfies Record<string, HostTensor>;
    const fields = Object.values(tensors).map(({ dtype, dims }) => ({
      node: node('Identity', [dtype], `${dtype}_out`),
      input: value(dtype, dtype, dims),
      output: value(`${dtype}_out`, dtype, dims),
    }));
    const session = await host.createSession(
      inMemory(
        modelOf({
          nodes: fields.map((field) => field.node),
          inputs: fields.map((field) => field.input),
          outputs: fields.map((field) => field.output),
        }),
      ),
      CPU,
    );
    const { outputs } = await session.run(tensors);
    for (const [name, tensor] of Object.entries(tensors)) expect(outputs[`${name}_out`]).toEqual(tensor);
  });
});

it('tells the version of onnxruntime and how much memory it took', async () => {
  const status = await host.status();
  expect(status.runtimeVersion).toMatch(/^1\.\d+\.\d+/);
  expect(status.backends).toContain('cpu');
  expect(status.peakBytes).toBeGreaterThan(20e6);
});

function inMemoryBytes(): Uint8Array {
  if (!('bytes' in double)) throw new Error('not in memory');
  return double.bytes;
}

it.runIf(process.platform === 'linux')(
  'a session has the threads of the environment, or those it is opened with',
  async () => {
    onTestFinished(() => void vi.unstubAllEnvs());
    const opened = async (text: string, threads?: number): Promise<number> => {
      vi.stubEnv('WANQ_RUNTIME_THREADS', text);
      const own = ownHost();
      const count = (): number => readdirSync(`/proc/${own.pid}/task`).length;
      await own.status();
      const before = count();
      await own.createSession(large, { providers: ['cpu'], ...(threads ? { threads } : {}) });
      return count() - before;
    };
    const [one, five] = [await opened('1'), await opened('5')];
    expect(five - one).toBe(4);
    expect(await opened('5', 2)).toBe(one + 1);
  },
);
