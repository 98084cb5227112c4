import { encodeMessage, type Message } from '../../../src/onnx/schema.js';
import { text } from '../../unit/onnx/wire.js';
import { type End, type HostileCase, lettered, type Row } from '../lib/case.js';
import { ALL, dryRun, inspect } from '../lib/commands.js';
import { inline, messageOf } from '../lib/models.js';
import { bytesField, joined, numberField, repeated, varint } from '../lib/wire.js';

type Made = Omit<HostileCase, 'id'>;

/** The pipeline with one tensor more, which nobody reads. */
function tensor(what: string, bytes: () => Uint8Array, expected: readonly End[] = ['MODEL_INVALID']): Made {
  return {
    what,
    input: messageOf(inline, (graph) => {
      (graph.initializer as Uint8Array[]).push(bytes());
    }),
    commands: expected.includes('ok') ? [inspect, dryRun] : ALL,
    expected,
    control: inline,
  };
}

const dims = (what: string, of: readonly (bigint | number)[], data = 8, expected?: readonly End[]): Made =>
  tensor(
    `dimensions ${what}`,
    () =>
      joined(
        Buffer.concat(of.map((dim) => numberField(1, dim))),
        numberField(2, 1),
        bytesField(8, 'extra'),
        bytesField(9, new Uint8Array(data)),
      ),
    expected,
  );

/** The pipeline with an input of the graph whose dimension is odd. */
function inputDim(what: string, dim: bigint, expected: readonly End[]): Made {
  const value = (): Uint8Array => {
    const shape = bytesField(1, numberField(1, dim));
    const type = bytesField(1, joined(numberField(1, 1), bytesField(2, shape)));
    return joined(bytesField(1, 'extra'), bytesField(2, type));
  };
  return {
    what: `a value of ${what}`,
    input: messageOf(inline, (graph) => {
      graph.valueInfo = [...((graph.valueInfo as Uint8Array[] | undefined) ?? []), value()];
    }),
    commands: [inspect, dryRun],
    expected,
    control: inline,
  };
}

const DIMS: readonly Made[] = [
  dims('[-1]', [-1n]),
  dims('[-2, -1]', [-2n, -1n]),
  dims('[2^63 - 1]', [2n ** 63n - 1n]),
  dims('[-2^63]', [-(2n ** 63n)]),
  dims('[2^32, 2^32], whose product is 0 in 64 bits', [2n ** 32n, 2n ** 32n]),
  dims('[2^31, 2^31, 4, 1]', [2n ** 31n, 2n ** 31n, 4n, 1n]),
  dims('[2^53 + 1]', [2n ** 53n + 1n]),
  dims('[2^61 + 2], 8 bytes in 64 bits', [2n ** 61n + 2n]),
  dims('[0] with data', [0]),
  dims('[0, 2^62]', [0, 2n ** 62n], 0),
  dims('[0, 4] without data', [0, 4], 0, ['ok']),
  dims(
    'of 33 ones',
    Array.from({ length: 33 }, () => 1),
    4,
  ),
  dims(
    'of a million ones',
    Array.from({ length: 1_000_000 }, () => 1),
    4,
  ),
  tensor('dimensions of a million ones, packed', () =>
    joined(
      bytesField(1, repeated(1_000_000, varint(1))),
      numberField(2, 1),
      bytesField(8, 'extra'),
      bytesField(9, new Uint8Array(4)),
    ),
  ),
  dims('[16000000000] without data', [16_000_000_000], 0),
  inputDim('dimension -1, as exporters write', -1n, ['ok']),
  inputDim('dimension 2^62', 2n ** 62n, ['MODEL_INVALID']),
  inputDim('dimension -2^63', -(2n ** 63n), ['ok', 'MODEL_INVALID']),
];

const FLOATS = { name: 'extra', dataType: 1, dims: [2] };
const of = (fields: Message) => (): Uint8Array => encodeMessage('TensorProto', { ...FLOATS, ...fields });
const raw = (length: number): Uint8Array => new Uint8Array(length);

const DATA: readonly Made[] = [
  tensor('raw data too short', of({ rawData: raw(7) })),
  tensor('raw data too long', of({ rawData: raw(9) })),
  tensor('no data', of({})),
  tensor('empty raw data', of({ rawData: raw(0) })),
  tensor('raw data and floats', of({ rawData: raw(8), floatData: [1, 2] })),
  tensor('floats and integers', of({ floatData: [1, 2], int32Data: [1, 2] })),
  tensor('too few floats', of({ floatData: [1] })),
  tensor('too many floats', of({ floatData: [1, 2, 3] })),
  tensor('floats in the field of integers', of({ int32Data: [1, 2] })),
  tensor('element type 99', of({ dataType: 99, rawData: raw(8) })),
  tensor('element type -1', of({ dataType: -1, rawData: raw(8) })),
  tensor('element type 0', of({ dataType: 0, rawData: raw(8) })),
  tensor('no element type', () => joined(numberField(1, 2), bytesField(8, 'extra'), bytesField(9, raw(8)))),
  tensor('texts as raw data', of({ dataType: 8, rawData: raw(8) })),
  tensor('too few texts', of({ dataType: 8, stringData: [text('a')] })),
  tensor('texts', of({ dataType: 8, stringData: [text('a'), text('b')] }), ['ok']),
  tensor('3 INT4 in one byte', of({ dataType: 22, dims: [3], rawData: raw(1) })),
  tensor('3 INT4 in two bytes', of({ dataType: 22, dims: [3], rawData: raw(2) }), ['ok']),
  tensor('3 INT4 in three bytes', of({ dataType: 22, dims: [3], rawData: raw(3) })),
  tensor('INT8 that are 300', of({ dataType: 3, int32Data: [300, -300] }), ['ok', 'MODEL_INVALID']),
  tensor('raw data twice', () => joined(of({ rawData: raw(8) })(), bytesField(9, raw(8)))),
  tensor('a data file and raw data', of({ rawData: raw(8), dataLocation: 1 })),
  tensor('data in a place of number 7', of({ rawData: raw(8), dataLocation: 7 }), ['ok', 'MODEL_INVALID']),
  {
    ...tensor('an attribute that hides a data file in a list of tensors', () => raw(0)),
    input: messageOf(inline, (graph) => {
      const location = { key: 'location', value: '../../../outside/secret' };
      const hidden = encodeMessage('TensorProto', { ...FLOATS, dataLocation: 1, externalData: [location] });
      const attribute = joined(bytesField(1, 'hidden'), bytesField(10, hidden), numberField(20, 9));
      (graph.node as Uint8Array[]).push(nodeBytes('Hidden', attribute));
    }),
    expected: ['EXTERNAL_DATA_INVALID'],
  },
  {
    ...tensor('a sparse tensor whose values lie in a data file', () => raw(0)),
    input: messageOf(inline, (graph) => {
      const location = { key: 'location', value: '../../../outside/secret' };
      const values = encodeMessage('TensorProto', { ...FLOATS, dataLocation: 1, externalData: [location] });
      graph.sparseInitializer = [joined(bytesField(1, values), numberField(3, 4))];
    }),
    expected: ['EXTERNAL_DATA_INVALID'],
  },
];

function nodeBytes(opType: string, ...attributes: Uint8Array[]): Uint8Array {
  return joined(bytesField(2, 'extra'), bytesField(4, opType), ...attributes.map((one) => bytesField(5, one)));
}

export const TENSOR_ROWS: readonly Row[] = [...lettered(9, DIMS), ...lettered(10, DATA)];
