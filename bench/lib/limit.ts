import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** A control group whose processes together get so much memory and no swap; the kernel kills them beyond it. */
export interface MemoryLimit {
  /** A command line that runs `command` inside. */
  inside(command: string, args: readonly string[]): [command: string, args: string[]];
  remove(): void;
}

const ROOTS = [
  { folder: '/sys/fs/cgroup/memory', limit: 'memory.limit_in_bytes' },
  { folder: '/sys/fs/cgroup', limit: 'memory.max' },
];

/** @throws Error where control groups cannot be made: it needs root and Linux */
export function limitMemory(bytes: number): MemoryLimit {
  const root = ROOTS.find(({ folder }) => existsSync(path.join(folder, 'cgroup.procs')));
  if (!root) throw new Error('there are no control groups here');
  const group = path.join(root.folder, `wanq-bench-${process.pid}`);
  mkdirSync(group);
  writeFileSync(path.join(group, root.limit), String(bytes));
  return {
    inside: (command, args) => ['sh', ['-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', group, command, ...args]],
    remove: () => rmdirSync(group),
  };
}
