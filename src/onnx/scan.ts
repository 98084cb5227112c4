import { type ErrorCode, WanqError } from '../errors.js';
import {
  MAX_ATTRIBUTE_VALUES,
  MAX_ATTRIBUTES,
  MAX_EXTERNAL_ENTRIES,
  MAX_FUNCTIONS,
  MAX_GRAPH_VALUES,
  MAX_INITIALIZERS,
  MAX_METADATA_ENTRIES,
  MAX_MODEL_FIELDS,
  MAX_NAME_BYTES,
  MAX_NODE_VALUES,
  MAX_NODES,
  MAX_OPSETS,
  MAX_RANK,
  MAX_TEXT_BYTES,
  MAX_TYPED_ELEMENTS,
  MAX_VALUE_INFOS,
} from '../limits.js';

/** Messages that are decoded. */
export type ScannedMessage =
  | 'ModelProto'
  | 'FunctionProto'
  | 'GraphProto'
  | 'NodeProto'
  | 'AttributeProto'
  | 'TensorProto'
  | 'SparseTensorProto'
  | 'ValueInfoProto'
  | 'TypeProto'
  | 'TensorTypeProto'
  | 'TensorShapeProto'
  | 'DimensionProto'
  | 'StringStringEntryProto'
  | 'OperatorSetIdProto';

/** What one field of a message may be. */
interface Rule {
  readonly what: string;
  /** Most occurrences; of a packed field, most numbers in it. */
  readonly most?: number;
  /** Most bytes of one occurrence. */
  readonly bytes?: number;
  /** Message that the field holds, where it is decoded along with the one around it. */
  readonly message?: ScannedMessage;
  /** Bytes of a number where several may stand in one occurrence; 0: variable. */
  readonly packed?: 0 | 4 | 8;
  readonly code?: ErrorCode;
}

const name = (what = 'name'): Rule => ({ what, bytes: MAX_NAME_BYTES });
const names = (what: string, most: number): Rule => ({ what, most, bytes: MAX_NAME_BYTES });
const docString: Rule = { what: 'doc string', bytes: MAX_TEXT_BYTES };
const metadata: Rule = { what: 'metadata entries', most: MAX_METADATA_ENTRIES, message: 'StringStringEntryProto' };
const opsets: Rule = { what: 'operator sets', most: MAX_OPSETS, message: 'OperatorSetIdProto' };
const once = (what: string): Rule => ({ what, most: 1 });
const numbers = (packed: 0 | 4 | 8): Rule => ({ what: 'numbers', most: MAX_TYPED_ELEMENTS, packed });

/** Rules by field number, for every message that is decoded; a field without one counts only towards the model's fields. */
const RULES: Readonly<Record<ScannedMessage, Readonly<Record<number, Rule>>>> = {
  ModelProto: {
    2: name('producer name'),
    3: name('producer version'),
    4: name('domain'),
    6: docString,
    // protobuf puts two together as if they were one, and wanq would read only the last.
    7: once('graphs'),
    8: opsets,
    14: metadata,
    25: { what: 'functions', most: MAX_FUNCTIONS },
  },
  FunctionProto: {
    1: name(),
    4: names('inputs', MAX_NODE_VALUES),
    5: names('outputs', MAX_NODE_VALUES),
    6: names('attributes', MAX_ATTRIBUTES),
    7: { what: 'nodes', most: MAX_NODES },
    8: docString,
    9: opsets,
    10: name('domain'),
    11: { what: 'attributes', most: MAX_ATTRIBUTES },
    13: name('overload'),
    14: metadata,
  },
  GraphProto: {
    1: { what: 'nodes', most: MAX_NODES },
    2: name(),
    5: { what: 'initializers', most: MAX_INITIALIZERS },
    10: docString,
    11: { what: 'inputs', most: MAX_GRAPH_VALUES },
    12: { what: 'outputs', most: MAX_GRAPH_VALUES },
    13: { what: 'value infos', most: MAX_VALUE_INFOS },
    14: { what: 'quantization annotations', most: MAX_INITIALIZERS },
    15: { what: 'sparse initializers', most: MAX_INITIALIZERS },
    16: metadata,
  },
  NodeProto: {
    1: names('inputs', MAX_NODE_VALUES),
    2: names('outputs', MAX_NODE_VALUES),
    3: name(),
    4: name('operator'),
    5: { what: 'attributes', most: MAX_ATTRIBUTES },
    6: docString,
    7: name('domain'),
    8: name('overload'),
    9: metadata,
  },
  AttributeProto: {
    1: name(),
    // As two graphs of a model.
    5: once('tensors'),
    6: once('graphs'),
    7: { what: 'numbers', most: MAX_ATTRIBUTE_VALUES, packed: 4 },
    8: { what: 'numbers', most: MAX_ATTRIBUTE_VALUES, packed: 0 },
    9: { what: 'texts', most: MAX_ATTRIBUTE_VALUES },
    10: { what: 'tensors', most: MAX_ATTRIBUTE_VALUES },
    11: { what: 'graphs', most: MAX_ATTRIBUTE_VALUES },
    13: docString,
    21: name('reference'),
    22: once('sparse tensors'),
    23: { what: 'sparse tensors', most: MAX_ATTRIBUTE_VALUES },
  },
  TensorProto: {
    1: { what: 'dimensions', most: MAX_RANK, packed: 0 },
    4: numbers(4),
    5: numbers(0),
    6: { what: 'texts', most: MAX_TYPED_ELEMENTS },
    7: numbers(0),
    8: name(),
    9: once('raw data fields'),
    10: numbers(8),
    11: numbers(0),
    12: docString,
    13: {
      what: 'external data entries',
      most: MAX_EXTERNAL_ENTRIES,
      message: 'StringStringEntryProto',
      code: 'EXTERNAL_DATA_INVALID',
    },
    16: metadata,
  },
  SparseTensorProto: { 1: once('values'), 2: once('indices'), 3: { what: 'dimensions', most: MAX_RANK, packed: 0 } },
  ValueInfoProto: { 1: name(), 2: { what: 'types', most: 1, message: 'TypeProto' }, 3: docString, 4: metadata },
  TypeProto: { 1: { what: 'tensor types', most: 1, message: 'TensorTypeProto' }, 6: name('denotation') },
  TensorTypeProto: { 2: { what: 'shapes', most: 1, message: 'TensorShapeProto' } },
  TensorShapeProto: { 1: { what: 'dimensions', most: MAX_RANK, message: 'DimensionProto' } },
  DimensionProto: { 2: name(), 3: name('denotation') },
  StringStringEntryProto: { 1: name('key'), 2: { what: 'text', bytes: MAX_TEXT_BYTES } },
  OperatorSetIdProto: { 1: name('domain') },
};

/** Field numbers above belong to no message of ONNX. */
const FIELDS = 32;

/** Rules as the walk reads them, for each field number: plain numbers, and the rule itself for the few fields that need more. */
class Table {
  readonly most = new Float64Array(FIELDS).fill(Number.POSITIVE_INFINITY);
  readonly bytes = new Float64Array(FIELDS).fill(Number.POSITIVE_INFINITY);
  readonly deeper: (Rule | undefined)[] = new Array(FIELDS).fill(undefined);
  readonly rules: Readonly<Record<number, Rule>>;

  constructor(rules: Readonly<Record<number, Rule>>) {
    this.rules = rules;
    for (const [key, rule] of Object.entries(rules)) {
      const id = Number(key);
      this.most[id] = rule.most ?? Number.POSITIVE_INFINITY;
      this.bytes[id] = rule.bytes ?? Number.POSITIVE_INFINITY;
      if (rule.message !== undefined || rule.packed !== undefined) this.deeper[id] = rule;
    }
  }
}

const TABLES = new Map(Object.entries(RULES).map(([message, rules]) => [message, new Table(rules)]));

/** Counters for each level of messages in one another: `ValueInfoProto` is the deepest, with five. */
const COUNTERS = Array.from({ length: 6 }, () => new Uint32Array(FIELDS));

/** What one model may hold in all its messages together. */
export class ModelBudget {
  #fields = MAX_MODEL_FIELDS;
  #nodes = MAX_NODES;

  /** @throws WanqError MODEL_INVALID */
  takeNodes(count: number): void {
    this.#nodes -= count;
    if (this.#nodes < 0) throw new WanqError('MODEL_INVALID', `the model has more than ${MAX_NODES} nodes`);
  }

  /**
   * Walks the fields of a message before it is decoded, which allocates for each: counts and lengths are compared where they stand.
   *
   * @param where names the message in the error
   * @throws WanqError MODEL_INVALID where the message is damaged or holds too much, EXTERNAL_DATA_INVALID where it is of external data
   */
  scan(message: ScannedMessage, bytes: Uint8Array, where: string): void {
    this.#walk(message, bytes, 0, bytes.length, where, 0);
  }

  #walk(message: ScannedMessage, bytes: Uint8Array, from: number, end: number, where: string, level: number): void {
    const table = TABLES.get(message) as Table;
    const counts = COUNTERS[level] as Uint32Array;
    counts.fill(0);
    let at = from;
    while (at < end) {
      if (--this.#fields < 0) {
        throw new WanqError('MODEL_INVALID', `the model has more than ${MAX_MODEL_FIELDS} fields`);
      }
      const first = bytes[at++] as number;
      const type = first & 7;
      let id = first >>> 3;
      if (first >= 0x80) {
        id &= 15;
        for (let scale = 2 ** 4; ; scale *= 2 ** 7) {
          const byte = bytes[at++] as number;
          id += (byte & 0x7f) * scale;
          if (byte < 0x80) break;
          if (scale > 2 ** 24) throw damaged(where);
        }
      }
      const known = id < FIELDS;
      let count = 1;
      if (type === 2) {
        let length = bytes[at++] as number;
        if (length >= 0x80) {
          length &= 0x7f;
          for (let scale = 2 ** 7; ; scale *= 2 ** 7) {
            const byte = bytes[at++] as number;
            length += (byte & 0x7f) * scale;
            if (byte < 0x80) break;
            if (scale > 2 ** 27) throw damaged(where);
          }
        }
        const next = at + length;
        if (!(next <= end)) throw damaged(where);
        if (known) {
          const most = table.bytes[id] as number;
          if (length > most) {
            const rule = table.rules[id] as Rule;
            throw tooMuch(rule, `${where} has a ${rule.what} of ${length} bytes, more than ${most}`);
          }
          const deeper = table.deeper[id];
          if (deeper?.packed !== undefined) count = countPacked(bytes, at, next, deeper.packed);
          else if (deeper?.message !== undefined) this.#walk(deeper.message, bytes, at, next, where, level + 1);
        }
        at = next;
      } else if (type === 0) {
        const last = at + 9;
        while ((bytes[at++] as number) >= 0x80) if (at > last) throw damaged(where);
      } else if (type === 1) at += 8;
      else if (type === 5) at += 4;
      // Groups, which ONNX has none of, and types that protobuf has not.
      else throw damaged(where);
      if (!(at <= end) || id === 0) throw damaged(where);
      if (!known) continue;
      const total = (counts[id] as number) + count;
      counts[id] = total;
      const most = table.most[id] as number;
      if (total > most) {
        const rule = table.rules[id] as Rule;
        throw tooMuch(rule, `${where} has more than ${most} ${rule.what}`);
      }
    }
  }
}

function countPacked(bytes: Uint8Array, from: number, end: number, width: 0 | 4 | 8): number {
  if (width > 0) return Math.ceil((end - from) / width);
  let count = 0;
  for (let i = from; i < end; i++) if ((bytes[i] as number) < 0x80) count++;
  return count;
}

function damaged(where: string): WanqError {
  return new WanqError('MODEL_INVALID', `${where} is not valid ONNX protobuf`);
}

function tooMuch({ code }: Rule, why: string): WanqError {
  return new WanqError(code ?? 'MODEL_INVALID', why);
}
