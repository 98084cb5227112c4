import type { Attribute } from './attribute.js';
import type { DataTypeName } from './dtype.js';
import type { Tensor } from './tensor.js';

/** Whether a domain is that of ONNX's own operators, which goes by two names. */
export function isDefaultDomain(domain: string): boolean {
  return domain === '' || domain === 'ai.onnx';
}

/** A dimension of a value: a number, a symbol, or unknown. */
export type Dim = number | string | null;

/** A typed graph input, output or intermediate value. Immutable. */
export interface Value {
  readonly name: string;
  /** null where the type is not a dense tensor or not stated. */
  readonly dtype: DataTypeName | null;
  /** null where even the rank is unknown. */
  readonly dims: readonly Dim[] | null;
}

export interface NodeFields {
  opType: string;
  domain?: string;
  name?: string;
  /** Which of several functions of one name a node calls. */
  overload?: string;
  inputs: string[];
  outputs: string[];
  attributes?: Attribute[];
  /** `metadata_props`: what the exporter says of the node's origin. */
  metadata?: Map<string, string>;
}

/** One operator call. Inputs and outputs are value names; an empty input name is an omitted optional input. */
export class Node {
  opType: string;
  domain: string;
  name: string;
  readonly overload: string;
  inputs: string[];
  outputs: string[];
  attributes: Attribute[];
  metadata: Map<string, string>;

  constructor(fields: NodeFields) {
    this.opType = fields.opType;
    this.domain = fields.domain ?? '';
    this.name = fields.name ?? '';
    this.overload = fields.overload ?? '';
    this.inputs = fields.inputs;
    this.outputs = fields.outputs;
    this.attributes = fields.attributes ?? [];
    this.metadata = fields.metadata ?? new Map();
  }

  /** Whether the operator is one of ONNX's own. */
  get isOnnx(): boolean {
    return isDefaultDomain(this.domain);
  }

  /** The operator with its domain, which ONNX's own go without. */
  get operator(): string {
    return this.isOnnx ? this.opType : `${this.domain}.${this.opType}`;
  }

  attribute(name: string): Attribute | undefined {
    return this.attributes.find((attribute) => attribute.name === name);
  }

  /** @returns an integer attribute, or `fallback` where it is absent (ONNX defaults differ per operator). */
  intAttribute(name: string, fallback: number): number {
    const attribute = this.attribute(name);
    return attribute?.type === 'int' ? Number(attribute.value) : fallback;
  }

  /** @returns a float attribute, or `fallback` where it is absent. */
  floatAttribute(name: string, fallback: number): number {
    const attribute = this.attribute(name);
    return attribute?.type === 'float' ? attribute.value : fallback;
  }
}

/** A graph. Nodes stand in topological order, as ONNX demands. */
export class Graph {
  name: string;
  nodes: Node[];
  initializers: Map<string, Tensor>;
  inputs: Value[];
  outputs: Value[];
  /** Types of intermediate values, where the exporter stated them. */
  valueInfo: Value[];

  constructor(fields: {
    name: string;
    nodes: Node[];
    initializers: Iterable<Tensor>;
    inputs: Value[];
    outputs: Value[];
    valueInfo?: Value[];
  }) {
    this.name = fields.name;
    this.nodes = fields.nodes;
    this.initializers = new Map([...fields.initializers].map((tensor) => [tensor.name, tensor]));
    this.inputs = fields.inputs;
    this.outputs = fields.outputs;
    this.valueInfo = fields.valueInfo ?? [];
  }

  /** Bytes of all initializers. */
  get weightBytes(): number {
    let bytes = 0;
    for (const { byteLength } of this.initializers.values()) bytes += byteLength;
    return bytes;
  }

  addInitializer(tensor: Tensor): void {
    this.initializers.set(tensor.name, tensor);
  }
}

export interface OperatorSet {
  readonly domain: string;
  readonly version: number;
}

/** A function of the model's own, which nodes call by its name as an operator. */
export interface FunctionDefinition {
  readonly domain: string;
  readonly name: string;
  readonly overload: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Attributes it has where the calling node gives none. */
  readonly defaults: readonly Attribute[];
  readonly nodes: readonly Node[];
  readonly opsets: readonly OperatorSet[];
}

/** A model: a graph, the operator sets it is written in, and free-form metadata. */
export class Model {
  irVersion: number;
  opsets: OperatorSet[];
  producer: string;
  graph: Graph;
  /** Model-local functions; they may be dropped and not changed. */
  functions: readonly FunctionDefinition[];
  /** `metadata_props` of the model. */
  metadata: Map<string, string>;

  constructor(fields: {
    irVersion: number;
    opsets: OperatorSet[];
    producer?: string;
    graph: Graph;
    functions?: readonly FunctionDefinition[];
    metadata?: Map<string, string>;
  }) {
    this.irVersion = fields.irVersion;
    this.opsets = fields.opsets;
    this.producer = fields.producer ?? '';
    this.graph = fields.graph;
    this.functions = fields.functions ?? [];
    this.metadata = fields.metadata ?? new Map();
  }

  /** Version of the default ONNX operator set, 0 where it is not imported. */
  get opset(): number {
    return this.opsets.find(({ domain }) => isDefaultDomain(domain))?.version ?? 0;
  }
}
