import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';

/** Names that the browser goes by, the first that is found is taken. */
const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'];

const ANSWER_MS = 20_000;

const PRINT_MS = 90_000;

/** @returns path of a Chromium: of WANQ_BROWSER, or on PATH; undefined where there is none */
export function findBrowser(): string | undefined {
  const { WANQ_BROWSER, PATH = '' } = process.env;
  if (WANQ_BROWSER) return WANQ_BROWSER;
  const folders = PATH.split(path.delimiter).filter(Boolean);
  return NAMES.flatMap((name) => folders.map((folder) => path.join(folder, name))).find((file) => existsSync(file));
}

export interface Viewport {
  readonly width: number;
  readonly height: number;
  readonly dark?: boolean;
  /** Whether it looks as on paper. */
  readonly paper?: boolean;
  /** Whether the page's scripts run. */
  readonly scripts?: boolean;
}

type Message = Readonly<Record<string, unknown>>;

/** A headless Chromium and one page in it, driven over its debugging pipe: no port, and no library. */
export class Browser {
  /** Whatever the page, or the browser about it, wrote to the console. */
  readonly messages: string[] = [];
  /** Addresses that the page asked for, without its own and the data that it holds. */
  readonly requests: string[] = [];
  readonly #child: ChildProcess;
  readonly #profile: string;
  readonly #waiting = new Map<number, { resolve: (result: Message) => void; reject: (error: Error) => void }>();
  readonly #listeners = new Map<string, () => void>();
  #next = 1;
  #session: string | undefined;
  #stderr = '';

  private constructor(child: ChildProcess, profile: string) {
    this.#child = child;
    this.#profile = profile;
    let rest = '';
    (child.stdio[4] as Readable).setEncoding('utf8').on('data', (chunk: string) => {
      const parts = (rest + chunk).split('\0');
      rest = parts.pop() as string;
      for (const part of parts) this.#receive(JSON.parse(part) as Message);
    });
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      this.#stderr = (this.#stderr + chunk).slice(-2000);
    });
    // A pipe that breaks is told of by the exit.
    child.stdio[3]?.on('error', () => {});
    const fail = (): void => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the browser ended: ${this.#stderr}`));
      this.#waiting.clear();
    };
    child.on('error', fail).on('exit', fail);
  }

  static async start(file: string): Promise<Browser> {
    const profile = await mkdtemp(path.join(tmpdir(), 'wanq-browser-'));
    const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'];
    const child = spawn(
      file,
      [
        ...flags,
        '--disable-background-networking',
        '--remote-debugging-pipe',
        `--user-data-dir=${profile}`,
        'about:blank',
      ],
      // A group of its own, so that all of the browser's processes end with it.
      { stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'], detached: true },
    );
    const browser = new Browser(child, profile);
    try {
      await browser.#attach();
      return browser;
    } catch (error) {
      await browser.close();
      throw error;
    }
  }

  async #attach(): Promise<void> {
    const { targetId } = await this.#send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.#send('Target.attachToTarget', { targetId, flatten: true });
    this.#session = sessionId as string;
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await this.#send(`${domain}.enable`);
  }

  /** Opens a file. @returns ms from the start of navigation to the end of the load event */
  async open(file: string, { width, height, dark = false, paper = false, scripts = true }: Viewport): Promise<number> {
    await this.#send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false });
    const features = [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }];
    await this.#send('Emulation.setEmulatedMedia', { media: paper ? 'print' : '', features });
    await this.#send('Emulation.setScriptExecutionDisabled', { value: !scripts });
    this.messages.length = 0;
    this.requests.length = 0;
    const loaded = this.#event('Page.loadEventFired');
    await this.#send('Page.navigate', { url: `file://${file}` });
    await loaded;
    const timing =
      '(({ startTime, loadEventEnd }) => loadEventEnd - startTime)(performance.getEntriesByType("navigation")[0])';
    // The event is told while its end is still to come.
    return scripts ? this.evaluate<number>(`new Promise((resolve) => setTimeout(() => resolve(${timing})))`) : 0;
  }

  /** @returns what an expression of the page comes to, promises waited for */
  async evaluate<T>(expression: string): Promise<T> {
    const answer = await this.#send('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
    const { result, exceptionDetails } = answer as { result: { value: T }; exceptionDetails?: unknown };
    if (exceptionDetails) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return result.value;
  }

  /** Presses a key, as `KeyboardEvent.key` names it, where the focus is. */
  async press(key: string): Promise<void> {
    const text = key === 'Enter' ? '\r' : key.length === 1 ? key : undefined;
    const codes: Readonly<Record<string, number>> = {
      Enter: 13,
      ' ': 32,
      ArrowLeft: 37,
      ArrowRight: 39,
      Home: 36,
      End: 35,
      Tab: 9,
    };
    const shared = {
      key,
      code: key === ' ' ? 'Space' : key,
      windowsVirtualKeyCode: codes[key] ?? key.charCodeAt(0),
      text,
    };
    await this.#send('Input.dispatchKeyEvent', { type: text ? 'keyDown' : 'rawKeyDown', ...shared });
    await this.#send('Input.dispatchKeyEvent', { type: 'keyUp', ...shared });
  }

  /** Clicks the middle of an element with the mouse. */
  async click(selector: string): Promise<void> {
    const { x, y } = await this.evaluate<{ x: number; y: number }>(
      `(() => { const e = document.querySelector(${JSON.stringify(selector)}); e.scrollIntoView({ block: 'center', behavior: 'instant' }); const r = e.getBoundingClientRect(); return { x: r.x + r.width / 2, y: r.y + r.height / 2 }; })()`,
    );
    for (const type of ['mousePressed', 'mouseReleased']) {
      await this.#send('Input.dispatchMouseEvent', { type, x, y, button: 'left', clickCount: 1 });
    }
  }

  /** @returns a PNG of what is seen, or of the whole page */
  async screenshot({ whole = false } = {}): Promise<Buffer> {
    const { data } = await this.#send('Page.captureScreenshot', { format: 'png', captureBeyondViewport: whole });
    return Buffer.from(data as string, 'base64');
  }

  /** @returns the page as it is printed, a PDF */
  async print(): Promise<Buffer> {
    const { data } = await this.#send('Page.printToPDF', { printBackground: true, preferCSSPageSize: true }, PRINT_MS);
    return Buffer.from(data as string, 'base64');
  }

  /** Ends it, whatever state it is in. */
  async close(): Promise<void> {
    const { pid } = this.#child;
    const gone = new Promise<void>((resolve) => {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null || pid === undefined) resolve();
      else this.#child.on('exit', () => resolve());
    });
    try {
      if (pid !== undefined) process.kill(-pid, 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
    await gone;
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  }

  #send(method: string, params: Message = {}, ms = ANSWER_MS): Promise<Message> {
    const id = this.#next++;
    const answer = new Promise<Message>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    const session = this.#session === undefined ? {} : { sessionId: this.#session };
    (this.#child.stdio[3] as Writable).write(`${JSON.stringify({ id, method, params, ...session })}\0`);
    return inTime(answer, method, ms);
  }

  #event(method: string): Promise<void> {
    return inTime(new Promise((resolve) => this.#listeners.set(method, resolve)), method);
  }

  #receive({ id, method, params, result, error }: Message): void {
    if (typeof id === 'number') {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) waiting?.reject(new Error(JSON.stringify(error)));
      else waiting?.resolve(result as Message);
      return;
    }
    if (method === 'Runtime.consoleAPICalled' || method === 'Runtime.exceptionThrown' || method === 'Log.entryAdded') {
      this.messages.push(`${method}: ${JSON.stringify(params)}`);
    }
    if (method === 'Network.requestWillBeSent') {
      const { request, type } = params as { request: { url: string }; type: string };
      if (type !== 'Document' && !request.url.startsWith('data:')) this.requests.push(request.url);
    }
    this.#listeners.get(method as string)?.();
  }
}

async function inTime<T>(promise: Promise<T>, what: string, ms = ANSWER_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the browser did not answer ${what} within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
