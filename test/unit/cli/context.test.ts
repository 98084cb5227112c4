import { EventEmitter } from 'node:events';
import { PassThrough, Writable } from 'node:stream';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { catchInterrupts, createContext, type Io } from '../../../src/cli/context.js';
import { main } from '../../../src/cli/main.js';
import { WanqError } from '../../../src/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

const HOSTILE = '\u001b[31mred\u0007\n::error::stop\n  ::add-mask::x\n##[error]x \u202etxt\u200b';
const HARMLESS = ' [31mred \n: :error::stop\n  : :add-mask::x\n## [error]x \\u202etxt\\u200b';

interface Recorder extends Io {
  readonly signals: EventEmitter;
  out(): string;
  err(): string;
}

function recorder(cwd = '/', stderr: Writable = new PassThrough()): Recorder {
  const stdout = new PassThrough();
  const signals = new EventEmitter();
  const all = (stream: Writable): string => String((stream as PassThrough).read() ?? '');
  return {
    stdout,
    stderr,
    env: {},
    cwd: () => cwd,
    on: (event, listener) => signals.on(event, listener),
    off: (event, listener) => signals.off(event, listener),
    signals,
    out: () => all(stdout),
    err: () => all(stderr),
  };
}

describe('a context', () => {
  const context = (io: Io, json = false) =>
    createContext(io, new AbortController().signal, { quiet: false, verbose: true, json });

  it('prints, says and details nothing that a terminal or a CI log would obey', () => {
    const io = recorder();
    const { print, say, detail } = context(io);
    print(HOSTILE);
    say(HOSTILE);
    detail(HOSTILE);
    expect(io.out()).toBe(`${HARMLESS}\n`);
    expect(io.err()).toBe(`${HARMLESS}\n${HARMLESS}\n`);
  });

  it('prints JSON whose values are what they were', () => {
    const io = recorder();
    context(io, true).print(JSON.stringify({ [HOSTILE]: HOSTILE }));
    const printed = io.out();
    expect(JSON.parse(printed)).toEqual({ [HOSTILE]: HOSTILE });
    expect(printed).not.toMatch(/\u202e|\u200b|##\[/);
  });
});

describe('main', () => {
  it('quotes an argument without what a terminal or a CI log would obey', async () => {
    const io = recorder(await temporaryFolder());
    expect(await main(['inspect', '\u001b[31m##[error]x\u202e'], io)).toBe(5);
    expect(io.err()).toBe('wanq: [31m## [error]x\\u202e does not exist: check the path [NOT_FOUND]\n');
    expect(await main(['inspect', '--\u001b[31m\n::error::x'], io)).toBe(2);
    const said = io.err();
    expect(said).not.toContain('\u001b');
    expect(said).not.toMatch(/^\s*::/m);
  });

  it('ends with its own code where stderr is closed', async () => {
    const closed = new Writable({
      write: (_, __, done) => done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })),
    });
    expect(await main(['inspect', 'absent'], recorder(await temporaryFolder(), closed))).toBe(5);
    await new Promise((resolve) => setImmediate(resolve));
  });

  it.each([
    ['EMFILE', 5, 'IO_FAILED'],
    ['EWEIRD', 5, 'IO_FAILED'],
  ])('calls %s of the system no bug of its own', async (code, exitCode, name) => {
    const io = recorder();
    const failing = {
      ...io,
      cwd: () => raise(Object.assign(new Error('system'), { code, errno: -1, syscall: 'uv_cwd' })),
    };
    expect(await main(['inspect', 'x'], failing)).toBe(exitCode);
    expect(io.err()).toMatch(new RegExp(`^wanq: uv_cwd: .* \\[${name}\\]\\n$`));
  });

  it('calls memory that is not there no bug of its own', async () => {
    const io = recorder();
    const failing = { ...io, cwd: () => raise(new RangeError('Array buffer allocation failed')) };
    expect(await main(['inspect', 'x'], failing)).toBe(5);
    expect(io.err()).toMatch(/\[NO_MEMORY\]\n$/);
  });

  it('calls everything else a bug, without what a CI log would obey', async () => {
    const io = recorder();
    const failing = { ...io, env: { WANQ_DEBUG: '1' }, cwd: () => raise(new Error('\n::error::x')) };
    expect(await main(['inspect', 'x'], failing)).toBe(4);
    const said = io.err();
    expect(said).toContain('[INTERNAL]');
    expect(said).not.toMatch(/^\s*::/m);
  });
});

function raise(error: Error): never {
  throw error;
}

describe('interrupts', () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'])('%s aborts', (name) => {
    const io = recorder();
    const { signal, release } = catchInterrupts(io);
    io.signals.emit(name);
    expect(signal.aborted).toBe(true);
    expect(signal.reason).toBeInstanceOf(WanqError);
    expect(signal.reason.exitCode).toBe(130);
    expect(io.err()).toBe('\ninterrupted: stopping\n');
    release();
    expect(io.signals.eventNames()).toEqual([]);
  });

  it.each([
    ['SIGINT', 1],
    ['SIGTERM', 1],
    ['SIGHUP', 0],
  ])('a second %s ends the process at once: %i', (name, times) => {
    const exit = vi.spyOn(process, 'exit').mockReturnValue(undefined as never);
    const io = recorder();
    catchInterrupts(io);
    io.signals.emit(name);
    io.signals.emit(name);
    expect(exit).toHaveBeenCalledTimes(times);
  });
});
