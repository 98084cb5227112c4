/**
 * A layer under `node:fs/promises` that counts file operations and lets one of them fail, as SQLite's test6.c does: wanq's own code runs
 * unchanged above it. Imported by tests and loops, which run work in a {@link World}; `preload.mjs` puts a whole process into one.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import childProcess from 'node:child_process';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import os from 'node:os';
import path from 'node:path';

const CREATING = ['create', 'mkdir', 'rename', 'link', 'symlink', 'copyFile'];
const REMOVING = ['unlink', 'rmdir'];
const LOOKING = ['open', 'readdir', 'stat', 'statfs'];
/** Nobody is asked for permission again who has a file open. */
const HELD = ['fstat', 'read'];
const WRITING = ['write', 'sync', 'close'];
const CHANGING = [...CREATING, ...REMOVING, ...WRITING, 'truncate'];

/** Operations that a fault can meet: a full disk refuses no removal, and too many open files no write. */
const APPLIES = {
  ENOSPC: [...CREATING, 'write', 'sync', 'close'],
  EDQUOT: [...CREATING, 'write', 'sync', 'close'],
  EIO: [...CREATING, ...REMOVING, ...LOOKING, ...WRITING, ...HELD, 'truncate'],
  EACCES: [...CREATING, ...REMOVING, ...LOOKING],
  EROFS: [...CREATING, ...REMOVING],
  EMFILE: ['open', 'create', 'readdir', 'copyFile'],
  short: ['write', 'copyFile'],
  crash: CHANGING,
  kill: CHANGING,
  power: CHANGING,
  none: [],
};

const MESSAGES = {
  ENOSPC: 'no space left on device',
  EDQUOT: 'disk quota exceeded',
  EIO: 'i/o error',
  EACCES: 'permission denied',
  EROFS: 'read-only file system',
  EMFILE: 'too many open files',
};

const STOPS = new Set(['crash', 'kill', 'power']);

/** What the layer stands on. */
const real = {
  ...fs.promises,
  open: fs.promises.open,
  fork: childProcess.fork,
  spawn: childProcess.spawn,
  callbackOpen: fs.open,
  callbackRead: fs.read,
};

const storage = new AsyncLocalStorage();
let outer;

/** @returns {World | undefined} what the code that asks runs in */
const current = () => storage.getStore() ?? outer;

const never = () => new Promise(() => {});

/** mulberry32: the layer must not depend on what it tests. */
function randomOf(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const inodeOf = ({ dev, ino }) => `${dev}:${ino}`;

async function inodeAt(file) {
  try {
    return inodeOf(await real.lstat(file, { bigint: true }));
  } catch {
    return undefined;
  }
}

/** One run of something over a disk that fails. */
export class World {
  /**
   * @param {object} plan `kind` of fault; `at`, the operation it meets, from 1, counting those that it applies to; `lasting`: all later ones too;
   * `seed` of what a loss of power takes, `roots` where it takes it; `backups`: a folder beside them for what it may bring back
   */
  constructor({ kind = 'none', at = 0, lasting = false, seed = 1, backups, roots = [] } = {}) {
    if (!APPLIES[kind]) throw new Error(`no such fault: ${kind}`);
    this.kind = kind;
    this.at = at;
    this.lasting = lasting;
    this.random = randomOf(seed);
    this.backups = kind === 'power' ? backups : undefined;
    this.roots = roots;
    this.applies = new Set(APPLIES[kind]);
    /** Operations that the fault applies to. */
    this.count = 0;
    /** All operations. */
    this.total = 0;
    this.hit = undefined;
    this.full = false;
    this.frozen = false;
    this.running = 0;
    /** Open ones, with what closes them. */
    this.handles = new Map();
    this.children = new Set();
    /** Path to the inodes that were renamed to it, for whoever wants to know what it has been. */
    this.onRename = undefined;
    this.onChild = undefined;
    this.trace = undefined;
    /** Of power: changes of folders that no fsync has made lasting, and files with bytes that none has. */
    this.changes = [];
    this.dirty = new Map();
    this.stopped = new Promise((resolve) => {
      this.onStop = resolve;
    });
  }

  run(work) {
    return storage.run(this, work);
  }

  /** @returns {undefined | 'stop' | 'short' | string} what becomes of an operation: nothing, or how it fails */
  next(op, file) {
    this.total++;
    this.trace?.push([op, file]);
    if (this.full && APPLIES.ENOSPC.includes(op)) return 'ENOSPC';
    if (!this.applies.has(op)) return undefined;
    this.count++;
    if (this.count < this.at || this.at === 0 || (this.count > this.at && !this.lasting)) return undefined;
    this.hit ??= { op, file };
    if (STOPS.has(this.kind)) return 'stop';
    if (this.kind === 'short') this.full = true;
    return this.kind;
  }

  /** The process ends here: nothing that it asked for later reaches the disk. */
  async stop() {
    this.frozen = true;
    if (this === outer) {
      // What was handed to the system before is done by it.
      while (this.running > 0) await new Promise((resolve) => setTimeout(resolve, 1));
      if (this.kind === 'power') this.losePower();
      process.kill(process.pid, 'SIGKILL');
    }
    this.onStop();
  }

  /** Cleans up after a world that was stopped inside a process that lives on: what a system does with a dead process. */
  async bury() {
    this.frozen = true;
    for (const child of this.children) child.kill('SIGKILL');
    while (this.running > 0) await new Promise((resolve) => setTimeout(resolve, 1));
    for (const [handle, close] of this.handles) await close.call(handle).catch(() => {});
    this.handles.clear();
    if (this.kind === 'power') this.losePower();
  }

  /** Undoes at random what no fsync has made lasting: the last changes of each folder, and bytes of files. */
  losePower() {
    const places = new Map();
    const walk = (folder) => {
      places.set(inodeOf(fs.lstatSync(folder, { bigint: true })), folder);
      for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
        const child = path.join(folder, entry.name);
        if (entry.isDirectory()) walk(child);
        else places.set(inodeOf(fs.lstatSync(child, { bigint: true })), child);
      }
    };
    for (const root of this.roots) walk(root);
    for (const [inode, { size, backup }] of this.dirty) {
      const file = places.get(inode);
      if (file !== undefined) this.damage(file, size, backup);
    }
    const kept = new Map();
    for (const folder of new Set(this.changes.flatMap(({ folders }) => folders))) {
      const pending = this.changes.filter(({ folders }) => folders.includes(folder)).length;
      kept.set(folder, Math.floor(this.random() * (pending + 1)));
    }
    const undone = this.changes.filter(({ folders }) => {
      const survives = folders.every((folder) => kept.get(folder) > 0);
      for (const folder of folders) kept.set(folder, kept.get(folder) - 1);
      return !survives;
    });
    for (const change of undone.reverse()) {
      places.clear();
      for (const root of this.roots) walk(root);
      const folders = change.folders.map((folder) => places.get(folder));
      if (folders.every((folder) => folder !== undefined)) change.undo(folders);
    }
  }

  damage(file, size, backup) {
    const now = fs.statSync(file).size;
    const from = Math.floor(this.random() * (now + 1));
    const how = this.random();
    if (how < 0.25) return;
    if (how < 0.75) fs.truncateSync(file, from);
    else {
      const handle = fs.openSync(file, 'r+');
      fs.writeSync(handle, new Uint8Array(now - from), 0, now - from, from);
      fs.closeSync(handle);
    }
    if (backup !== undefined && this.random() < 0.5) fs.copyFileSync(backup, file);
    else if (size === 0 && this.random() < 0.25) fs.truncateSync(file, 0);
  }

  /** @param folder path; @param undo gets the path that the folder has by then */
  async changed(folders, undo) {
    if (!this.backups) return;
    const inodes = [];
    for (const folder of folders) inodes.push(await inodeAt(folder));
    this.changes.push({ folders: inodes, undo });
  }

  /** Keeps what is about to be replaced or removed. */
  async keep(file) {
    if (!this.backups || !(await inodeAt(file))) return undefined;
    const backup = path.join(this.backups, String(this.total));
    await real.link(file, backup).catch(() => {});
    return backup;
  }

  async dirtied(inode, file, fresh) {
    if (!this.backups || this.dirty.has(inode)) return;
    const { size } = await real.stat(file);
    const backup = fresh || size === 0 ? undefined : path.join(this.backups, `${this.total}-content`);
    if (backup !== undefined) await real.copyFile(file, backup);
    this.dirty.set(inode, { size, backup });
  }

  synced(inode) {
    this.dirty.delete(inode);
    this.changes = this.changes.filter(({ folders }) => !folders.includes(inode));
  }
}

function systemError(code, syscall, file) {
  const message = `${code}: ${MESSAGES[code]}, ${syscall}${file === undefined ? '' : ` '${file}'`}`;
  return Object.assign(new Error(message), {
    code,
    errno: -os.constants.errno[code],
    syscall,
    ...(file === undefined ? {} : { path: file }),
  });
}

/**
 * @param half what a stop or a full disk leaves of it
 * @returns what `work` does, unless a fault meets it
 */
async function step(op, file, work, half) {
  const world = current();
  if (!world) return work();
  if (world.frozen) return never();
  const fault = world.next(op, file);
  if (fault === 'stop') {
    if (half && world.random() < 0.5) await half();
    await world.stop();
    return never();
  }
  if (fault === 'short' && half) return half('short');
  if (fault !== undefined) throw systemError(fault === 'short' ? 'ENOSPC' : fault, op === 'create' ? 'open' : op, file);
  world.running++;
  try {
    return await work(world);
  } finally {
    world.running--;
    // Who died while the system worked for it never hears of it.
    // biome-ignore lint/correctness/noUnsafeFinally: the result is of nobody
    if (world.frozen) return never();
  }
}

const resolved = (file) => path.resolve(String(file instanceof URL ? file.pathname : file));

const WRITABLE = fs.constants.O_WRONLY | fs.constants.O_RDWR;

function flagsOf(flags = 'r') {
  if (typeof flags === 'number') return flags;
  const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND, O_EXCL } = fs.constants;
  const base = { r: O_RDONLY, w: O_WRONLY | O_CREAT | O_TRUNC, a: O_WRONLY | O_CREAT | O_APPEND }[flags[0]];
  return (flags.includes('+') ? (base & ~O_WRONLY) | O_RDWR : base) | (flags.includes('x') ? O_EXCL : 0);
}

/** What is known of open handles. */
const opened = new WeakMap();

async function open(file, flags, mode) {
  const target = resolved(file);
  const bits = flagsOf(flags);
  const writes = (bits & WRITABLE) !== 0;
  return step(writes ? 'create' : 'open', target, async (world) => {
    const before = world && writes ? await inodeAt(target) : undefined;
    if (world && before && bits & fs.constants.O_TRUNC) await world.dirtied(before, target, false);
    const handle = await real.open(file, flags, mode);
    if (!world) return handle;
    const close = handle.close;
    world.handles.set(handle, close);
    // Every handle has a function of its own for this.
    handle.close = async () => {
      if (current()?.frozen) return never();
      // Closed it is, whatever the system says of it.
      await close.call(handle);
      world.handles.delete(handle);
      return writes ? step('close', target, async () => {}) : undefined;
    };
    const inode = inodeOf(await real.handleStat.call(handle, { bigint: true }));
    opened.set(handle, { file: target, inode, writes, fresh: before === undefined });
    if (writes && before === undefined) await created(world, target, inode);
    return handle;
  });
}

/** Something new is in a folder. */
async function created(world, target, inode) {
  await world.changed([path.dirname(target)], ([folder]) => {
    for (const name of fs.readdirSync(folder)) {
      const child = path.join(folder, name);
      if (inodeOf(fs.lstatSync(child, { bigint: true })) === inode) fs.rmSync(child, { recursive: true });
    }
  });
}

/** @returns {[view: Uint8Array, position: number | null]} */
function piece(data, offset, length, position) {
  if (typeof data === 'string') return [Buffer.from(data), typeof offset === 'number' ? offset : null];
  if (typeof offset === 'object' && offset !== null) return piece(data, offset.offset, offset.length, offset.position);
  const start = offset ?? 0;
  const count = length ?? data.byteLength - start;
  return [new Uint8Array(data.buffer, data.byteOffset + start, count), position ?? null];
}

/** What a handle does beside what it did before. */
const HANDLE = {
  read(...args) {
    return step('read', opened.get(this)?.file, () => real.read.apply(this, args));
  },
  write(...args) {
    const { file, inode, fresh } = opened.get(this) ?? {};
    const half = async (short) => {
      const [view, position] = piece(...args);
      const part = view.subarray(0, Math.ceil(view.byteLength / 2));
      const result = await real.write.call(this, part, 0, part.byteLength, position);
      return short && { ...result, buffer: args[0] };
    };
    const work = async (world) => {
      if (world && inode) await world.dirtied(inode, file, fresh);
      return real.write.apply(this, args);
    };
    return step('write', file, work, half);
  },
  truncate(...args) {
    const { file, inode, fresh } = opened.get(this) ?? {};
    return step('truncate', file, async (world) => {
      if (world && inode) await world.dirtied(inode, file, fresh);
      return real.truncateHandle.apply(this, args);
    });
  },
  stat(...args) {
    return step('fstat', opened.get(this)?.file, () => real.handleStat.apply(this, args));
  },
  async writeFile(data) {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    let done = 0;
    while (done < bytes.byteLength) {
      done += (await this.write(bytes, done, bytes.byteLength - done, null)).bytesWritten;
    }
  },
  readFile(...args) {
    return step('read', opened.get(this)?.file, () => real.handleReadFile.apply(this, args));
  },
};
HANDLE.appendFile = HANDLE.writeFile;

for (const name of ['sync', 'datasync']) {
  HANDLE[name] = function () {
    const { file, inode } = opened.get(this) ?? {};
    // What is on the disk is what the world says: waiting for a real one would show nothing.
    return step('sync', file, async (world) => {
      if (inode) world?.synced(inode);
    });
  };
}

async function writeInto(file, data, options, flag) {
  const chosen = typeof options === 'string' ? { encoding: options } : (options ?? {});
  chosen.signal?.throwIfAborted();
  if (typeof file === 'object' && 'fd' in file) return file.writeFile(data);
  const handle = await open(file, chosen.flag ?? flag, chosen.mode);
  try {
    await handle.writeFile(typeof data === 'string' ? Buffer.from(data, chosen.encoding ?? 'utf8') : data);
  } finally {
    await handle.close();
  }
}

async function rename(from, to) {
  const [a, b] = [resolved(from), resolved(to)];
  return step('rename', b, async (world) => {
    const backup = await world?.keep(b);
    await real.rename(from, to);
    const folders = path.dirname(a) === path.dirname(b) ? [path.dirname(a)] : [path.dirname(a), path.dirname(b)];
    await world?.changed(folders, (now) => {
      const target = path.join(now.at(-1), path.basename(b));
      try {
        fs.renameSync(target, path.join(now[0], path.basename(a)));
        if (backup !== undefined) fs.linkSync(backup, target);
      } catch {
        // It was renamed or removed since.
      }
    });
    await world?.onRename?.(b);
  });
}

async function unlink(file) {
  const target = resolved(file);
  return step('unlink', target, async (world) => {
    const backup = await world?.keep(target);
    await real.unlink(file);
    await world?.changed([path.dirname(target)], ([folder]) => {
      const again = path.join(folder, path.basename(target));
      if (backup !== undefined && !fs.existsSync(again)) fs.linkSync(backup, again);
    });
  });
}

async function rmdir(file) {
  return step('rmdir', resolved(file), () => real.rmdir(file));
}

/** One operation for each thing that goes, as a crash may come between any two. */
async function rm(file, options = {}) {
  if (!current()) return real.rm(file, options);
  const { force = false, recursive = false, maxRetries = 0 } = options;
  for (let left = maxRetries; ; left--) {
    try {
      const info = await real.lstat(file);
      if (!info.isDirectory()) await unlink(file);
      else if (!recursive) return await real.rm(file, options);
      else {
        for (const name of await readdir(file)) await rm(path.join(String(file), name), { ...options, force: true });
        await rmdir(file);
      }
      return undefined;
    } catch (error) {
      if (error.code === 'ENOENT' && force) return undefined;
      if (left <= 0 || !['EBUSY', 'EMFILE', 'ENFILE', 'ENOTEMPTY', 'EPERM'].includes(error.code)) throw error;
    }
  }
}

async function mkdir(file, options) {
  const target = resolved(file);
  return step('mkdir', target, async (world) => {
    const missing = [];
    if (world?.backups) {
      for (let at = target; !(await inodeAt(at)); at = path.dirname(at)) missing.unshift(at);
    }
    const first = await real.mkdir(file, options);
    for (const folder of missing) await created(world, folder, await inodeAt(folder));
    return first;
  });
}

async function copyFile(from, to, mode) {
  const target = resolved(to);
  const work = async (world) => {
    const before = world ? await inodeAt(target) : undefined;
    await real.copyFile(from, to, mode);
    const inode = world && (await inodeAt(target));
    if (!inode) return;
    if (!before) await created(world, target, inode);
    await world.dirtied(inode, target, !before);
  };
  const half = async (short) => {
    // Node takes away what a copy that fails has written; a crash does not.
    if (short) throw systemError('ENOSPC', 'copyfile', target);
    const bytes = await real.readFile(from);
    await real.writeFile(to, bytes.subarray(0, Math.floor(bytes.byteLength / 2)));
  };
  return step('copyFile', target, work, half);
}

function making(op, name, at) {
  return (...args) => {
    const target = resolved(args[at]);
    return step(op, target, async (world) => {
      await real[name](...args);
      const inode = world && (await inodeAt(target));
      if (inode) await created(world, target, inode);
    });
  };
}

async function mkdtemp(prefix, options) {
  return step('mkdir', resolved(prefix), async (world) => {
    const made = await real.mkdtemp(prefix, options);
    if (world) await created(world, resolved(made), await inodeAt(made));
    return made;
  });
}

function looking(op, name) {
  return (file, ...args) => step(op, resolved(file), () => real[name](file, ...args));
}

async function readdir(file, options) {
  return step('readdir', resolved(file), () => real.readdir(file, options));
}

async function readFile(file, options) {
  if (!current() || typeof file === 'object') return real.readFile(file, options);
  const handle = await open(file, 'r');
  try {
    return await handle.readFile(options);
  } finally {
    await handle.close();
  }
}

const PROMISES = {
  open,
  rename,
  unlink,
  rmdir,
  rm,
  mkdir,
  mkdtemp,
  copyFile,
  readdir,
  readFile,
  link: making('link', 'link', 1),
  symlink: making('symlink', 'symlink', 1),
  writeFile: (file, data, options) =>
    current() ? writeInto(file, data, options, 'w') : real.writeFile(file, data, options),
  appendFile: (file, data, options) =>
    current() ? writeInto(file, data, options, 'a') : real.appendFile(file, data, options),
  stat: looking('stat', 'stat'),
  lstat: looking('stat', 'lstat'),
  realpath: looking('stat', 'realpath'),
  access: looking('stat', 'access'),
  statfs: looking('statfs', 'statfs'),
};

/** As streams read. */
const CALLBACKS = {
  open(file, ...rest) {
    const done = rest.pop();
    step(
      'open',
      resolved(file),
      () =>
        new Promise((resolve, reject) => {
          real.callbackOpen.call(fs, file, ...rest, (error, fd) => (error ? reject(error) : resolve(fd)));
        }),
    ).then((fd) => done(null, fd), done);
  },
  read(fd, ...rest) {
    const done = rest.pop();
    step(
      'read',
      undefined,
      () =>
        new Promise((resolve, reject) => {
          real.callbackRead.call(fs, fd, ...rest, (error, count) => (error ? reject(error) : resolve(count)));
        }),
    ).then((count) => done(null, count, rest[0]), done);
  },
};

function recorded(start) {
  return (...args) => {
    const child = start(...args);
    const world = current();
    world?.children.add(child);
    world?.onChild?.(child);
    return child;
  };
}

/** Puts the layer in; outside of any {@link World} everything is as it was. */
async function install() {
  const handle = await real.open(path.join(os.tmpdir()), 'r');
  const prototype = Object.getPrototypeOf(handle);
  for (const name of ['read', 'write']) real[name] = prototype[name];
  real.handleStat = prototype.stat;
  real.handleReadFile = prototype.readFile;
  real.truncateHandle = prototype.truncate;
  await handle.close();
  const writeWhole = prototype.writeFile;
  for (const [name, method] of Object.entries(HANDLE)) {
    const before = prototype[name];
    prototype[name] = function (...args) {
      return current() ? method.apply(this, args) : (name === 'appendFile' ? writeWhole : before).apply(this, args);
    };
  }
  Object.assign(fs.promises, PROMISES);
  for (const [name, method] of Object.entries(CALLBACKS)) {
    const before = fs[name];
    fs[name] = (...args) => (current() ? method(...args) : before.apply(fs, args));
  }
  childProcess.fork = recorded(real.fork);
  childProcess.spawn = recorded(real.spawn);
  syncBuiltinESMExports();
}

await install();

/** Puts this whole process into a world. */
export function enter(world) {
  outer = world;
}
