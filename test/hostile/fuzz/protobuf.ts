import { hostileText, interestingFloat, interestingInteger, joined, mutateBytes, spliced, withFloat } from './bytes.js';
import type { Random } from './random.js';

/** What a length-delimited field holds; `text` and `raw` end the walk. */
type Kind = 'text' | 'raw' | 'varints' | 'fixed32' | MessageKind;
type MessageKind = keyof typeof MESSAGES;

/** Fields of ONNX's messages that hold something with a form of its own. Numbers are those of `onnx.proto`. */
const MESSAGES = {
  model: { 2: 'text', 7: 'graph', 8: 'opset', 14: 'entry', 25: 'function' },
  function: {
    1: 'text',
    4: 'text',
    5: 'text',
    6: 'text',
    7: 'node',
    9: 'opset',
    10: 'text',
    11: 'attribute',
    13: 'text',
  },
  opset: { 1: 'text' },
  entry: { 1: 'text', 2: 'text' },
  graph: {
    1: 'node',
    2: 'text',
    5: 'tensor',
    11: 'value',
    12: 'value',
    13: 'value',
    14: 'raw',
    15: 'raw',
    16: 'entry',
  },
  node: { 1: 'text', 2: 'text', 3: 'text', 4: 'text', 5: 'attribute', 7: 'text', 8: 'text', 9: 'entry' },
  attribute: {
    1: 'text',
    4: 'text',
    5: 'tensor',
    6: 'graph',
    7: 'fixed32',
    8: 'varints',
    9: 'text',
    10: 'tensor',
    11: 'graph',
    21: 'text',
  },
  tensor: {
    1: 'varints',
    4: 'fixed32',
    5: 'varints',
    6: 'text',
    7: 'varints',
    8: 'text',
    9: 'raw',
    10: 'raw',
    11: 'varints',
    13: 'entry',
  },
  value: { 1: 'text', 2: 'type' },
  type: { 1: 'tensorType' },
  tensorType: { 2: 'shape' },
  shape: { 1: 'dim' },
  dim: { 2: 'text' },
} as const satisfies Record<string, Record<number, string>>;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

interface Field {
  readonly number: number;
  readonly wire: number;
  /** Of the tag, of what follows it (after a length), and of the end. */
  readonly start: number;
  readonly content: number;
  readonly end: number;
}

/** What else a field may be set to: parts of the model itself make references dangle, and things come twice. */
export interface Parts {
  /** Names of values, nodes and operators. */
  readonly names: readonly string[];
}

function readVarint(bytes: Uint8Array, at: number): { value: number; end: number } | undefined {
  let value = 0;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return { value, end: at + i + 1 };
  }
  return undefined;
}

/** @returns undefined where the bytes are no message */
export function fieldsOf(bytes: Uint8Array): Field[] | undefined {
  const fields: Field[] = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = readVarint(bytes, at);
    if (!tag || tag.value < 8) return undefined;
    const [number, wire] = [Math.floor(tag.value / 8), tag.value % 8];
    let content = tag.end;
    let end: number;
    if (wire === BYTES || wire === VARINT) {
      const read = readVarint(bytes, content);
      if (!read) return undefined;
      if (wire === BYTES) content = read.end;
      end = wire === BYTES ? content + read.value : read.end;
    } else if (wire === FIXED32 || wire === FIXED64) end = content + (wire === FIXED32 ? 4 : 8);
    else return undefined;
    if (end > bytes.length) return undefined;
    fields.push({ number, wire, start: at, content, end });
    at = end;
  }
  return fields;
}

function varint(value: bigint): Uint8Array {
  const out: number[] = [];
  let left = BigInt.asUintN(64, value);
  for (; left >= 0x80n; left >>= 7n) out.push(Number(left & 0x7fn) | 0x80);
  out.push(Number(left));
  return Uint8Array.from(out);
}

export function field(number: number, content: Uint8Array | bigint): Uint8Array {
  const wire = typeof content === 'bigint' ? VARINT : BYTES;
  const tag = varint(BigInt(8 * number + wire));
  if (typeof content === 'bigint') return joined(tag, varint(content));
  return joined(tag, varint(BigInt(content.length)), content);
}

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

function kindOf(message: MessageKind, number: number): Kind | undefined {
  return (MESSAGES[message] as Record<number, Kind>)[number];
}

function isMessage(kind: Kind | undefined): kind is MessageKind {
  return kind !== undefined && Object.hasOwn(MESSAGES, kind);
}

/** Copies of copies are no longer small. */
const MOST_BYTES = 16e6;

/** Changes a model here and there, each change in one message of it, whose fields it leaves well-formed for the most part. */
export function mutateModel(bytes: Uint8Array, random: Random, parts: Parts): Uint8Array {
  let out = bytes;
  const changes = random.chance(0.05) ? 10 + random.below(40) : random.few(6);
  for (let left = changes; left > 0 && out.length < MOST_BYTES; left--)
    out = mutateMessage(out, 'model', random, parts);
  return out;
}

/** Of any encoded field, so that a rare one is changed as often as one of which there are thousands. */
function choose(fields: readonly Field[], random: Random): Field {
  const numbers = [...new Set(fields.map(({ number }) => number))];
  const number = random.pick(numbers);
  return random.pick(fields.filter((one) => one.number === number));
}

/** How often a walk goes on into a message that it meets: changes deep inside are the many that are possible. */
const DEEPER = 0.85;

function mutateMessage(bytes: Uint8Array, kind: MessageKind, random: Random, parts: Parts): Uint8Array {
  const fields = fieldsOf(bytes);
  if (!fields || fields.length === 0) return mutateBytes(bytes, random, bytes);
  const inside = fields.filter((one) => one.wire === BYTES && isMessage(kindOf(kind, one.number)));
  const into = inside.length > 0 && random.chance(DEEPER) ? choose(inside, random) : undefined;
  if (into) {
    // Notes of a node change nothing that is looked at.
    const again = kindOf(kind, into.number) === 'entry' ? choose(inside, random) : into;
    const made = mutateMessage(
      bytes.subarray(again.content, again.end),
      kindOf(kind, again.number) as MessageKind,
      random,
      parts,
    );
    return spliced(bytes, again.start, again.end, field(again.number, made));
  }
  return random.pick(FIELD_MUTATORS)({ bytes, fields, kind, random, parts });
}

interface Place {
  readonly bytes: Uint8Array;
  readonly fields: readonly Field[];
  readonly kind: MessageKind;
  readonly random: Random;
  readonly parts: Parts;
}

/** What is set most: a field's content. */
function changeContent({ bytes, fields, kind, random, parts }: Place): Uint8Array {
  const one = choose(fields, random);
  const set = (content: Uint8Array | bigint): Uint8Array =>
    spliced(bytes, one.start, one.end, field(one.number, content));
  if (one.wire === VARINT) return set(interestingInteger(random));
  const content = bytes.subarray(one.content, one.end);
  if (one.wire !== BYTES) return spliced(bytes, one.content, one.end, withFloat(content, random));
  switch (kindOf(kind, one.number)) {
    case 'text':
      return set(changeText(content, random, parts));
    case 'varints':
      return set(joined(...Array.from({ length: random.below(6) }, () => varint(interestingInteger(random)))));
    case 'fixed32':
      return set(withFloat(content, random));
    case 'raw':
      return set(random.chance(0.6) ? withFloat(content, random) : mutateBytes(content, random, content));
    default:
      return set(mutateBytes(content, random, content));
  }
}

function changeText(content: Uint8Array, random: Random, { names }: Parts): Uint8Array {
  if (names.length > 0 && random.chance(0.6)) return utf8(random.pick(names));
  return random.chance(0.5) ? utf8(hostileText(random)) : mutateBytes(content, random, content);
}

type FieldMutator = (place: Place) => Uint8Array;

const FIELD_MUTATORS: readonly FieldMutator[] = [
  changeContent,
  changeContent,
  changeContent,
  changeContent,
  function remove({ bytes, fields, random }) {
    const { start, end } = choose(fields, random);
    return spliced(bytes, start, end, new Uint8Array());
  },
  function duplicate({ bytes, fields, random }) {
    const { start, end } = choose(fields, random);
    const times = random.chance(0.05) ? 1000 : 1;
    const copies = Array.from({ length: Math.min(times, Math.ceil(2e6 / (end - start))) }, () =>
      bytes.subarray(start, end),
    );
    return spliced(bytes, end, end, joined(...copies));
  },
  /** One instead of another of the same number: the same node twice, an initializer for an input's type. */
  function substitute({ bytes, fields, random }) {
    const one = choose(fields, random);
    const other = random.pick(fields.filter(({ number }) => number === one.number));
    return spliced(bytes, one.start, one.end, bytes.subarray(other.start, other.end));
  },
  function move({ bytes, fields, random }) {
    const one = choose(fields, random);
    const to = random.pick(fields);
    const moved = bytes.subarray(one.start, one.end);
    return to.start >= one.end
      ? joined(bytes.subarray(0, one.start), bytes.subarray(one.end, to.start), moved, bytes.subarray(to.start))
      : joined(
          bytes.subarray(0, Math.min(to.start, one.start)),
          moved,
          bytes.subarray(Math.min(to.start, one.start), one.start),
          bytes.subarray(one.end),
        );
  },
  function renumber({ bytes, fields, random }) {
    const one = random.pick(fields);
    const wire = random.chance(0.5) ? one.wire : random.pick([0, 1, 2, 3, 4, 5, 6, 7]);
    const number = random.chance(0.5) ? one.number : 1 + random.below(30);
    const from = tagEnd(bytes, one);
    return spliced(bytes, one.start, from, varint(BigInt(8 * number + wire)));
  },
  function relength({ bytes, fields, random }) {
    const delimited = fields.filter(({ wire }) => wire === BYTES);
    if (delimited.length === 0) return bytes;
    const one = random.pick(delimited);
    const length = random.chance(0.5)
      ? BigInt(one.end - one.content + random.below(5) - 2)
      : interestingInteger(random);
    return spliced(bytes, tagEnd(bytes, one), one.content, varint(length));
  },
  function addUnknown({ bytes, random }) {
    const number = random.pick([3, 26, 99, 1000, 536_870_911]);
    const content = random.chance(0.5) ? interestingInteger(random) : utf8(hostileText(random));
    return joined(bytes, field(number, content));
  },
  function addField({ bytes, kind, random, parts }) {
    const number = Number(random.pick([...Object.keys(MESSAGES[kind]), '1', '2', '3', '14', '20']));
    const content =
      kindOf(kind, number) === undefined ? interestingInteger(random) : changeText(new Uint8Array(), random, parts);
    return joined(bytes, field(number, content));
  },
  function addFloats({ bytes, random }) {
    const data = new Uint8Array(4);
    new DataView(data.buffer).setUint32(0, interestingFloat(random), true);
    return joined(bytes, field(random.pick([4, 7, 9]), data));
  },
  /** Subgraphs in subgraphs, of the message itself where it is a graph or a node. */
  function nest({ bytes, kind, random }) {
    if (kind !== 'node' && kind !== 'graph') return bytes;
    const own = bytes.length < 20_000 ? bytes : new Uint8Array();
    let graph = kind === 'graph' ? own : field(1, own);
    const depth = random.chance(0.1) ? 1000 : random.below(40);
    for (let i = 0; i < depth; i++) graph = field(1, subgraphNode(graph));
    return kind === 'node' ? joined(bytes, field(5, graphAttribute(graph))) : joined(bytes, graph);
  },
];

function graphAttribute(graph: Uint8Array): Uint8Array {
  return joined(field(1, utf8('then_branch')), field(20, 5n), field(6, graph));
}

function subgraphNode(graph: Uint8Array): Uint8Array {
  return joined(field(4, utf8('If')), field(2, utf8('out')), field(5, graphAttribute(graph)));
}

function tagEnd(bytes: Uint8Array, { start }: Field): number {
  return readVarint(bytes, start)?.end ?? start + 1;
}
