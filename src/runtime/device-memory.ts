import { execFile } from 'node:child_process';

/** Providers that run in the memory of an NVIDIA GPU. */
const NVIDIA: ReadonlySet<string> = new Set(['cuda', 'tensorrt']);

const INTERVAL_MS = 1000;

/** Looks at the memory that a process takes on a GPU, as long as it runs. */
export class DeviceMemory {
  #peak: number | null = null;
  #timer: NodeJS.Timeout | undefined;

  /** @param pid of the process that holds the session; nothing is looked at where its provider uses the host's memory */
  watch(provider: string, pid: number | undefined): void {
    if (!NVIDIA.has(provider) || pid === undefined || this.#timer) return;
    const look = (): void => {
      // Its own list of processes, since the memory of the whole device is not this model's.
      const query = ['--query-compute-apps=pid,used_memory', '--format=csv,noheader,nounits'];
      execFile('nvidia-smi', query, { timeout: INTERVAL_MS * 5 }, (error, text) => {
        const bytes = error ? null : memoryOf(pid, text);
        if (bytes !== null) this.#peak = Math.max(this.#peak ?? 0, bytes);
      });
    };
    look();
    this.#timer = setInterval(look, INTERVAL_MS).unref();
  }

  /** @returns the most that was seen, bytes; null where nothing was to be read */
  stop(): number | null {
    clearInterval(this.#timer);
    this.#timer = undefined;
    return this.#peak;
  }
}

/** @param text lines of `pid, MiB` @returns bytes of one process, over all devices */
export function memoryOf(pid: number, text: string): number | null {
  const sizes = text
    .split('\n')
    .map((line) => line.split(',').map((cell) => Number(cell.trim())))
    .filter(([owner, size]) => owner === pid && Number.isFinite(size));
  return sizes.length > 0 ? sizes.reduce((sum, [, size]) => sum + (size as number), 0) * 2 ** 20 : null;
}
