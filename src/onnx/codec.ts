import { WanqError } from '../errors.js';
import type { Attribute } from '../ir/attribute.js';
import { DataType, dataTypeName } from '../ir/dtype.js';
import { type Dim, type FunctionDefinition, Graph, Model, Node, type OperatorSet, type Value } from '../ir/graph.js';
import { MAX_GRAPH_DEPTH, MAX_TENSOR_ELEMENTS } from '../limits.js';
import { refuseEndlessFunctions } from './functions.js';
import { refuseRepeatedValues } from './names.js';
import { ModelBudget } from './scan.js';
import { AttributeType, bytesIn, decode, decodeMessage, encodeMessage, type Message } from './schema.js';
import { decodeTensor, encodeTensor, isExternal } from './tensor-proto.js';

/**
 * Between ONNX bytes and the IR. Lossless: every IR object remembers, here and nowhere else, the bytes it came from; if it was not
 * changed they are written back as they are, and if it was, the fields that the IR does not model are kept.
 */
const nodeOrigins = new WeakMap<Node, Uint8Array>();
const attributeOrigins = new WeakMap<Attribute, Uint8Array>();
const valueOrigins = new WeakMap<Value, Uint8Array>();
const functionOrigins = new WeakMap<FunctionDefinition, Uint8Array>();
const graphOrigins = new WeakMap<Graph, Message>();
const modelOrigins = new WeakMap<Model, Message>();

/**
 * @throws WanqError MODEL_INVALID where the bytes are no ONNX model. Parsing alone proves nothing (an empty file parses), so the
 * parts every model has are demanded.
 */
export function decodeModel(bytes: Uint8Array): Model {
  const budget = new ModelBudget();
  const proto = decode('ModelProto', bytes, 'the file', budget);
  // Absent fields read as their type's zero.
  if (!(Number(proto.irVersion) > 0) || !proto.graph?.length || !proto.opsetImport?.length) {
    throw new WanqError('MODEL_INVALID', 'the file is not an ONNX model (no IR version, graph or operator set)');
  }
  const graph = decodeGraph(proto.graph, 0, budget);
  if (graph.nodes.length === 0) throw new WanqError('MODEL_INVALID', 'the graph has no nodes');
  const model = new Model({
    irVersion: Number(proto.irVersion),
    opsets: toOpsets(proto.opsetImport),
    producer: [proto.producerName, proto.producerVersion].filter(Boolean).join(' '),
    graph,
    functions: (proto.functions ?? []).map((bytes: Uint8Array) => decodeFunction(bytes, budget)),
    metadata: toMap(proto.metadataProps),
  });
  refuseEndlessFunctions(model);
  modelOrigins.set(model, proto);
  return model;
}

function decodeFunction(bytes: Uint8Array, budget: ModelBudget): FunctionDefinition {
  const proto = decode('FunctionProto', bytes, 'a function', budget);
  budget.takeNodes(proto.node?.length ?? 0);
  const definition: FunctionDefinition = {
    domain: proto.domain ?? '',
    name: proto.name ?? '',
    overload: proto.overload ?? '',
    inputs: proto.input ?? [],
    outputs: proto.output ?? [],
    defaults: (proto.attributeProto ?? []).map((attribute: Uint8Array) => decodeAttribute(attribute, 0, budget)),
    nodes: (proto.node ?? []).map((node: Uint8Array) => decodeNode(node, 0, budget)),
    opsets: toOpsets(proto.opsetImport),
  };
  functionOrigins.set(definition, bytes);
  return definition;
}

function toMap(entries: readonly Message[] | undefined): Map<string, string> {
  const map = new Map<string, string>();
  for (const { key, value } of entries ?? []) map.set(key ?? '', value ?? '');
  return map;
}

function toOpsets(entries: readonly Message[] | undefined): OperatorSet[] {
  return (entries ?? []).map(({ domain, version }) => ({ domain: domain ?? '', version: Number(version ?? 0) }));
}

function toEntries(map: ReadonlyMap<string, string>): Message[] {
  return [...map].map(([key, value]) => ({ key, value }));
}

function decodeGraph(bytes: Uint8Array, depth: number, budget: ModelBudget): Graph {
  if (depth > MAX_GRAPH_DEPTH) {
    throw new WanqError('MODEL_INVALID', `subgraphs are nested more than ${MAX_GRAPH_DEPTH} deep`);
  }
  const proto = decode('GraphProto', bytes, 'the graph', budget);
  budget.takeNodes(proto.node?.length ?? 0);
  for (const sparse of proto.sparseInitializer ?? []) refuseExternalSparse(sparse, budget);
  const values = (of: readonly Uint8Array[] | undefined): Value[] =>
    (of ?? []).map((value) => decodeValue(value, budget));
  const graph = new Graph({
    name: proto.name ?? '',
    nodes: (proto.node ?? []).map((node: Uint8Array) => decodeNode(node, depth, budget)),
    initializers: (proto.initializer ?? []).map((tensor: Uint8Array) => decodeTensor(tensor, budget)),
    inputs: values(proto.input),
    outputs: values(proto.output),
    valueInfo: values(proto.valueInfo),
  });
  if (graph.initializers.size !== (proto.initializer?.length ?? 0)) {
    throw new WanqError('MODEL_INVALID', 'two initializers have the same name');
  }
  refuseRepeatedValues(graph);
  graphOrigins.set(graph, proto);
  return graph;
}

function decodeNode(bytes: Uint8Array, depth: number, budget: ModelBudget): Node {
  const proto = decode('NodeProto', bytes, 'a node', budget);
  const node = new Node({
    opType: proto.opType ?? '',
    domain: proto.domain ?? '',
    name: proto.name ?? '',
    overload: proto.overload ?? '',
    inputs: proto.input ?? [],
    outputs: proto.output ?? [],
    attributes: (proto.attribute ?? []).map((attribute: Uint8Array) => decodeAttribute(attribute, depth, budget)),
    metadata: toMap(proto.metadataProps),
  });
  nodeOrigins.set(node, bytes);
  return node;
}

function decodeAttribute(bytes: Uint8Array, depth: number, budget: ModelBudget): Attribute {
  const proto = decode('AttributeProto', bytes, 'an attribute', budget);
  const attribute = attributeOf(proto, depth, budget);
  attributeOrigins.set(attribute, bytes);
  return attribute;
}

function attributeOf(proto: Message, depth: number, budget: ModelBudget): Attribute {
  refuseHidden(proto, budget);
  const name: string = proto.name ?? '';
  if (proto.refAttrName) return { name, type: 'reference', to: proto.refAttrName };
  switch (proto.type) {
    case AttributeType.float:
      return { name, type: 'float', value: proto.f ?? 0 };
    case AttributeType.int:
      return { name, type: 'int', value: integer(proto.i ?? 0) };
    case AttributeType.string:
      return { name, type: 'string', value: bytesIn(proto, 's') };
    case AttributeType.tensor:
      return Object.hasOwn(proto, 't')
        ? { name, type: 'tensor', value: decodeTensor(proto.t, budget) }
        : { name, type: 'opaque' };
    case AttributeType.graph:
      return Object.hasOwn(proto, 'g')
        ? { name, type: 'graph', value: decodeGraph(proto.g, depth + 1, budget) }
        : { name, type: 'opaque' };
    case AttributeType.floats:
      return { name, type: 'floats', value: proto.floats ?? [] };
    case AttributeType.ints:
      return { name, type: 'ints', value: (proto.ints ?? []).map(integer) };
    case AttributeType.strings:
      return { name, type: 'strings', value: proto.strings ?? [] };
    case AttributeType.graphs:
      return {
        name,
        type: 'graphs',
        value: (proto.graphs ?? []).map((graph: Uint8Array) => decodeGraph(graph, depth + 1, budget)),
      };
    default:
      return { name, type: 'opaque' };
  }
}

/**
 * What wanq keeps without understanding it must not bring data files with it: onnxruntime might open them, and wanq would not have looked where they
 * are.
 *
 * @throws WanqError EXTERNAL_DATA_INVALID
 */
function refuseHidden(proto: Message, budget: ModelBudget): void {
  const { type, t, g, tensors, graphs, sparseTensor, sparseTensors } = proto;
  // Absent fields read as empty ones, which hide nothing.
  const hidden: Uint8Array[] = [...(tensors ?? []), ...(t?.length && type !== AttributeType.tensor ? [t] : [])];
  for (const tensor of hidden) if (isExternal(tensor, budget)) throw hiddenData('an attribute');
  for (const sparse of sparseTensors ?? []) refuseExternalSparse(sparse, budget);
  if (sparseTensor?.length) refuseExternalSparse(sparseTensor, budget);
  const hides = (g?.length && type !== AttributeType.graph) || (graphs?.length && type !== AttributeType.graphs);
  if (hides) throw new WanqError('MODEL_INVALID', 'an attribute holds a graph and says that it holds something else');
}

function refuseExternalSparse(bytes: Uint8Array, budget: ModelBudget): void {
  const { values, indices } = decode('SparseTensorProto', bytes, 'a sparse tensor', budget);
  for (const part of [values, indices]) {
    if (part?.length && isExternal(part, budget)) throw hiddenData('a sparse tensor');
  }
}

function hiddenData(where: string): WanqError {
  return new WanqError('EXTERNAL_DATA_INVALID', `${where} keeps a tensor in a data file, which wanq does not follow`);
}

function integer(value: number | Message): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : BigInt(String(value));
}

function decodeValue(bytes: Uint8Array, budget: ModelBudget): Value {
  const proto = decode('ValueInfoProto', bytes, 'a value', budget);
  const tensor = proto.type?.tensorType;
  const dims: Dim[] | null = tensor?.shape == null ? null : (tensor.shape.dim ?? []).map(decodeDim);
  const dtype = tensor?.elemType ? (dataTypeName(tensor.elemType) ?? null) : null;
  const value: Value = { name: proto.name ?? '', dtype, dims };
  valueOrigins.set(value, bytes);
  return value;
}

/** Exporters write -1 for a dimension they do not know. */
function decodeDim(dim: Message): Dim {
  if (!Object.hasOwn(dim, 'dimValue')) return dim.dimParam || null;
  const value = Number(dim.dimValue);
  if (value < 0) return null;
  if (value <= MAX_TENSOR_ELEMENTS) return value;
  throw new WanqError('MODEL_INVALID', `a value has the impossible dimension ${dim.dimValue}`);
}

/** @returns a model of another graph with everything else, functions and fields wanq does not know included, as in `model` */
export function withGraph(model: Model, graph: Graph): Model {
  const other = new Model({ ...model, opsets: [...model.opsets], metadata: new Map(model.metadata), graph });
  const origin = modelOrigins.get(model);
  if (origin) modelOrigins.set(other, origin);
  return other;
}

/** @returns the function with other defaults, and with its nodes as they are now, which otherwise are written as they were read */
export function withDefaults(definition: FunctionDefinition, defaults: readonly Attribute[]): FunctionDefinition {
  const proto = decodeMessage('FunctionProto', functionOrigins.get(definition) as Uint8Array);
  if (defaults.length > 0) proto.attributeProto = defaults.map(encodeAttribute);
  proto.node = definition.nodes.map(encodeNode);
  const other = { ...definition, defaults };
  functionOrigins.set(other, encodeMessage('FunctionProto', proto));
  return other;
}

/** @throws Error where a derived tensor or a function that was not read is left: `onnx/save` computes the former first. */
export function encodeModel(model: Model): Uint8Array {
  const proto: Message = { ...modelOrigins.get(model) };
  keepUnknown(modelOrigins.get(model), proto);
  proto.irVersion = model.irVersion;
  // Entries with fields left out stay as they are if nothing changed.
  const entriesOf = (opsets: readonly OperatorSet[]): unknown[] =>
    opsets.flatMap(({ domain, version }) => [domain, version]);
  if (!sameItems(entriesOf(model.opsets), entriesOf(toOpsets(proto.opsetImport)))) {
    proto.opsetImport = model.opsets.map(({ domain, version }) => ({ domain, version }));
  }
  if (!sameEntries(model.metadata, toMap(proto.metadataProps))) proto.metadataProps = toEntries(model.metadata);
  proto.graph = encodeGraph(model.graph);
  proto.functions = model.functions.map((definition) => functionOrigins.get(definition));
  if (!modelOrigins.has(model)) proto.producerName = model.producer;
  return encodeMessage('ModelProto', proto);
}

/** Unknown fields sit in a non-enumerable property, which a spread does not copy. */
function keepUnknown(from: Message | undefined, to: Message): void {
  if (from?.$unknowns) to.$unknowns = from.$unknowns;
}

function encodeGraph(graph: Graph): Uint8Array {
  const origin = graphOrigins.get(graph);
  const proto: Message = { ...origin };
  keepUnknown(origin, proto);
  if (origin === undefined || graph.name !== (origin.name ?? '')) proto.name = graph.name;
  proto.node = graph.nodes.map(encodeNode);
  proto.initializer = [...graph.initializers.values()].map((tensor) => encodeTensor(tensor));
  proto.input = graph.inputs.map(encodeValue);
  proto.output = graph.outputs.map(encodeValue);
  proto.valueInfo = graph.valueInfo.map(encodeValue);
  return encodeMessage('GraphProto', proto);
}

function encodeNode(node: Node): Uint8Array {
  const origin = nodeOrigins.get(node);
  const attributes = node.attributes.map(encodeAttribute);
  // What the node was is decoded again: a copy of every node would stay in memory for as long as the graph.
  const proto: Message = origin ? decodeMessage('NodeProto', origin) : {};
  const sameMetadata = sameEntries(node.metadata, toMap(proto.metadataProps));
  if (origin && sameMetadata && isUnchanged(node, attributes, proto)) return origin;
  proto.opType = node.opType;
  proto.input = node.inputs;
  proto.output = node.outputs;
  proto.attribute = attributes;
  if (node.name !== (proto.name ?? '')) proto.name = node.name;
  if (node.domain !== (proto.domain ?? '')) proto.domain = node.domain;
  if (node.overload !== (proto.overload ?? '')) proto.overload = node.overload;
  if (!sameMetadata) proto.metadataProps = toEntries(node.metadata);
  return encodeMessage('NodeProto', proto);
}

/** @param attributes the node's, encoded. Leaves metadata out. */
function isUnchanged(node: Node, attributes: readonly Uint8Array[], was: Message): boolean {
  const attributesWere: readonly Uint8Array[] = was.attribute ?? [];
  return (
    node.opType === (was.opType ?? '') &&
    node.domain === (was.domain ?? '') &&
    node.name === (was.name ?? '') &&
    sameItems(node.inputs, was.input ?? []) &&
    sameItems(node.outputs, was.output ?? []) &&
    attributes.length === attributesWere.length &&
    attributes.every((bytes, index) => Buffer.compare(bytes, attributesWere[index] as Uint8Array) === 0)
  );
}

function sameEntries(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  return sameItems([...a].flat(), [...b].flat());
}

function sameItems<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((item, index) => item === b[index]);
}

function encodeAttribute(attribute: Attribute): Uint8Array {
  const origin = attributeOrigins.get(attribute);
  if (attribute.type === 'graph' || attribute.type === 'graphs') {
    const proto: Message = origin ? decodeMessage('AttributeProto', origin) : { name: attribute.name };
    if (attribute.type === 'graph') proto.g = encodeGraph(attribute.value);
    else proto.graphs = attribute.value.map(encodeGraph);
    proto.type = AttributeType[attribute.type];
    return encodeMessage('AttributeProto', proto);
  }
  if (origin) return origin;
  if (attribute.type === 'opaque' || attribute.type === 'reference')
    throw new Error(`attribute ${attribute.name} has lost its bytes`);
  const proto: Message = { name: attribute.name, type: AttributeType[attribute.type] };
  switch (attribute.type) {
    case 'float':
      proto.f = attribute.value;
      break;
    case 'int':
      proto.i = wireInteger(attribute.value);
      break;
    case 'string':
      proto.s = attribute.value;
      break;
    case 'tensor':
      proto.t = encodeTensor(attribute.value);
      break;
    case 'floats':
      proto.floats = attribute.value;
      break;
    case 'ints':
      proto.ints = attribute.value.map(wireInteger);
      break;
    case 'strings':
      proto.strings = attribute.value;
      break;
  }
  return encodeMessage('AttributeProto', proto);
}

/** protobufjs takes 64-bit integers as numbers or as decimal text through Long. */
function wireInteger(value: number | bigint): number | Message {
  if (typeof value === 'number') return value;
  const bits = BigInt.asUintN(64, value);
  return { low: Number(BigInt.asIntN(32, bits)), high: Number(BigInt.asIntN(32, bits >> 32n)), unsigned: false };
}

function encodeValue(value: Value): Uint8Array {
  const origin = valueOrigins.get(value);
  if (origin) return origin;
  const shape = value.dims && {
    dim: value.dims.map((dim) => (typeof dim === 'number' ? { dimValue: dim } : dim === null ? {} : { dimParam: dim })),
  };
  const tensorType: Message = { elemType: value.dtype ? DataType[value.dtype] : 0 };
  if (shape) tensorType.shape = shape;
  return encodeMessage('ValueInfoProto', { name: value.name, type: { tensorType } });
}
