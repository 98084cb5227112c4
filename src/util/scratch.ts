import { lstat, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { identityFrom, isGone, ownIdentity } from './process-identity.js';

const PREFIX = 'wanq-';

/** Says whose a folder is. */
const OWNER = '.owner';

/** Name of the file of an array. */
export function fileOf(key: string): string {
  return `${key}.f32`;
}

/** A folder for arrays that are needed later: the trajectories and embeddings of a 5B run do not fit into memory. */
export class Scratch {
  #folder: string;

  protected constructor(folder: string) {
    this.#folder = folder;
  }

  /** A folder among the temporary files. Those that killed processes left there are removed. */
  static async open(): Promise<Scratch> {
    await removeAbandoned();
    const folder = await mkdtemp(path.join(tmpdir(), PREFIX));
    await writeFile(path.join(folder, OWNER), JSON.stringify(ownIdentity()));
    return new Scratch(folder);
  }

  get folder(): string {
    return this.#folder;
  }

  async put(key: string, values: Float32Array): Promise<void> {
    await this.putBytes(fileOf(key), new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  async get(key: string): Promise<Float32Array> {
    const { buffer, byteOffset, byteLength } = await this.getBytes(fileOf(key));
    return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
  }

  async putBytes(name: string, bytes: Uint8Array): Promise<void> {
    await writeFile(path.join(this.#folder, name), bytes);
  }

  async getBytes(name: string): Promise<Uint8Array> {
    return readFile(path.join(this.#folder, name));
  }

  async remove(key: string): Promise<void> {
    await rm(path.join(this.#folder, fileOf(key)), { force: true });
  }

  /** @param folder on the same file system; it must not be there */
  async moveTo(folder: string): Promise<void> {
    await rename(this.#folder, folder);
    this.#folder = folder;
  }

  async close(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }
}

async function removeAbandoned(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(PREFIX)) continue;
    const folder = path.join(tmpdir(), name);
    // What is not there any more, or not ours to read or remove, is somebody else's matter.
    if (await isAbandoned(folder).catch(() => false))
      await rm(folder, { recursive: true, force: true }).catch(() => {});
  }
}

async function isAbandoned(folder: string): Promise<boolean> {
  const info = await lstat(folder);
  if (!info.isDirectory() || (process.getuid !== undefined && info.uid !== process.getuid())) return false;
  const owner = identityFrom(await readFile(path.join(folder, OWNER), 'utf8'));
  return owner !== undefined && isGone(owner);
}
