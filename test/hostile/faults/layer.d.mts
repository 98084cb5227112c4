/** How an operation fails; `crash`, `kill` and `power` end the process there, `power` with what was not synced; `none` only counts. */
export type FaultKind =
  | 'ENOSPC'
  | 'EDQUOT'
  | 'EIO'
  | 'EACCES'
  | 'EROFS'
  | 'EMFILE'
  | 'short'
  | 'crash'
  | 'kill'
  | 'power'
  | 'none';

export interface Fault {
  readonly kind?: FaultKind;
  /** The operation it meets, from 1, of those that it applies to. */
  readonly at?: number;
  /** Whether later ones fail too. */
  readonly lasting?: boolean;
  /** Of what a loss of power takes. */
  readonly seed?: number;
  /** Of `power`: a folder for what may come back, and the folders that it is lost in, on one file system. */
  readonly backups?: string;
  readonly roots?: readonly string[];
}

/** A run of something over a disk that fails. */
export class World {
  constructor(fault?: Fault);
  /** Operations so far: those that the fault applies to, and all. */
  readonly count: number;
  readonly total: number;
  /** What the fault met. */
  readonly hit: { readonly op: string; readonly file?: string } | undefined;
  /** Files that are open, and processes that were started. */
  readonly handles: ReadonlyMap<unknown, unknown>;
  readonly children: ReadonlySet<import('node:child_process').ChildProcess>;
  /** Settles when the process would have ended. */
  readonly stopped: Promise<void>;
  trace: [op: string, file: string | undefined][] | undefined;
  /** Told of every path that something was renamed to. */
  onRename: ((file: string) => Promise<void>) | undefined;
  /** Told of every process that was started. */
  onChild: ((child: import('node:child_process').ChildProcess) => void) | undefined;
  run<T>(work: () => T): T;
  /** Does what the system does with a process that ended, and loses power if that is the fault. */
  bury(): Promise<void>;
}

/** Puts the whole process into a world. */
export function enter(world: World): void;
