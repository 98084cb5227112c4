import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** Which process left something behind, so that another one can tell whether it still runs. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly host: string;
  /** Where process numbers count from: a container has numbers of its own. null where the system does not say. */
  readonly space: string | null;
  /** When it began, on the clock of one boot: process numbers are used again. null where the system does not say. */
  readonly started: string | null;
}

/** @returns undefined for a text that is none. Every command asks: no library is loaded for it. */
export function identityFrom(text: string): ProcessIdentity | undefined {
  let value: Partial<Record<string, unknown>> | null;
  try {
    value = JSON.parse(text) as typeof value;
  } catch {
    return undefined;
  }
  const { pid, host, space, started } = value ?? {};
  const isTextOrNull = (given: unknown): given is string | null => given === null || typeof given === 'string';
  const isWhole = Number.isInteger(pid) && (pid as number) > 0 && typeof host === 'string';
  if (!isWhole || !isTextOrNull(space) || !isTextOrNull(started)) return undefined;
  return { pid: pid as number, host, space, started };
}

export function ownIdentity(): ProcessIdentity {
  return { pid: process.pid, host: hostname(), space: ownSpace(), started: startOf(process.pid)?.started ?? null };
}

/** Whether a process is certainly gone. Of other machines and other containers there is no telling. */
export function isGone({ pid, host, space, started }: ProcessIdentity): boolean {
  if (host !== hostname() || space !== ownSpace()) return false;
  if (!isRunning(pid)) return true;
  const now = startOf(pid);
  return now !== undefined && (now.dead || (started !== null && now.started !== started));
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: somebody else's.
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

function ownSpace(): string | null {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return null;
  }
}

/** Linux alone says so: field 22 of `/proc/<pid>/stat` (proc(5)), ticks since boot. */
function startOf(pid: number): { readonly started: string; readonly dead: boolean } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the command's name, which may hold anything, brackets included.
    const [state = '', ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    return { started: `${boot}/${fields[18]}`, dead: state === 'Z' || state === 'X' };
  } catch {
    return undefined;
  }
}
