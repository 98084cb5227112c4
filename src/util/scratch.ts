import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** A temporary folder for arrays that are needed later: the trajectories and embeddings of a 5B run do not fit into memory. */
export class Scratch {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async open(): Promise<Scratch> {
    return new Scratch(await mkdtemp(path.join(tmpdir(), 'wanq-')));
  }

  async put(key: string, values: Float32Array): Promise<void> {
    await this.putBytes(`${key}.f32`, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  async get(key: string): Promise<Float32Array> {
    const { buffer, byteOffset, byteLength } = await this.getBytes(`${key}.f32`);
    return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
  }

  async putBytes(name: string, bytes: Uint8Array): Promise<void> {
    await writeFile(path.join(this.folder, name), bytes);
  }

  async getBytes(name: string): Promise<Uint8Array> {
    return readFile(path.join(this.folder, name));
  }

  async close(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}
