import { readdirSync, readFileSync } from 'node:fs';

/** What a process and all that it started took so far. */
export interface Usage {
  readonly pids: readonly number[];
  /** Sum of the largest resident memory of each. */
  readonly peakBytes: number;
  readonly cpuMs: number;
  /** Time in which one of them was ready to run and another program had the core. */
  readonly waitedMs: number;
}

/** Ticks of `/proc/PID/stat` in a second, on every Linux that Node runs on. */
const TICKS = 100;

/** @returns undefined where the system has no /proc, and where the process is gone */
export function usageOf(pid: number): Usage | undefined {
  const parents = new Map<number, number>();
  let names: string[];
  try {
    names = readdirSync('/proc');
  } catch {
    return undefined;
  }
  const ticks = new Map<number, number>();
  for (const name of names) {
    if (!/^\d+$/.test(name)) continue;
    const stat = read(`/proc/${name}/stat`);
    // The name of the program stands in brackets and may hold anything.
    const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (!fields || fields[0] === 'Z') continue;
    parents.set(Number(name), Number(fields[1]));
    ticks.set(Number(name), Number(fields[11]) + Number(fields[12]));
  }
  if (!parents.has(pid)) return undefined;
  const pids = [pid];
  for (const found of pids) for (const [child, parent] of parents) if (parent === found) pids.push(child);
  let [peakBytes, cpu, waited] = [0, 0, 0];
  for (const found of pids) {
    peakBytes += 1024 * Number(/^VmHWM:\s+(\d+) kB$/m.exec(read(`/proc/${found}/status`) ?? '')?.[1] ?? 0);
    cpu += ticks.get(found) ?? 0;
    waited += Number(read(`/proc/${found}/schedstat`)?.split(' ')[1] ?? 0);
  }
  return { pids, peakBytes, cpuMs: (1000 * cpu) / TICKS, waitedMs: waited / 1e6 };
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return undefined;
  }
}
