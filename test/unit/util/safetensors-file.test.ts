import { readFile, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type SafeTensor, SafetensorsFile, writeSafetensors } from '../../../src/util/safetensors.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

const count = (length: number): number[] => Array.from({ length }, (_, i) => i);

const TENSORS: Record<string, SafeTensor> = {
  f64: { dtype: 'F64', shape: [3, 2], data: Float64Array.from(count(6)) },
  f32: { dtype: 'F32', shape: [4, 3, 2], data: Float32Array.from(count(24), (i) => i / 7) },
  f16: { dtype: 'F16', shape: [5, 1], data: Uint16Array.from(count(5), (i) => 0x3c00 + i) },
  bf16: { dtype: 'BF16', shape: [2, 3], data: Uint16Array.from(count(6), (i) => 0x3f80 + i) },
  i64: { dtype: 'I64', shape: [3], data: BigInt64Array.from(count(3), (i) => BigInt(-i) * 2n ** 40n) },
  i32: { dtype: 'I32', shape: [2, 2], data: Int32Array.of(-1, 2, -3, 4) },
  u32: { dtype: 'U32', shape: [2], data: Uint32Array.of(1, 2 ** 32 - 1) },
  u8: { dtype: 'U8', shape: [7, 3], data: Uint8Array.from(count(21)) },
  i8: { dtype: 'I8', shape: [3, 5], data: Int8Array.from(count(15), (i) => i - 7) },
};

const SCALAR: SafeTensor = { dtype: 'F32', shape: [], data: Float32Array.of(7) };
const EMPTY: SafeTensor = { dtype: 'F32', shape: [0, 4], data: new Float32Array(0) };
const THIN: SafeTensor = { dtype: 'I32', shape: [4, 0], data: new Int32Array(0) };

async function written(): Promise<string> {
  const file = path.join(await temporaryFolder(), 'file.safetensors');
  const tensors = new Map(Object.entries({ ...TENSORS, scalar: SCALAR, empty: EMPTY, thin: THIN }));
  await writeSafetensors(file, { tensors, metadata: { format: 'pt' } });
  return file;
}

async function opened(file?: string): Promise<SafetensorsFile> {
  const made = await SafetensorsFile.open(file ?? (await written()));
  onTestFinished(() => made.close().catch(() => undefined));
  return made;
}

/** Rows [from, to) of a tensor that is in memory. */
function slice({ dtype, shape, data }: SafeTensor, from: number, to: number): SafeTensor {
  const row = data.length / (shape[0] as number);
  return { dtype, shape: [to - from, ...shape.slice(1)], data: data.slice(from * row, to * row) as SafeTensor['data'] };
}

describe('SafetensorsFile', () => {
  it('knows what is in the file without reading it', async () => {
    const { entries, metadata } = await opened();
    expect(Object.fromEntries([...entries].map(([name, { dtype, shape }]) => [name, { dtype, shape }]))).toEqual(
      Object.fromEntries(
        Object.entries({ ...TENSORS, scalar: SCALAR, empty: EMPTY, thin: THIN }).map(([name, { dtype, shape }]) => [
          name,
          { dtype, shape },
        ]),
      ),
    );
    expect({ ...metadata }).toEqual({ format: 'pt' });
  });

  it('reads any tensor whole', async () => {
    const file = await opened();
    for (const [name, tensor] of Object.entries(TENSORS)) expect(await file.read(name)).toEqual(tensor);
  });

  it('reads any rows as the same part of the whole', async () => {
    const file = await opened();
    const rows = fc.constantFrom(...Object.keys(TENSORS)).chain((name) => {
      const most = TENSORS[name]?.shape[0] as number;
      return fc
        .tuple(fc.nat(most), fc.nat(most))
        .map((ends) => ({ name, from: Math.min(...ends), to: Math.max(...ends) }));
    });
    await fc.assert(
      fc.asyncProperty(rows, async ({ name, from, to }) => {
        expect(await file.read(name, [from, to])).toEqual(slice(TENSORS[name] as SafeTensor, from, to));
      }),
    );
  });

  it('reads a scalar', async () => {
    expect(await (await opened()).read('scalar')).toEqual(SCALAR);
  });

  it('reads tensors without elements, whole and in rows', async () => {
    const file = await opened();
    expect(await file.read('empty')).toEqual(EMPTY);
    expect(await file.read('empty', [0, 0])).toEqual(EMPTY);
    expect(await file.read('thin')).toEqual(THIN);
    expect(await file.read('thin', [1, 3])).toEqual({ ...THIN, shape: [2, 0] });
  });

  it('reads many at the same time', async () => {
    const file = await opened();
    const names = Object.keys(TENSORS);
    expect(await Promise.all(names.map((name) => file.read(name)))).toEqual(names.map((name) => TENSORS[name]));
  });

  it('gives memory of its own each time', async () => {
    const file = await opened();
    const { data } = await file.read('i8');
    data.fill(0 as never);
    expect(await file.read('i8')).toEqual(TENSORS.i8);
  });

  it('reads nothing any more once it is closed', async () => {
    const file = await opened();
    await file.close();
    await expect(file.read('f32')).rejects.toThrow();
  });

  it('says that a file ended early which was cut off after it was opened', async () => {
    const name = await written();
    const file = await opened(name);
    await truncate(name, (await readFile(name)).length - 1);
    await expectRejection(
      file.read('i8').then(() => file.read('u8')),
      'NOT_READABLE',
    );
  });

  it('refuses what is no safetensors file, and a missing one', async () => {
    const name = path.join(await temporaryFolder(), 'file');
    await expectRejection(SafetensorsFile.open(name), 'NOT_FOUND');
    await expectRejection(SafetensorsFile.open(path.dirname(name)), 'NOT_READABLE');
    await writeFile(name, 'no safetensors file');
    await expectRejection(SafetensorsFile.open(name), 'SAFETENSORS_INVALID');
  });
});
