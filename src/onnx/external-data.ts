import { type FileHandle, lstat, realpath } from 'node:fs/promises';
import path from 'node:path';
import { fromSystemError, printable, WanqError, type WanqErrorOptions } from '../errors.js';
import type { Tensor } from '../ir/tensor.js';
import { MAX_DATA_FILES, MAX_SHARED_RANGE } from '../limits.js';
import { fillFully, openRegular, openSeen, readFully } from '../util/files.js';
import { locationFault } from './location.js';

/**
 * Reads external tensor data under the path policy of wanq: relative locations inside the model's folder only, regular files only,
 * ranges inside the file. A model must not be able to make wanq read anything else (CVE-2022-25882 and its many bypasses). `docs/security.md` has
 * the policy in full.
 */
export class ExternalData {
  readonly #model: string;
  readonly #files = new Map<string, Promise<OpenFile>>();

  /** @param modelPath path of the `.onnx` file, whose folder the locations are relative to */
  constructor(modelPath: string) {
    this.#model = path.resolve(modelPath);
  }

  /**
   * Checks where tensors lie: every file and range as for reading, and that no two ranges of a file overlap, unless they are the same one.
   * @param missing whether files may be missing: graphs are planned without their weights
   * @throws WanqError EXTERNAL_DATA_INVALID
   */
  async check(tensors: Iterable<Tensor>, { missing = false } = {}): Promise<void> {
    const byFile = new Map<string, Range[]>();
    for (const tensor of tensors) {
      const { name, data } = tensor;
      if (data.kind !== 'external') continue;
      const located = await this.#locate(tensor).catch((error: unknown) => {
        if (missing && isMissing(error)) return undefined;
        throw error;
      });
      if (!located || located.length === 0) continue;
      const { offset, length, identity } = located;
      const ranges = byFile.get(identity);
      const range = { name, location: data.location, offset, end: offset + length };
      if (ranges) ranges.push(range);
      else byFile.set(identity, [range]);
    }
    for (const ranges of byFile.values()) refuseOverlaps(ranges);
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

  async #locate(tensor: Tensor): Promise<OpenFile & { readonly offset: number; readonly length: number }> {
    if (tensor.data.kind !== 'external') throw new Error(`tensor ${tensor.name} has no external data`);
    const { location, offset, length } = tensor.data;
    const file = await this.#open(location, tensor.name);
    const { size } = file;
    // As a difference: the sum of two safe integers need not be one.
    if (length > size || offset > size - length) {
      throw new WanqError(
        'EXTERNAL_DATA_INVALID',
        `tensor "${printable(tensor.name)}" wants ${length} bytes at ${offset} of ${printable(location)}, which has ${size}`,
        { hint: 'the file is truncated or belongs to another model: copy it again' },
      );
    }
    return { ...file, offset, length };
  }

  /**
   * Makes a further file readable, wherever it lies: one that the user named, not the model.
   * @returns the location to read it by, which no model can name
   * @throws WanqError NOT_FOUND, NOT_READABLE
   */
  async mount(file: string): Promise<string> {
    const location = `\0${this.#files.size}`;
    this.#files.set(location, Promise.resolve({ ...(await openRegular(file)), file, identity: location }));
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

  /**
   * Where data files lie for somebody who takes a folder and plain files in it, and no links out of it: onnxruntime, given a graph in memory.
   *
   * @returns the folder of a Hugging Face repository and the names in it by location, where some of the files are blobs of its cache; undefined where
   * all lie in the model's folder
   * @throws WanqError EXTERNAL_DATA_INVALID
   */
  async blobs(locations: Iterable<string>): Promise<Blobs | undefined> {
    const found: [location: string, file: string][] = [];
    let folder: string | undefined;
    for (const location of locations) {
      const { file, repository } = await this.#open(location, location);
      folder ??= repository;
      found.push([location, file]);
    }
    if (folder === undefined) return undefined;
    const root = folder;
    const nameOf = (file: string): string => path.relative(root, file).replaceAll(path.sep, '/');
    return { folder, names: new Map(found.map(([location, file]) => [location, nameOf(file)])) };
  }

  #open(location: string, tensorName: string): Promise<OpenFile> {
    let file = this.#files.get(location);
    if (!file) {
      if (this.#files.size >= MAX_DATA_FILES) {
        throw new WanqError('EXTERNAL_DATA_INVALID', `the model has more than ${MAX_DATA_FILES} data files`);
      }
      file = openInside(this.#model, location, tensorName);
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

/** A repository of Hugging Face's cache. */
export interface Blobs {
  readonly folder: string;
  /** Real paths in it, by location. */
  readonly names: ReadonlyMap<string, string>;
}

interface OpenFile {
  readonly handle: FileHandle;
  readonly size: number;
  /** Its real path. */
  readonly file: string;
  /** The repository of Hugging Face's cache, where it is one of its blobs. */
  readonly repository?: string;
  /** Tells files apart, by whatever location they were opened. */
  readonly identity: string;
}

interface Range {
  readonly name: string;
  readonly location: string;
  readonly offset: number;
  readonly end: number;
}

function refuseOverlaps(ranges: Range[]): void {
  ranges.sort((a, b) => a.offset - b.offset || a.end - b.end);
  let shared = 1;
  for (const [i, range] of ranges.entries()) {
    const next = ranges[i + 1];
    if (!next || next.offset >= range.end) {
      shared = 1;
      continue;
    }
    const where = `of ${printable(range.location)}`;
    if (next.offset !== range.offset || next.end !== range.end) {
      throw new WanqError(
        'EXTERNAL_DATA_INVALID',
        `tensors "${printable(range.name)}" and "${printable(next.name)}" overlap in bytes ${next.offset} to ${range.end} ${where}`,
      );
    }
    if (++shared > MAX_SHARED_RANGE) {
      throw new WanqError(
        'EXTERNAL_DATA_INVALID',
        `more than ${MAX_SHARED_RANGE} tensors share bytes ${range.offset} to ${range.end} ${where}`,
      );
    }
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof WanqError && (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
}

async function openInside(model: string, location: string, tensorName: string): Promise<OpenFile> {
  const folder = path.dirname(model);
  const refuse = (why: string, options: WanqErrorOptions = {}): WanqError =>
    new WanqError(
      'EXTERNAL_DATA_INVALID',
      `tensor "${printable(tensorName)}": data file "${printable(location)}" ${why}`,
      options,
    );
  const unopened = (error: unknown): unknown => {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return refuse('is missing', { hint: 'put it beside the .onnx file', cause: error });
    if (['ENOTDIR', 'ELOOP', 'ENAMETOOLONG'].includes(code)) return refuse(`cannot be opened (${code})`);
    // What the system refuses is no fault of the model.
    return fromSystemError(error, path.join(folder, location));
  };
  const fault = locationFault(location);
  if (fault !== undefined) throw refuse(fault);
  let resolved: string;
  let root: string;
  try {
    [resolved, root] = await Promise.all([realpath(path.join(folder, location)), realpath(folder)]);
  } catch (error) {
    throw unopened(error);
  }
  const inside = resolved.startsWith(root.endsWith(path.sep) ? root : root + path.sep);
  const repository = inside ? undefined : await repositoryOf(model, root);
  if (!inside && (repository === undefined || path.dirname(resolved) !== path.join(repository, BLOBS))) {
    throw refuse('lies outside the model folder');
  }
  // Looked at before it is opened: opening alone does things to a pipe or a device.
  const seen = await lstat(resolved, { bigint: true }).catch((error: unknown) => {
    throw unopened(error);
  });
  if (!seen.isFile()) throw refuse('is not a regular file');
  const opened = { ...(await openSeen(resolved, seen)), file: resolved, identity: `${seen.dev}:${seen.ino}` };
  return repository === undefined ? opened : { ...opened, repository };
}

const BLOBS = 'blobs';

/**
 * Hugging Face's cache holds files as `models--NAME/blobs/HASH` and a checkout as links to them, `models--NAME/snapshots/REVISION/...`.
 *
 * @param root real path of the folder that `model` was named in
 * @returns the folder of the repository where `model` is a link of such a checkout to a blob of it
 */
async function repositoryOf(model: string, root: string): Promise<string | undefined> {
  const [, repository] = /^(.*[\\/]models--[^\\/]+)[\\/]snapshots[\\/][^\\/]/.exec(root) ?? [];
  if (repository === undefined) return undefined;
  const real = await realpath(model).catch(() => undefined);
  return real !== undefined && path.dirname(real) === path.join(repository, BLOBS) ? repository : undefined;
}
