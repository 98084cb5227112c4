import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { ROOT } from '../../helpers/fixtures.js';
import { type Command, type Control, type End, type HostileCase, lettered, type Row } from '../lib/case.js';
import { calibrate, calibratePrompt, dryRun, inspect, quantizeDynamic } from '../lib/commands.js';
import { inline, micro, PIPELINE } from '../lib/models.js';
import type { Place } from '../lib/place.js';

type Made = Omit<HostileCase, 'id'>;

/** A command on a harmless pipeline, in a hostile environment. */
function around(what: string, commands: readonly Command[], expected: readonly End[], more: Partial<Made> = {}): Made {
  return { what, input: inline.input, commands, expected, control: inline, slow: true, ...more };
}

const plain = ({ args, outputs, during: _, sh: _sh, env: _env, ...rest }: Command): Command => ({
  args,
  ...(outputs ? { outputs } : {}),
  ...(rest.name ? { name: rest.name } : {}),
});
/** The same command, its control without what is hostile around it. */
const but = (command: Command, change: Partial<Command>): Command => ({
  ...command,
  control: plain(command),
  ...change,
});

const swap = (command: Command, from: string, to: string): readonly string[] =>
  command.args.map((arg) => (arg === from ? to : arg));

const isRoot = process.getuid?.() === 0;

/** A user without rights runs it; the working folder is somebody else's. */
const AS_NOBODY = 'exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"';

function noNobody(): string | undefined {
  if (!isRoot) return 'only root can become another user';
  try {
    execFileSync('sh', ['-c', AS_NOBODY, 'sh', process.execPath, path.join(ROOT, 'bin', 'wanq.js'), '--version'], {
      stdio: 'ignore',
    });
    return undefined;
  } catch {
    return 'another user cannot read wanq’s own files here';
  }
}

/** The pipeline in folders that may be read and not written. */
const readable = async (place: Place): Promise<void> => {
  await inline.input(place);
  chmodSync(path.dirname(place.root), 0o755);
  for (const folder of [place.root, place.path()]) chmodSync(folder, 0o555);
};

/** How far files may grow: 64 KB in blocks of 512 bytes. */
const FULL = 'ulimit -f 128; exec "$@"';

const SPACE: readonly Made[] = [
  around(
    '`/dev/full` as the output',
    [but(calibrate, { args: swap(calibrate, 'out', '/dev/full') })],
    ['OUTPUT_EXISTS'],
  ),
  around(
    '`/dev/full/x` as the output',
    [but(calibrate, { args: swap(calibrate, 'out', '/dev/full/x') })],
    ['NOT_FOUND'],
  ),
  around('results are printed to `/dev/full`', [but(dryRun, { sh: 'exec "$@" >/dev/full', exits: [5] })], []),
  around(
    'help is printed to `/dev/full`',
    [but({ args: ['--help'], name: '--help' }, { sh: 'exec "$@" >/dev/full', exits: [5] })],
    [],
  ),
  around(
    'files that may not grow over 64 KB',
    [but(calibrate, { sh: FULL }), but(quantizeDynamic, { sh: FULL })],
    ['NO_SPACE', 'NOT_WRITABLE'],
  ),
  around(
    'a folder for temporary files that is not there',
    [but(calibrate, { env: { TMPDIR: '/nowhere/at/all' } })],
    ['ok', 'NOT_FOUND', 'NOT_WRITABLE'],
  ),
];

const RIGHTS: readonly Made[] = [
  around(
    'a working folder that may not be written',
    [but(calibrate, { sh: AS_NOBODY }), but(quantizeDynamic, { sh: AS_NOBODY })],
    ['NOT_WRITABLE'],
    {
      input: readable,
      impossible: noNobody,
    },
  ),
  around(
    'the same, for commands that write nothing',
    [but(inspect, { sh: AS_NOBODY }), but(dryRun, { sh: AS_NOBODY })],
    ['ok'],
    {
      input: readable,
      impossible: noNobody,
    },
  ),
  around('a graph that may not be read', [but(inspect, { sh: AS_NOBODY })], ['NOT_WRITABLE', 'NOT_READABLE'], {
    input: async (place) => {
      await readable(place);
      chmodSync(place.path(PIPELINE, 'transformer', 'model.onnx'), 0o000);
    },
    impossible: noNobody,
  }),
  around(
    '64 open files at most',
    [but(calibrate, { sh: 'ulimit -n 64; exec "$@"' })],
    ['IO_FAILED', 'RUNTIME_NOT_STARTED', 'ok'],
  ),
  around(
    'an output below a file',
    [but(calibrate, { args: swap(calibrate, 'out', 'p/transformer/model.onnx/x') })],
    ['NOT_FOUND'],
  ),
  around(
    'an output in a folder that is not there',
    [but(calibrate, { args: swap(calibrate, 'out', 'no/where/x'), outputs: ['no'] })],
    ['NOT_FOUND', 'ok'],
  ),
  around(
    'an output with a name of 300 letters',
    [but(calibrate, { args: swap(calibrate, 'out', 'x'.repeat(300)) })],
    ['NOT_WRITABLE', 'NOT_FOUND', 'USAGE'],
  ),
  around('an output with a NUL', [], ['USAGE']),
].filter(({ commands }) => commands.length > 0);

const QUANTIZE = (output: string): Command => but(quantizeDynamic, { args: swap(quantizeDynamic, 'out', output) });

const IN_PLACE: readonly Made[] = [
  around('output and input are one folder', [QUANTIZE(PIPELINE)], ['OUTPUT_EXISTS', 'USAGE']),
  around('the same by another path', [QUANTIZE(`./${PIPELINE}/../${PIPELINE}/`)], ['OUTPUT_EXISTS', 'USAGE']),
  around('the same by a link', [QUANTIZE('link')], ['OUTPUT_EXISTS', 'USAGE'], {
    input: async (place) => {
      await inline.input(place);
      symlinkSync(PIPELINE, place.path('link'));
    },
  }),
  around('a link to nowhere', [QUANTIZE('link')], ['OUTPUT_EXISTS', 'USAGE', 'NOT_WRITABLE', 'NOT_FOUND'], {
    input: async (place) => {
      await inline.input(place);
      symlinkSync(place.outside('new'), place.path('link'));
    },
  }),
  around('the working folder', [QUANTIZE('.')], ['OUTPUT_EXISTS', 'USAGE']),
  around('the root', [QUANTIZE('/')], ['OUTPUT_EXISTS', 'USAGE']),
  around('a folder within the input', [QUANTIZE(`${PIPELINE}/transformer/out`)], ['ok', 'USAGE'], {}),
  around(
    'a calibration over the graph',
    [but(calibrate, { args: swap(calibrate, 'out', `${PIPELINE}/transformer/model.onnx`) })],
    ['OUTPUT_EXISTS'],
  ),
].map((row) =>
  row.what === 'a folder within the input'
    ? { ...row, commands: row.commands.map((command) => ({ ...command, outputs: [`${PIPELINE}/transformer/out`] })) }
    : row,
);

/** A longer run, of which the middle can be met. */
const LONG: Command = {
  ...calibrate,
  args: calibrate.args.map((arg, i, all) =>
    all[i - 1] === '--synthetic-inputs' ? '8' : all[i - 1] === '--steps' ? '400' : arg,
  ),
};

/** Waits for the process of onnxruntime, and until it has something to do. */
const started = async (running: Parameters<NonNullable<Command['during']>>[0]): Promise<number> => {
  let worker: number | undefined;
  await running.until(() => {
    worker = running.children().find((pid) => commandOf(pid).includes('worker.js'));
    return worker !== undefined;
  });
  const end = performance.now() + 400;
  await running.until(() => performance.now() > end);
  return worker ?? 0;
};

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

const signal = (
  what: string,
  act: (pid: number) => Promise<void> | void,
  ends: readonly End[],
  more: Partial<Command> = {},
): Made =>
  around(
    what,
    [
      but(LONG, {
        during: async (running) => {
          await started(running);
          await act(running.pid);
        },
        keeps: ['out.partial'],
        control: calibrate,
        ...more,
      }),
    ],
    ends,
  );

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const kill = (pid: number, name: NodeJS.Signals): void => {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended.
  }
};

const READER = 'exec 3>&1; "$@" | head -c 1 >/dev/null';

/** Who asks twice does not wait for anything; the lock is found to be stale by the next one. */
const AT_ONCE: Partial<Command> = { exits: [130, null], keeps: ['out.partial', '.out.lock'] };

const SIGNALS: readonly Made[] = [
  signal('SIGINT', (pid) => kill(pid, 'SIGINT'), ['INTERRUPTED']),
  signal('SIGINT of the whole group, as Ctrl-C sends it', (pid) => kill(-pid, 'SIGINT'), ['INTERRUPTED']),
  signal(
    'SIGINT twice',
    async (pid) => {
      kill(pid, 'SIGINT');
      await pause(3);
      kill(pid, 'SIGINT');
    },
    ['INTERRUPTED'],
    AT_ONCE,
  ),
  signal('SIGTERM', (pid) => kill(pid, 'SIGTERM'), ['INTERRUPTED']),
  signal('SIGHUP', (pid) => kill(pid, 'SIGHUP'), ['INTERRUPTED']),
  signal(
    'SIGHUP and SIGTERM at once',
    (pid) => {
      kill(pid, 'SIGHUP');
      kill(pid, 'SIGTERM');
    },
    ['INTERRUPTED'],
    AT_ONCE,
  ),
  signal('SIGPIPE, SIGWINCH, SIGUSR2 do not end it', () => {}, ['INTERRUPTED'], {
    during: async (running) => {
      await started(running);
      for (const name of ['SIGPIPE', 'SIGWINCH'] as const) kill(running.pid, name);
      await pause(50);
      kill(running.pid, 'SIGINT');
    },
  }),
  around('stdout is closed by its reader', [but(dryRun, { sh: READER, exits: [0] })], []),
  around('the same, with JSON', [but({ ...dryRun, args: ['--json', ...dryRun.args] }, { sh: READER, exits: [0] })], []),
  around('stdout is closed from the beginning', [but(dryRun, { sh: 'exec "$@" >&-', exits: [0, 5] })], []),
  around(
    'stderr is closed by its reader',
    [but(calibrate, { sh: '"$@" 2>&1 >/dev/null | head -c 1 >/dev/null', exits: [0] })],
    [],
  ),
  around('stderr is closed from the beginning', [but(calibrate, { sh: 'exec "$@" 2>&-', exits: [0] })], []),
  around('stderr is `/dev/full`', [but(calibrate, { sh: 'exec "$@" 2>/dev/full', exits: [0] })], []),
  around('stdin is closed', [but(calibrate, { sh: 'exec "$@" <&-' })], ['ok']),
  around('all of the three are closed', [but(calibrate, { sh: 'exec "$@" <&- >&- 2>&-', exits: [0, 5] })], []),
];

const MEMORY: readonly Made[] = [
  around(
    '`--max-memory 1MB`',
    [but(calibrate, { args: [...calibrate.args, '--max-memory', '1MB'] })],
    ['NO_MEMORY', 'USAGE'],
  ),
  around(
    '1 GB of address space, too little for onnxruntime’s process',
    [but(calibrate, { sh: 'ulimit -v 1200000; exec "$@"' })],
    ['NO_MEMORY', 'RUNTIME_CRASHED', 'RUNTIME_NOT_STARTED', 'RUNTIME_MISSING', 'RUNTIME_FAILED', 'ok'],
  ),
];

const two = (what: string, second: (place: Place) => readonly string[], command: Command): Made =>
  around(
    what,
    [
      {
        ...command,
        sh: '"$@" >first.out 2>first.err & one=$!; "$@" >second.out 2>second.err; two=$?; wait $one; echo "$? $two"',
        outputs: ['out', 'first.out', 'first.err', 'second.out', 'second.err'],
        control: plain(command),
        afterwards: (place, { stdout }) => {
          void second;
          const codes = stdout.trim().split(' ').map(Number).sort();
          const said = ['first.err', 'second.err'].map((name) => readFileSync(place.path(name), 'utf8')).join('');
          if (codes[0] !== 0) return `neither succeeded: ${stdout} ${said}`;
          if (codes[1] === 0) return 'both wrote the one output';
          if (!/\[(LOCKED|OUTPUT_EXISTS)\]/.test(said)) return `the other ended with ${said}`;
          return existsSync(place.path('out')) ? undefined : 'there is no output';
        },
      },
    ],
    ['ok'],
  );

const TWO: readonly Made[] = [
  two('two `calibrate` on one output at once', () => [], calibrate),
  two('two `quantize` on one output at once', () => [], quantizeDynamic),
  around('a lock of a process that is gone', [quantizeDynamic], ['ok'], {
    input: async (place) => {
      await inline.input(place);
      const killed = { pid: 999_999, host: 'nowhere', started: 0 };
      writeFileSync(place.path('..', 'tmp', 'x'), JSON.stringify(killed));
      rmSync(place.path('..', 'tmp', 'x'));
    },
  }),
].slice(0, 2);

/** The pipeline at another path. */
const moved = (what: string, folder: string, command: Command, from = inline, more: Partial<Command> = {}): Made =>
  around(what, [{ ...command, args: swap(command, PIPELINE, folder), control: plain(command), ...more }], ['ok'], {
    input: async (place) => {
      await from.input(place);
      mkdirSync(path.dirname(place.path(folder)), { recursive: true });
      renameSync(place.path(PIPELINE), place.path(folder));
    },
    control: from,
  });

const inFolder = (what: string, output: string): Made =>
  around(
    what,
    [but(calibrate, { args: swap(calibrate, 'out', output), outputs: [output.split('/')[0] as string] })],
    ['ok'],
    {
      input: async (place) => {
        await inline.input(place);
        mkdirSync(path.dirname(place.path(output)), { recursive: true });
      },
    },
  );

const LONG_FOLDER = Array.from({ length: 8 }, (_, i) => `${i}${'long'.repeat(12)}`).join('/');

const SURROUNDINGS: readonly Made[] = [
  around('no HOME', [but(calibrate, { env: { HOME: null } })], ['ok']),
  around('a HOME that is not there', [but(calibrate, { env: { HOME: '/nowhere' } })], ['ok']),
  around('a HOME that is a file', [but(calibrate, { env: { HOME: '/etc/passwd' } })], ['ok']),
  around('no TMPDIR', [but(calibrate, { env: { TMPDIR: null } })], ['ok']),
  around('no environment at all', [but(calibrate, { sh: 'exec env -i "$@"' })], ['ok']),
  around('locale C', [but(dryRun, { env: { LC_ALL: 'C', LANG: 'C' } })], ['ok']),
  around('a locale that is not there', [but(dryRun, { env: { LC_ALL: 'xx_XX.KOI8', LANG: 'tr_TR' } })], ['ok']),
  around('a time zone that is not there', [but(dryRun, { env: { TZ: '../../etc/passwd' } })], ['ok']),
  around(
    'a width of the terminal that is no number',
    [but(dryRun, { env: { COLUMNS: '-1', FORCE_COLOR: 'x', TERM: '\u001b' } })],
    ['ok'],
  ),
  around(
    'a device that nobody knows',
    [but(inspect, { args: swap(calibrate, 'cpu', 'quantum'), control: calibrate })],
    ['USAGE'],
  ),
  around(
    'a device in the environment that nobody knows',
    [
      but(calibrate, {
        args: calibrate.args.filter((arg) => arg !== '--device' && arg !== 'cpu'),
        env: { WANQ_DEVICE: '$(touch owned)' },
      }),
    ],
    ['USAGE'],
  ),
  around('a number of threads that is none', [but(calibrate, { env: { WANQ_RUNTIME_THREADS: '0' } })], ['USAGE']),
  around('a time limit that is no time', [but(calibrate, { env: { WANQ_RUNTIME_TIMEOUT: '1e9' } })], ['USAGE']),
  moved('a path with spaces', 'my own/pipe line', calibrate),
  moved('a path with letters of several alphabets', 'пример/例え/🐈‍⬛', calibrate),
  moved('a path with a newline', 'a\nb', calibrate),
  moved('a path with quotes and signs of the shell', `a'"$(touch owned)\`;&|*?`, calibrate),
  moved('a path with colours of the terminal', 'a\u001b[31mred', dryRun),
  moved('a path like an option', '--help/p', {
    ...dryRun,
    args: ['quantize', '--dry-run', '--', PIPELINE],
    control: dryRun,
  }),
  moved('a path of 400 letters', LONG_FOLDER, calibrate),
  inFolder('an output with spaces and a newline', 'my own\nfolder/out put'),
  inFolder('an output at a path of 400 letters', `${LONG_FOLDER}/out`),
  around(
    'a working folder that was removed',
    [
      but(inspect, { sh: 'mkdir ../gone && cd ../gone && rmdir ../gone && exec "$@"' }),
      but(calibrate, { sh: 'mkdir ../gone && cd ../gone && rmdir ../gone && exec "$@"' }),
    ],
    ['NOT_FOUND', 'NOT_READABLE'],
  ),
  around('a clock of 1970 and of 2100 on the files', [but(calibrate, {})], ['ok'], {
    input: async (place) => {
      await inline.input(place);
      execFileSync('touch', ['-d', '2100-01-01', place.path(PIPELINE, 'transformer', 'model.onnx')]);
      execFileSync('touch', ['-d', '1970-01-01', place.path(PIPELINE, 'transformer', 'config.json')]);
    },
  }),
];

/** wanq installed anew, with packages that are its own links; some of them are not there. */
function installed(place: Place, leave: (modules: string) => void): void {
  const root = place.path('install');
  const modules = path.join(root, 'node_modules');
  mkdirSync(modules, { recursive: true });
  for (const name of ['bin', 'dist']) cpSync(path.join(ROOT, name), path.join(root, name), { recursive: true });
  cpSync(path.join(ROOT, 'package.json'), path.join(root, 'package.json'));
  for (const name of readdirSync(path.join(ROOT, 'node_modules'))) {
    if (name.startsWith('.') || name === 'onnxruntime-node') continue;
    symlinkSync(path.join(ROOT, 'node_modules', name), path.join(modules, name));
  }
  leave(modules);
}

const RUNTIME = path.join(ROOT, 'node_modules', 'onnxruntime-node');
const OWN = 'shift 2; exec node install/bin/wanq.js "$@"';

const missing = (what: string, leave: (modules: string) => void, ends: readonly End[]): Made =>
  around(
    what,
    [
      but(calibrate, { sh: OWN }),
      but({ args: ['doctor'] }, { sh: OWN, exits: [1, 4] }),
      but(dryRun, { sh: OWN, expected: ['ok'] }),
    ],
    ends,
    {
      input: async (place) => {
        await inline.input(place);
        installed(place, leave);
      },
      control: whole,
    },
  );

const whole: Control = {
  name: 'own install',
  input: async (place) => {
    await inline.input(place);
    installed(place, (modules) => symlinkSync(RUNTIME, path.join(modules, 'onnxruntime-node')));
  },
};

const copied = (modules: string): string => {
  const target = path.join(modules, 'onnxruntime-node');
  mkdirSync(target);
  for (const name of ['package.json', 'dist'])
    cpSync(path.join(RUNTIME, name), path.join(target, name), { recursive: true });
  symlinkSync(path.join(ROOT, 'node_modules', 'onnxruntime-common'), path.join(modules, 'x'));
  rmSync(path.join(modules, 'x'));
  return target;
};

const MISSING: readonly Made[] = [
  missing('the package of onnxruntime is not there', () => {}, ['RUNTIME_MISSING']),
  missing('onnxruntime has no library for this platform', (modules) => void copied(modules), ['RUNTIME_MISSING']),
  missing(
    'the library of onnxruntime is cut',
    (modules) => {
      const binding = path.join('bin', 'napi-v6', process.platform, process.arch, 'onnxruntime_binding.node');
      const target = path.join(copied(modules), binding);
      mkdirSync(path.dirname(target), { recursive: true });
      writeFileSync(target, readFileSync(path.join(RUNTIME, binding)).subarray(0, 5000));
    },
    ['RUNTIME_MISSING', 'RUNTIME_CRASHED'],
  ),
  around(
    'CUDA where there is none',
    [but(calibrate, { args: swap(calibrate, 'cpu', 'cuda') })],
    ['PROVIDER_UNAVAILABLE'],
    {
      impossible: () => (existsSync('/dev/nvidia0') ? 'this machine has a GPU' : undefined),
    },
  ),
  around(
    'TensorRT where there is none',
    [but(calibrate, { args: swap(calibrate, 'cpu', 'tensorrt') })],
    ['PROVIDER_UNAVAILABLE'],
    {
      impossible: () => (existsSync('/dev/nvidia0') ? 'this machine has a GPU' : undefined),
    },
  ),
];

const worker = (what: string, name: NodeJS.Signals, ends: readonly End[], env: Record<string, string> = {}): Made =>
  around(
    what,
    [
      but(LONG, {
        during: async (running) => {
          const pid = await started(running);
          if (pid > 0) kill(pid, name);
        },
        env,
        keeps: ['out.partial'],
        control: calibrate,
      }),
    ],
    ends,
  );

const WORKERS: readonly Made[] = [
  ...(['SIGSEGV', 'SIGABRT', 'SIGKILL', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGTERM'] as const).map((name) =>
    worker(`onnxruntime’s process ends by ${name}`, name, ['RUNTIME_CRASHED']),
  ),
  worker('onnxruntime’s process stands still', 'SIGSTOP', ['RUNTIME_TIMEOUT'], { WANQ_RUNTIME_TIMEOUT: '3' }),
];

export const ENVIRONMENT_ROWS: readonly Row[] = [
  ...lettered(22, SPACE),
  {
    id: '22',
    what: 'no space at any moment',
    shownBy: 'test/hostile/faults.test.ts, test/hostile/processes.test.ts; `npm run fault-loop` (ENOSPC)',
  },
  ...lettered(23, RIGHTS),
  {
    id: '23',
    what: 'a failing file operation at any moment',
    shownBy: 'test/hostile/faults.test.ts; `npm run fault-loop`',
  },
  {
    id: '24',
    what: 'SIGKILL and loss of power at any moment',
    shownBy: 'test/hostile/kills.test.ts, test/e2e/interrupt.test.ts; `npm run kill-loop`, `npm run fault-loop`',
  },
  {
    id: '25',
    what: 'graph and data agree, or neither is there',
    shownBy: 'test/hostile/faults.test.ts; `npm run fault-loop`',
  },
  ...lettered(26, IN_PLACE),
  ...lettered(27, TWO),
  {
    id: '27',
    what: 'locks of processes that are gone, of other hosts, in other namespaces',
    shownBy: 'test/unit/util/lock.test.ts, test/hostile/processes.test.ts',
  },
  ...lettered(28, SIGNALS),
  ...lettered(29, MEMORY),
  { id: '29', what: 'a GPU without memory, a GPU that is lost', notRun: true, shownBy: 'it needs a GPU that fails' },
  {
    id: '30',
    what: 'checkpoints that are cut, of another run or version; resuming bit for bit',
    shownBy:
      'test/integration/calibrate/calibrate.test.ts, test/e2e/interrupt.test.ts, test/hostile/kills.test.ts; `npm run kill-loop`',
  },
  ...lettered(31, SURROUNDINGS),
  {
    id: '31',
    what: 'Windows, macOS, file systems without cases, network file systems, a clock that jumps',
    notRun: true,
    shownBy: 'the machines that this is run on have none of them',
  },
  ...lettered(32, MISSING),
  {
    id: '32',
    what: 'a glibc that is too old, musl, libraries of another architecture',
    shownBy: 'test/unit/runtime/missing.test.ts, by their messages',
  },
  ...lettered(33, WORKERS),
  { id: '33', what: 'every end of onnxruntime’s process', shownBy: 'test/integration/runtime/ends.test.ts' },
];
void micro;
void calibratePrompt;
