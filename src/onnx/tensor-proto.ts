import { printable, WanqError } from '../errors.js';
import { byteSize, DataType, dataTypeName } from '../ir/dtype.js';
import { asBytes, Tensor, type TensorData } from '../ir/tensor.js';
import { MAX_RANK, MAX_TENSOR_BYTES, MAX_TENSOR_ELEMENTS } from '../limits.js';
import { locationFault } from './location.js';
import type { ModelBudget } from './scan.js';
import { bytesIn, decode, EXTERNAL, encodeMessage, type Message } from './schema.js';

/** The encoded form a tensor was read from, so that an untouched one is written back as it was. */
const origins = new WeakMap<Tensor, Uint8Array>();

const EXTERNAL_KEYS = new Set(['location', 'offset', 'length', 'checksum', 'basepath']);

/** @throws WanqError MODEL_INVALID, MODEL_UNSUPPORTED, EXTERNAL_DATA_INVALID */
export function decodeTensor(bytes: Uint8Array, budget: ModelBudget): Tensor {
  const proto = decode('TensorProto', bytes, 'a tensor', budget);
  const name: string = proto.name ?? '';
  const where = `tensor "${printable(name)}"`;
  const dtype = dataTypeName(proto.dataType ?? 0);
  if (dtype === undefined || dtype === 'undefined') {
    throw new WanqError('MODEL_INVALID', `${where} has the unknown element type ${proto.dataType ?? 0}`);
  }
  const dims = decodeDims(proto.dims ?? [], where);
  const elements = dims.reduce((product, dim) => product * dim, 1);
  const tensor = new Tensor(name, dtype, dims, decodeData(proto, dtype, elements, where));
  origins.set(tensor, bytes);
  return tensor;
}

/** Whether the bytes of an encoded tensor lie in a data file. */
export function isExternal(bytes: Uint8Array, budget: ModelBudget): boolean {
  return decode('TensorProto', bytes, 'a tensor', budget).dataLocation === EXTERNAL;
}

function decodeDims(dims: readonly Message[], where: string): number[] {
  if (dims.length > MAX_RANK) throw new WanqError('MODEL_INVALID', `${where} has ${dims.length} dimensions`);
  let product = 1;
  return dims.map((dim) => {
    // Past 2^53 this rounds, and stays past every bound.
    const value = Number(dim);
    // A zero must not make the others harmless.
    product *= Math.max(value, 1);
    if (!(value >= 0 && product <= MAX_TENSOR_ELEMENTS)) {
      throw new WanqError('MODEL_INVALID', `${where} has impossible dimensions [${dims.map(String).join(', ')}]`);
    }
    return value;
  });
}

function decodeData(proto: Message, dtype: Tensor['dtype'], elements: number, where: string): TensorData {
  const fields = ['floatData', 'int32Data', 'int64Data', 'doubleData', 'uint64Data', 'stringData'];
  const typed = fields.filter((field) => proto[field]?.length > 0);
  const external = proto.dataLocation === EXTERNAL;
  const places = typed.length + (Object.hasOwn(proto, 'rawData') ? 1 : 0) + (external ? 1 : 0);
  if (places > 1) throw new WanqError('MODEL_INVALID', `${where} carries its data twice`);
  if (dtype === 'string') {
    const strings: Uint8Array[] = proto.stringData ?? [];
    if (strings.length === elements) return { kind: 'strings', strings };
    throw new WanqError('MODEL_INVALID', `${where} holds ${strings.length} texts where its shape needs ${elements}`);
  }
  const expected = byteSize(dtype, elements) ?? 0;
  if (expected > MAX_TENSOR_BYTES) {
    throw new WanqError('MODEL_INVALID', `${where} has ${expected} bytes, more than ${MAX_TENSOR_BYTES}`);
  }
  if (external) return decodeExternal(proto.externalData ?? [], expected, where);
  const bytes: Uint8Array = typed.length > 0 ? packTyped(proto, dtype, where) : bytesIn(proto, 'rawData');
  if (bytes.byteLength !== expected) {
    throw new WanqError('MODEL_INVALID', `${where} holds ${bytes.byteLength} bytes where its shape needs ${expected}`);
  }
  return { kind: 'bytes', bytes };
}

function decodeExternal(entries: readonly Message[], expected: number, where: string): TensorData {
  const values = new Map<string, string>();
  for (const { key, value } of entries as { key?: string; value?: string }[]) {
    if (!EXTERNAL_KEYS.has(key ?? '') || values.has(key ?? '')) {
      throw new WanqError('EXTERNAL_DATA_INVALID', `${where} has an unknown or repeated external data key`);
    }
    values.set(key ?? '', value ?? '');
  }
  const location = values.get('location') ?? '';
  const offset = decimal(values.get('offset') ?? '0');
  const length = decimal(values.get('length') ?? String(expected));
  if (location === '' || offset === undefined || length !== expected) {
    throw new WanqError(
      'EXTERNAL_DATA_INVALID',
      `${where} has no usable external data entry (location, offset and a length of ${expected} bytes are needed)`,
    );
  }
  const fault = locationFault(location);
  if (fault !== undefined) {
    throw new WanqError('EXTERNAL_DATA_INVALID', `${where}: data file "${printable(location)}" ${fault}`);
  }
  return { kind: 'external', location, offset, length };
}

function decimal(text: string): number | undefined {
  if (!/^\d{1,16}$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** Brings the typed data fields into raw form. Small integer and half types travel in `int32Data`, one element each. */
function packTyped(proto: Message, dtype: Tensor['dtype'], where: string): Uint8Array {
  const int32: readonly number[] = proto.int32Data ?? [];
  switch (dtype) {
    case 'float32':
      return asBytes(Float32Array.from(proto.floatData ?? []));
    case 'float64':
      return asBytes(Float64Array.from(proto.doubleData ?? []));
    case 'int64':
      return asBytes(BigInt64Array.from(proto.int64Data ?? [], (value) => BigInt(String(value))));
    case 'uint64':
      return asBytes(BigUint64Array.from(proto.uint64Data ?? [], (value) => BigInt(String(value))));
    case 'uint32':
      return asBytes(Uint32Array.from(proto.uint64Data ?? [], Number));
    case 'int32':
      return asBytes(Int32Array.from(int32));
    case 'int16':
      return asBytes(Int16Array.from(int32));
    case 'uint16':
    case 'float16':
    case 'bfloat16':
      return asBytes(Uint16Array.from(int32));
    case 'int8':
      return asBytes(Int8Array.from(int32));
    case 'uint8':
    case 'bool':
      return asBytes(Uint8Array.from(int32));
    default:
      throw new WanqError('MODEL_UNSUPPORTED', `${where} stores ${dtype} in typed fields, which wanq does not read`);
  }
}

/** @param bytes inline data of a derived tensor, computed beforehand */
export function encodeTensor(tensor: Tensor, bytes?: Uint8Array): Uint8Array {
  const origin = origins.get(tensor);
  if (origin && tensor.data.kind !== 'derived') return origin;
  const proto: Message = { dims: [...tensor.dims], dataType: DataType[tensor.dtype], name: tensor.name };
  const { data } = tensor;
  if (data.kind === 'external') {
    proto.dataLocation = EXTERNAL;
    proto.externalData = [
      { key: 'location', value: data.location },
      { key: 'offset', value: String(data.offset) },
      { key: 'length', value: String(data.length) },
    ];
  } else if (data.kind === 'strings') {
    proto.stringData = data.strings;
  } else {
    const raw = data.kind === 'bytes' ? data.bytes : bytes;
    if (raw === undefined) throw new Error(`derived tensor ${tensor.name} was not computed before encoding`);
    proto.rawData = raw;
  }
  return encodeMessage('TensorProto', proto);
}
