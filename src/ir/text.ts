import { createHash } from 'node:crypto';
import { fromHalf } from '../numerics/half.js';
import type { Attribute } from './attribute.js';
import type { Dim, FunctionDefinition, Graph, Model, Node, OperatorSet, Value } from './graph.js';
import { type DerivedForm, Tensor } from './tensor.js';

/**
 * A model as text, one fact a line and one node a line, in the model's own order: `diff -u` of two dumps shows what a pass did and nothing
 * else. Everything the IR holds is in it, or its hash; of weights in external files, where they lie.
 *
 * ```
 * ir 10
 * opset 20
 * metadata wanq.version = "0.1.0"
 * graph main
 * input x: float32[N, 4]
 * output y: float32[N, 2]
 * initializer w: float32[4, 2] external model.onnx_data @4096
 * initializer axes: int64[1] = -1
 * value p: float32[N, 2]
 * p = MatMul(x, w) "MatMul_0"
 * y = com.microsoft.BiasGelu(p, b) <wanq:quantized: "blocks.0.ffn.up", 3 long #1f0c66a5be27>
 * ```
 *
 * A tensor shows its values up to eight, else the beginning of the SHA-256 of its bytes. An input or output that a node leaves out is `_`. In
 * `<>` stand the notes of a node's metadata, long ones as one hash. A name is quoted where it holds more than letters, digits and `_ . : / -`;
 * what could upset a terminal is escaped, and what is very long is cut and ends in its hash.
 *
 * @returns lines without a line feed at the end
 */
export function graphText(model: Model): string {
  const lines = [`ir ${model.irVersion}`, ...opsetLines(model.opsets)];
  if (model.producer !== '') lines.push(`producer ${quoted(model.producer)}`);
  for (const [key, value] of model.metadata) lines.push(`metadata ${nameText(key)} = ${quoted(value)}`);
  lines.push(...graphLines(model.graph), ...model.functions.flatMap(functionLines));
  return lines.join('\n');
}

function opsetLines(opsets: readonly OperatorSet[]): string[] {
  return opsets.map(({ domain, version }) => `opset ${domain === '' ? '' : `${nameText(domain)} `}${version}`);
}

function graphLines(graph: Graph): string[] {
  return [
    `graph ${nameText(graph.name)}`,
    ...graph.inputs.map((value) => `input ${valueText(value)}`),
    ...graph.outputs.map((value) => `output ${valueText(value)}`),
    ...[...graph.initializers.values()].map((tensor) => `initializer ${nameText(tensor.name)}: ${tensorText(tensor)}`),
    ...graph.valueInfo.map((value) => `value ${valueText(value)}`),
    ...graph.nodes.flatMap(nodeLines),
  ];
}

function functionLines({
  domain,
  name,
  overload,
  inputs,
  outputs,
  defaults,
  nodes,
  opsets,
}: FunctionDefinition): string[] {
  const signature = `${namesText(outputs)} = ${operatorText(domain, name, overload)}(${namesText(inputs)})`;
  return [
    `function ${signature}${attributesText(defaults)}`,
    ...indent([...opsetLines(opsets), ...nodes.flatMap(nodeLines)]),
  ];
}

function nodeLines(node: Node): string[] {
  const { domain, opType, overload, inputs, outputs, attributes, metadata, name } = node;
  const notes = notesText(metadata);
  const line = [
    `${namesText(outputs)} = ${operatorText(domain, opType, overload)}(${namesText(inputs)})${attributesText(attributes)}`,
    ...(name === '' ? [] : [quoted(name)]),
    ...(notes === '' ? [] : [`<${notes}>`]),
  ].join(' ');
  return [line, ...attributes.flatMap(subgraphLines)];
}

/** Characters of a note that is shown; exporters leave kilobytes on a node (module paths, the traced call). */
const SHOWN_NOTE = 40;

function notesText(metadata: ReadonlyMap<string, string>): string {
  const notes = [...metadata];
  const long = notes.filter(([, value]) => value.length > SHOWN_NOTE);
  const shown = notes.filter(([, value]) => value.length <= SHOWN_NOTE);
  const texts = shown.map(([key, value]) => `${nameText(key)}: ${quoted(value)}`);
  if (long.length > 0) texts.push(`${long.length} long ${hashOf(...long.flat().map((text) => Buffer.from(text)))}`);
  return texts.join(', ');
}

function subgraphLines({ name, ...attribute }: Attribute): string[] {
  const graphs = attribute.type === 'graph' ? [attribute.value] : attribute.type === 'graphs' ? attribute.value : [];
  return graphs.flatMap((graph) => indent([`${nameText(name)}:`, ...indent(graphLines(graph))]));
}

function indent(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${line}`);
}

function operatorText(domain: string, opType: string, overload: string): string {
  return `${domain === '' ? '' : `${nameText(domain)}.`}${nameText(opType)}${overload === '' ? '' : `:${nameText(overload)}`}`;
}

function namesText(names: readonly string[]): string {
  return names.map((name) => (name === '' ? '_' : nameText(name))).join(', ');
}

function valueText({ name, dtype, dims }: Value): string {
  const shape = dims === null ? '...' : dims.map(dimText).join(', ');
  return `${nameText(name)}: ${dtype ?? '?'}[${shape}]`;
}

function dimText(dim: Dim): string {
  if (dim === null) return '?';
  if (typeof dim === 'number') return String(dim);
  return /^\d+$/.test(dim) ? quoted(dim) : nameText(dim);
}

function attributesText(attributes: readonly Attribute[]): string {
  return attributes.length === 0
    ? ''
    : ` {${attributes.map((attribute) => `${nameText(attribute.name)}: ${attributeText(attribute)}`).join(', ')}}`;
}

function attributeText(attribute: Attribute): string {
  switch (attribute.type) {
    case 'float':
      return floatText(attribute.value);
    case 'int':
      return String(attribute.value);
    case 'string':
      return textOf(attribute.value);
    case 'tensor':
      return tensorText(attribute.value);
    case 'floats':
      return `[${attribute.value.map(floatText).join(', ')}]`;
    case 'ints':
      return `[${attribute.value.join(', ')}]`;
    case 'strings':
      return `[${attribute.value.map(textOf).join(', ')}]`;
    case 'graph':
      return 'graph';
    case 'graphs':
      return `${attribute.value.length} graphs`;
    case 'reference':
      return `@${nameText(attribute.to)}`;
    case 'opaque':
      return 'opaque';
  }
}

/** Values of a tensor shown one by one; there are no more in a scale, an axes list or the shape of a Reshape. */
const SHOWN = 8;

function tensorText(tensor: Tensor): string {
  const { dtype, dims, data, elements } = tensor;
  const type = `${dtype}[${dims.join(', ')}]`;
  switch (data.kind) {
    case 'bytes': {
      const values = elements <= SHOWN ? shownValues(tensor, data.bytes) : undefined;
      return values === undefined
        ? `${type} inline ${data.bytes.byteLength} bytes ${hashOf(data.bytes)}`
        : `${type} = ${values.join(', ')}`;
    }
    case 'strings':
      return elements <= SHOWN
        ? `${type} = ${data.strings.map(textOf).join(', ')}`
        : `${type} inline ${elements} texts ${hashOf(...data.strings)}`;
    case 'external':
      return `${type} external ${nameText(data.location)} @${data.offset}`;
    case 'derived':
      return `${type} derived ${formText(data.form)} from ${nameText(data.source.name)}: ${tensorText(data.source)}`;
  }
}

/** Every field of a form but its kind, so that a form that gets another field shows it. */
function formText({ as, ...fields }: DerivedForm): string {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  const shown = given.map(([key, value]) => `${key}: ${plainText(value)}`);
  return shown.length === 0 ? as : `${as} (${shown.join(', ')})`;
}

function plainText(value: unknown): string {
  if (value instanceof Tensor) return `${nameText(value.name)}: ${tensorText(value)}`;
  if (Array.isArray(value)) return `[${value.map(plainText).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return String(value);
  return `{${Object.entries(value)
    .map(([key, field]) => `${key}: ${plainText(field)}`)
    .join(', ')}}`;
}

/** @returns undefined for types that have no plain number to show */
function shownValues({ dtype, elements }: Tensor, bytes: Uint8Array): string[] | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const all = (size: number, read: (at: number) => string): string[] =>
    Array.from({ length: elements }, (_, i) => read(i * size));
  switch (dtype) {
    case 'float32':
      return all(4, (at) => floatText(view.getFloat32(at, true)));
    case 'float64':
      return all(8, (at) => numberText(view.getFloat64(at, true)));
    case 'float16':
      return all(2, (at) => numberText(fromHalf(view.getUint16(at, true))));
    case 'int64':
      return all(8, (at) => String(view.getBigInt64(at, true)));
    case 'uint64':
      return all(8, (at) => String(view.getBigUint64(at, true)));
    case 'int32':
      return all(4, (at) => String(view.getInt32(at, true)));
    case 'uint32':
      return all(4, (at) => String(view.getUint32(at, true)));
    case 'int16':
      return all(2, (at) => String(view.getInt16(at, true)));
    case 'uint16':
      return all(2, (at) => String(view.getUint16(at, true)));
    case 'int8':
      return all(1, (at) => String(view.getInt8(at)));
    case 'uint8':
      return all(1, (at) => String(view.getUint8(at)));
    case 'bool':
      return all(1, (at) => String(view.getUint8(at) !== 0));
    default:
      return undefined;
  }
}

/** With a point or an exponent, which tells it from an integer. */
function numberText(value: number): string {
  const text = Object.is(value, -0) ? '-0' : String(value);
  return /^-?\d+$/.test(text) ? `${text}.0` : text;
}

/** The shortest decimal that is this float32 and no other. */
function floatText(value: number): string {
  if (value === 0) return numberText(value);
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return numberText(short);
  }
  return numberText(value);
}

/** The beginning of the SHA-256; of several, of their lengths too. */
function hashOf(...parts: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const part of parts) {
    if (parts.length > 1) hash.update(`${part.byteLength} `);
    hash.update(part);
  }
  return `#${hash.digest('hex').slice(0, 12)}`;
}

const PLAIN = /^[\w.:/-]+$/;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** `_` alone stands for a value that is left out. */
function nameText(name: string): string {
  return PLAIN.test(name) && name !== '_' && name.length <= LONGEST ? name : quoted(name);
}

function textOf(bytes: Uint8Array): string {
  try {
    return quoted(utf8.decode(bytes));
  } catch {
    return `${bytes.byteLength} bytes ${hashOf(bytes)}`;
  }
}

/** Characters of one text that are shown, as for `printable`. */
const LONGEST = 300;

/** What moves a terminal's cursor, breaks a line, or turns or hides text. */
const UNPRINTABLE = /["\\\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

function quoted(text: string): string {
  const cut = text.length > LONGEST ? `${text.slice(0, LONGEST)}` : text;
  const escaped = cut.replace(UNPRINTABLE, escapeOf);
  return cut === text ? `"${escaped}"` : `"${escaped}…" ${text.length} characters ${hashOf(Buffer.from(text))}`;
}

function escapeOf(character: string): string {
  if (character === '"' || character === '\\') return `\\${character}`;
  return character === '\n' ? '\\n' : `\\u{${(character.codePointAt(0) as number).toString(16)}}`;
}
