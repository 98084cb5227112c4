import { readFile, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_RANK, MAX_SAFETENSORS_HEADER_BYTES, MAX_SAFETENSORS_NAME_LENGTH } from '../../../src/limits.js';
import { readSafetensors, type SafeTensor, writeSafetensors } from '../../../src/util/safetensors.js';
import { expectRejection } from '../helpers/errors.js';
import { temporaryFolder } from '../helpers/temporary.js';

const TENSORS: [string, SafeTensor][] = [
  ['f64', { dtype: 'F64', shape: [2], data: Float64Array.of(Math.PI, -0) }],
  ['f32', { dtype: 'F32', shape: [1, 3], data: Float32Array.of(1, Number.NaN, Number.NEGATIVE_INFINITY) }],
  ['f16', { dtype: 'F16', shape: [1], data: Uint16Array.of(0x3c00) }],
  ['bf16', { dtype: 'BF16', shape: [1], data: Uint16Array.of(0x3f80) }],
  ['i64', { dtype: 'I64', shape: [2], data: BigInt64Array.of(-1n, 2n ** 62n) }],
  ['i32', { dtype: 'I32', shape: [1], data: Int32Array.of(-5) }],
  ['u32', { dtype: 'U32', shape: [1], data: Uint32Array.of(2 ** 32 - 1) }],
  ['u8', { dtype: 'U8', shape: [3], data: Uint8Array.of(1, 2, 3) }],
  ['i8', { dtype: 'I8', shape: [1], data: Int8Array.of(-128) }],
  ['scalar', { dtype: 'F32', shape: [], data: Float32Array.of(7) }],
  ['empty', { dtype: 'F32', shape: [0, 4], data: new Float32Array(0) }],
  ['2', { dtype: 'U8', shape: [1], data: Uint8Array.of(9) }],
  ['10', { dtype: 'U8', shape: [1], data: Uint8Array.of(8) }],
];

async function target(): Promise<string> {
  return path.join(await temporaryFolder(), 'file.safetensors');
}

/** A file with this header, given as text or as an object, and data. */
async function fileWith(header: unknown, data: number[] = [], length?: bigint): Promise<string> {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, length ?? BigInt(json.length), true);
  const file = await target();
  await writeFile(file, Uint8Array.of(...prefix, ...json, ...data));
  return file;
}

const entry = (begin: number, end: number, changes: object = {}): object => ({
  dtype: 'U8',
  shape: [end - begin],
  data_offsets: [begin, end],
  ...changes,
});

describe('safetensors', () => {
  it('come back as they were written', async () => {
    const file = await target();
    const metadata = { b: 'été', a: '' };
    await writeSafetensors(file, { tensors: new Map(TENSORS), metadata });
    const read = await readSafetensors(file);
    expect(Object.fromEntries(read.tensors)).toEqual(Object.fromEntries(TENSORS));
    expect({ ...read.metadata }).toEqual(metadata);
  });

  it('are read in part where only some are wanted', async () => {
    const file = await target();
    await writeSafetensors(file, { tensors: new Map(TENSORS), metadata: { k: 'v' } });
    const read = await readSafetensors(file, (name) => name.startsWith('f'));
    const wanted = TENSORS.filter(([name]) => name.startsWith('f'));
    expect(Object.fromEntries(read.tensors)).toEqual(Object.fromEntries(wanted));
    expect({ ...read.metadata }).toEqual({ k: 'v' });
    expect((await readSafetensors(file, () => false)).tensors.size).toBe(0);
  });

  it('have the layout of the format: length, JSON, data without holes, every tensor aligned', async () => {
    const file = await target();
    await writeSafetensors(file, { tensors: new Map(TENSORS), metadata: { k: 'v' } });
    const bytes = await readFile(file);
    const length = Number(bytes.readBigUInt64LE(0));
    const { __metadata__, ...header } = JSON.parse(bytes.subarray(8, 8 + length).toString());
    expect(__metadata__).toEqual({ k: 'v' });
    expect((8 + length) % 8).toBe(0);
    let end = 0;
    const entries = Object.entries(header as Record<string, { data_offsets: [number, number] }>);
    for (const [name, { data_offsets: offsets }] of entries.sort(
      ([, a], [, b]) => a.data_offsets[1] - b.data_offsets[1],
    )) {
      const { data } = new Map(TENSORS).get(name) as SafeTensor;
      expect(offsets[0] % data.BYTES_PER_ELEMENT).toBe(0);
      expect(offsets[1] - offsets[0]).toBe(data.byteLength);
      end = Math.max(end, offsets[1]);
    }
    expect(end).toBe(TENSORS.reduce((sum, [, { data }]) => sum + data.byteLength, 0));
    expect(bytes.length).toBe(8 + length + end);
  });

  it('are the same bytes in whatever order tensors and metadata were given', async () => {
    const written = async (tensors: [string, SafeTensor][], metadata: Record<string, string>): Promise<Buffer> => {
      const file = await target();
      await writeSafetensors(file, { tensors: new Map(tensors), metadata });
      return readFile(file);
    };
    const expected = await written(TENSORS, { a: '1', b: '2' });
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(TENSORS, { minLength: TENSORS.length }), async (tensors) => {
        expect((await written(tensors, { b: '2', a: '1' })).equals(expected)).toBe(true);
      }),
      { numRuns: 10 },
    );
  });

  it('read data that is a view into a larger buffer', async () => {
    const file = await target();
    const view = Float32Array.of(0, 1, 2, 3).subarray(1, 3);
    await writeSafetensors(file, { tensors: new Map([['v', { dtype: 'F32', shape: [2], data: view }]]), metadata: {} });
    expect((await readSafetensors(file)).tensors.get('v')?.data).toEqual(Float32Array.of(1, 2));
  });

  it('may have empty tensors at the beginning of another, between two and at the end', async () => {
    const none = (at: number): object => entry(at, at, { shape: [0] });
    const file = await fileWith(
      { a: none(0), b: entry(0, 1), c: none(1), d: none(1), e: entry(1, 2), f: none(2) },
      [7, 8],
    );
    const { tensors } = await readSafetensors(file);
    expect([...tensors.keys()].sort()).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
    expect(tensors.get('e')?.data).toEqual(Uint8Array.of(8));
  });

  it('may have entries in any order, padding after the header, and no tensor at all', async () => {
    const file = await fileWith(`${JSON.stringify({ b: entry(1, 3), a: entry(0, 1) })}   `, [7, 8, 9]);
    const { tensors } = await readSafetensors(file);
    expect(tensors.get('a')?.data).toEqual(Uint8Array.of(7));
    expect(tensors.get('b')?.data).toEqual(Uint8Array.of(8, 9));
    expect((await readSafetensors(await fileWith({}))).tensors.size).toBe(0);
  });
});

describe('readSafetensors refuses', () => {
  it.each([0, 7])('a file of %i bytes', async (length) => {
    const file = await target();
    await writeFile(file, new Uint8Array(length));
    await expectRejection(readSafetensors(file), 'SAFETENSORS_INVALID');
  });

  it.each([3n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n])('a header of 2 bytes that claims %s', async (length) => {
    await expectRejection(readSafetensors(await fileWith('{}', [], length)), 'SAFETENSORS_INVALID');
  });

  it.each<[string, unknown, number[]]>([
    ['a header that is not JSON', '{"a":', []],
    ['a header that is not UTF-8', '', [0xff]],
    ['an empty header', '', []],
    ['a list as the header', '[]', []],
    ['null as the header', 'null', []],
    ['tensors that overlap', { a: entry(0, 2), b: entry(1, 3) }, [1, 2, 3]],
    ['tensors that share bytes', { a: entry(0, 2), b: entry(0, 2) }, [1, 2]],
    ['a hole before the first', { a: entry(1, 2) }, [1, 2]],
    ['a hole between two', { a: entry(0, 1), b: entry(2, 3) }, [1, 2, 3]],
    ['bytes after the last', { a: entry(0, 1) }, [1, 2]],
    ['too few bytes', { a: entry(0, 3) }, [1, 2]],
    ['a shape larger than its bytes', { a: entry(0, 2, { shape: [3] }) }, [1, 2]],
    ['a type wider than its bytes', { a: entry(0, 2, { dtype: 'F32' }) }, [1, 2]],
    ['a shape whose product overflows', { a: entry(0, 0, { shape: [2 ** 32, 2 ** 32] }) }, []],
    ['a negative dimension', { a: entry(0, 1, { shape: [-1] }) }, [1]],
    ['a fractional offset', { a: entry(0, 1, { data_offsets: [0, 1.5] }) }, [1, 2]],
    ['offsets in reverse', { a: entry(0, 1, { data_offsets: [1, 0] }) }, [1]],
    ['three offsets', { a: entry(0, 1, { data_offsets: [0, 1, 1] }) }, [1]],
    ['a type that has no text', { a: entry(0, 1, { dtype: { toString: 1, valueOf: 1 } }) }, [1]],
    ['a shape that is a number', { a: entry(0, 1, { shape: 1 }) }, [1]],
    ['an unknown type', { a: entry(0, 1, { dtype: 'U4' }) }, [1]],
    ['a type from the prototype', { a: entry(0, 1, { dtype: 'constructor' }) }, [1]],
    ['an entry that is a number', { a: 5 }, []],
    ['metadata that is a number', { __metadata__: { a: 1 } }, []],
    ['metadata that is an object', { __metadata__: { a: {} } }, []],
    ['metadata that is null', { __metadata__: { a: null } }, []],
    ['metadata that is a list', { __metadata__: ['a'] }, []],
    ['a space before the header', ' {}', []],
    ['a byte order mark before the header', '\ufeff{}', []],
    ['text behind the header', '{}x', []],
    ['a tensor twice', `{"a":${JSON.stringify(entry(0, 1))},"a":${JSON.stringify(entry(0, 1))}}`, [1]],
    ['a dtype twice', '{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', [1]],
    ['metadata twice', '{"__metadata__":{},"__metadata__":{}}', []],
    ['a tensor __proto__', `{"__proto__":${JSON.stringify(entry(0, 1))}}`, [1]],
    ['half a surrogate pair as a name', `{"\\ud800":${JSON.stringify(entry(0, 1))}}`, [1]],
    ['a name longer than any', { ['x'.repeat(MAX_SAFETENSORS_NAME_LENGTH + 1)]: entry(0, 1) }, [1]],
    ['a header nested without an end', `{"a":${'['.repeat(100_000)}`, []],
    ['more dimensions than any', { a: entry(0, 1, { shape: Array(MAX_RANK + 1).fill(1) }) }, [1]],
    ['a zero behind dimensions that overflow', { a: entry(0, 0, { shape: [2 ** 52, 2 ** 52, 0] }) }, []],
    ['a zero before dimensions that overflow', { a: entry(0, 0, { shape: [0, 2 ** 52, 2 ** 52] }) }, []],
    ['a dimension past 2^53', '{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,1]}}', [1]],
    ['a dimension of 1e400', '{"a":{"dtype":"U8","shape":[1e400],"data_offsets":[0,1]}}', [1]],
    ['an offset past 2^53', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[9007199254740992,9007199254740993]}}', [1]],
    ['an empty tensor within another', { a: entry(0, 2), b: entry(1, 1, { shape: [0] }) }, [1, 2]],
    ['an empty tensor past the end', { a: entry(0, 1), b: entry(2, 2, { shape: [0] }) }, [1]],
    ['an entry that is a list', { a: [] }, []],
  ])('%s', async (_, header, data) => {
    const length = header === '' ? BigInt(data.length) : undefined;
    await expectRejection(readSafetensors(await fileWith(header, data, length)), 'SAFETENSORS_INVALID');
  });

  it.each<[string, unknown]>([
    ['an entry that is null', { a: null }],
    ['metadata that is null', { __metadata__: null }],
    ['metadata that is text', { __metadata__: 'text' }],
  ])('%s', async (_, header) => {
    await expectRejection(readSafetensors(await fileWith(header)), 'SAFETENSORS_INVALID');
  });

  it('a header longer than any, without reading it', async () => {
    const file = await fileWith('{', [], BigInt(MAX_SAFETENSORS_HEADER_BYTES + 1));
    await truncate(file, MAX_SAFETENSORS_HEADER_BYTES + 100);
    await expect(readSafetensors(file)).rejects.toMatchObject({ message: expect.stringContaining('too long') });
  });

  it('an unknown type, whose name it prints without controls', async () => {
    const file = await fileWith({ a: entry(0, 1, { dtype: '\u001b[31m' }) }, [1]);
    await expect(readSafetensors(file)).rejects.toMatchObject({ message: expect.not.stringContaining('\u001b') });
  });

  it('a missing file', async () => {
    await expectRejection(readSafetensors('/nowhere.safetensors'), 'NOT_FOUND');
  });
});
