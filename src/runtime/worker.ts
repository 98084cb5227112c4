/** The child process that holds onnxruntime: its runs block the event loop and its crashes end the process, so it gets its own. */
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import type * as Ort from 'onnxruntime-node';
import {
  assertFits,
  type Feed,
  type Reply,
  type Request,
  type RunResult,
  type SessionInfo,
  type SessionOptions,
  type WorkerStatus,
} from './protocol.js';
import type { HostTensor } from './tensor.js';

// Where no thread can be had, the event loop learns of the parent's end, if late.
new Worker(new URL('./watchdog.js', import.meta.url), { workerData: { parent: Number(process.argv[2]) } })
  .on('error', () => {})
  .unref();

let ort: typeof Ort;

/** Loaded here, and not by a static import, so that a library that is missing can be told of. */
const loading = import('onnxruntime-node').then((library) => {
  ort = library;
  // Only this, before the first session, keeps native log lines off stderr.
  ort.env.logLevel = 'fatal';
});
// Told to whoever asks for something.
loading.catch(() => {});

const sessions = new Map<number, Ort.InferenceSession>();

/** Outputs that later runs are fed with; the binding hands out copies, so they outlive their session. */
const held = new Map<string, Ort.Tensor>();

async function create(id: number, request: Extract<Request, { kind: 'create' }>): Promise<SessionInfo> {
  const refused: { provider: string; reason: string }[] = [];
  for (const provider of request.options.providers) {
    try {
      const session = await open(request, sessionOptions(provider, request));
      sessions.set(id, session);
      return { provider, refused, inputs: [...session.inputNames], outputs: [...session.outputNames] };
    } catch (error) {
      refused.push({ provider, reason: messageOf(error) });
    }
  }
  // The last provider is the most general one, so its reason says most about the model.
  const last = refused.at(-1);
  throw new Error(last ? `${last.provider}: ${last.reason}` : 'no execution provider was named');
}

function open({ source }: Extract<Request, { kind: 'create' }>, options: Ort.InferenceSession.SessionOptions) {
  return 'path' in source
    ? ort.InferenceSession.create(source.path, options)
    : ort.InferenceSession.create(source.bytes, options);
}

function sessionOptions(
  provider: string,
  { source, options }: { source: Extract<Request, { kind: 'create' }>['source']; options: SessionOptions },
): Ort.InferenceSession.SessionOptions {
  return {
    executionProviders: [provider],
    graphOptimizationLevel: options.optimization ?? 'all',
    ...(options.threads ? { intraOpNumThreads: options.threads } : {}),
    ...(options.optimizedModelPath ? { optimizedModelFilePath: options.optimizedModelPath } : {}),
    ...(options.profilePrefix ? { enableProfiling: true, profileFilePrefix: options.profilePrefix } : {}),
    ...(options.memoryPattern === false ? { enableMemPattern: false } : {}),
    extra: {
      session: {
        ...('folder' in source ? { model_external_initializers_file_folder_path: source.folder } : {}),
        ...(options.prepack === false ? { disable_prepacking: '1' } : {}),
      },
    },
  };
}

async function run(request: Extract<Request, { kind: 'run' }>): Promise<RunResult> {
  const session = sessions.get(request.session);
  if (!session) throw new Error('no such session');
  const feeds = Object.fromEntries(Object.entries(request.feeds).map(([name, feed]) => [name, feedOf(feed)]));
  const start = performance.now();
  const results = await session.run(feeds, [...new Set([...request.fetches, ...Object.keys(request.holds)])]);
  const ms = performance.now() - start;
  const outputs = Object.fromEntries(request.fetches.map((name) => [name, fromOrt(results[name] as Ort.Tensor)]));
  for (const [name, tensor] of Object.entries(results)) {
    const key = request.holds[name];
    if (key === undefined) tensor.dispose();
    else held.set(key, tensor);
  }
  assertFits(
    Object.values(outputs).map(({ data }) => data),
    'outputs',
  );
  return { outputs, ms, peakBytes: peakBytes() };
}

function feedOf(feed: Feed): Ort.Tensor {
  if (!('held' in feed)) return toOrt(feed);
  const tensor = held.get(feed.held);
  if (!tensor) throw new Error(`nothing is held as ${feed.held}`);
  return tensor;
}

function toOrt({ dtype, dims, data }: HostTensor): Ort.Tensor {
  if (dtype !== 'float16') return new ort.Tensor(dtype as 'float32', data as Float32Array, dims);
  // Node 24 would make a Float16Array of it, which the binding does not read.
  const tensor = new ort.Tensor('float16', data, dims);
  const held = tensor as unknown as { cpuData: ArrayBufferView };
  if (!(held.cpuData instanceof Uint16Array)) {
    held.cpuData = new Uint16Array(held.cpuData.buffer, held.cpuData.byteOffset, data.length);
  }
  return tensor;
}

function fromOrt(tensor: Ort.Tensor): HostTensor {
  const data = tensor.data as Float32Array;
  if (tensor.type === 'float16') {
    return { dtype: 'float16', dims: tensor.dims, data: new Uint16Array(data.buffer, data.byteOffset, data.length) };
  }
  return { dtype: tensor.type as 'float32', dims: tensor.dims, data };
}

function peakBytes(): number {
  return process.resourceUsage().maxRSS * 1024;
}

function status(): WorkerStatus {
  const { version } = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string };
  return {
    runtimeVersion: version,
    backends: ort.listSupportedBackends().map(({ name }) => name),
    peakBytes: peakBytes(),
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function handle(request: Request): Promise<Reply['result']> {
  switch (request.kind) {
    case 'create':
      return create(request.session, request);
    case 'run':
      return run(request);
    case 'profile':
      sessions.get(request.session)?.endProfiling();
      return null;
    case 'release':
      await sessions.get(request.session)?.release();
      sessions.delete(request.session);
      return null;
    case 'drop':
      for (const key of request.keys) held.delete(key);
      return null;
    case 'status':
      return status();
  }
}

function send(reply: Reply): void {
  // The parent may be gone; then nobody needs the answer.
  if (process.connected) process.send?.(reply, undefined, undefined, () => {});
}

async function answer(id: number, request: Request): Promise<void> {
  try {
    await loading;
  } catch (error) {
    return send({ id, error: messageOf(error), missing: true });
  }
  try {
    send({ id, result: (await handle(request)) ?? null });
  } catch (error) {
    send({ id, error: messageOf(error) });
  }
}

let queue: Promise<void> = Promise.resolve();
process.on('message', ({ id, request }: { id: number; request: Request }) => {
  queue = queue.then(() => answer(id, request));
});
// Ctrl-C, and a terminal that closes, reach the whole process group; the parent decides what becomes of this process.
process.on('SIGINT', () => {});
process.on('SIGHUP', () => {});
process.on('disconnect', () => process.exit(0));
