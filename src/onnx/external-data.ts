import { constants } from 'node:fs';
import { type FileHandle, open, realpath } from 'node:fs/promises';
import path from 'node:path';
import { fromSystemError, printable, WanqError } from '../errors.js';
import type { Tensor } from '../ir/tensor.js';
import { fillFully, openRegular, readFully } from '../util/files.js';

/**
 * Reads external tensor data under the path policy of wanq: relative locations inside the model's folder only, regular files only,
 * ranges inside the file. A model must not be able to make wanq read anything else (CVE-2022-25882 and its many bypasses).
 */
export class ExternalData {
  readonly #folder: string;
  readonly #files = new Map<string, Promise<OpenFile>>();

  /** @param modelPath path of the `.onnx` file, whose folder the locations are relative to */
  constructor(modelPath: string) {
    this.#folder = path.dirname(path.resolve(modelPath));
  }

  /** @throws WanqError EXTERNAL_DATA_INVALID where the location or the range is not allowed */
  async read(tensor: Tensor): Promise<Uint8Array> {
    const { handle, offset, length } = await this.#locate(tensor);
    return readFully(handle, offset, length);
  }

  /** Fills `target` with the tensor's bytes from `start` on. @throws WanqError as {@link read} */
  async readInto(tensor: Tensor, start: number, target: Uint8Array): Promise<void> {
    const { handle, offset } = await this.#locate(tensor);
    await fillFully(handle, offset + start, target);
  }

  async #locate(tensor: Tensor): Promise<{ handle: FileHandle; offset: number; length: number }> {
    if (tensor.data.kind !== 'external') throw new Error(`tensor ${tensor.name} has no external data`);
    const { location, offset, length } = tensor.data;
    const { handle, size } = await this.#open(location, tensor.name);
    if (offset + length > size) {
      throw new WanqError(
        'EXTERNAL_DATA_INVALID',
        `tensor "${printable(tensor.name)}" wants bytes ${offset} to ${offset + length} of ${printable(location)}, which has ${size}`,
        { hint: 'the file is truncated or belongs to another model: copy it again' },
      );
    }
    return { handle, offset, length };
  }

  /**
   * Makes a further file readable, wherever it lies: one that the user named, not the model.
   * @returns the location to read it by, which no model can name
   * @throws WanqError NOT_FOUND, NOT_READABLE
   */
  async mount(file: string): Promise<string> {
    const location = `\0${this.#files.size}`;
    this.#files.set(location, Promise.resolve(await openRegular(file)));
    return location;
  }

  /** Whether a location is one of {@link mount}. */
  isMounted(location: string): boolean {
    return location.startsWith('\0');
  }

  /** @returns size in bytes of a data file, checked as for reading */
  async size(location: string): Promise<number> {
    return (await this.#open(location, location)).size;
  }

  #open(location: string, tensorName: string): Promise<OpenFile> {
    let file = this.#files.get(location);
    if (!file) {
      file = openInside(this.#folder, location, tensorName);
      this.#files.set(location, file);
    }
    return file;
  }

  async close(): Promise<void> {
    const files = [...this.#files.values()];
    this.#files.clear();
    for (const file of files) {
      const opened = await file.catch(() => undefined);
      await opened?.handle.close();
    }
  }
}

interface OpenFile {
  handle: FileHandle;
  size: number;
}

async function openInside(folder: string, location: string, tensorName: string): Promise<OpenFile> {
  const refuse = (why: string, hint?: string): WanqError =>
    new WanqError(
      'EXTERNAL_DATA_INVALID',
      `tensor "${printable(tensorName)}": data file "${printable(location)}" ${why}`,
      hint === undefined ? {} : { hint },
    );
  const parts = location.split(/[\\/]/);
  if (location.includes('\0') || path.isAbsolute(location) || /^[A-Za-z]:/.test(location) || parts.includes('..')) {
    throw refuse('lies outside the model folder');
  }
  let resolved: string;
  let root: string;
  try {
    [resolved, root] = await Promise.all([realpath(path.join(folder, location)), realpath(folder)]);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw code === 'ENOENT'
      ? refuse('is missing', 'put it beside the .onnx file')
      : refuse(`cannot be opened (${code})`);
  }
  if (!resolved.startsWith(root + path.sep)) throw refuse('lies outside the model folder');
  const handle = await open(resolved, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (error) => {
      throw fromSystemError(error, location);
    },
  );
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw refuse('is not a regular file');
  }
  return { handle, size: stat.size };
}
