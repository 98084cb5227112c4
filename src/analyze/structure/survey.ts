import type { Graph, Node } from '../../ir/graph.js';
import type { GraphIndex } from '../../ir/traverse.js';
import type { Linear } from '../linears.js';
import type { Attention } from './attention.js';
import { DataFlow, type Reach } from './flow.js';

/** What findLinears knows of a linear before it has a role. */
export type UnnamedLinear = Pick<
  Linear,
  'node' | 'kind' | 'activation' | 'output' | 'weight' | 'inFeatures' | 'outFeatures'
>;

/** The linears and attentions of a graph and how data flows between them. */
export class Survey {
  readonly graph: Graph;
  readonly index: GraphIndex;
  readonly linears: readonly UnnamedLinear[];
  readonly attentions: readonly Attention[];
  readonly #flow: DataFlow;
  readonly #bits: ReadonlyMap<Node, bigint>;
  readonly #linearOfBit: ReadonlyMap<bigint, UnnamedLinear>;
  readonly #byNear = new Map<bigint, UnnamedLinear[]>();

  constructor(graph: Graph, index: GraphIndex, linears: readonly UnnamedLinear[], attentions: readonly Attention[]) {
    this.graph = graph;
    this.index = index;
    this.linears = linears;
    this.attentions = attentions;
    const sources = [
      ...linears.map(({ node, activation }) => ({ node, reads: [activation] })),
      ...this.attentions.map(({ node }) => ({ node, reads: node.inputs })),
    ];
    this.#flow = new DataFlow(graph, sources);
    this.#bits = new Map(sources.map(({ node }, i) => [node, 1n << BigInt(i)]));
    this.#linearOfBit = new Map(linears.map((linear) => [this.bitOf(linear.node), linear]));
    for (const linear of linears) {
      const { near } = this.of(linear.activation);
      const group = this.#byNear.get(near);
      if (group) group.push(linear);
      else this.#byNear.set(near, [linear]);
    }
  }

  /** What reaches a value; see {@link Reach}. */
  of(value: string): Reach {
    return this.#flow.of(value);
  }

  /** The member of `near` sets that a linear's or an attention's node is. */
  bitOf(node: Node): bigint {
    return this.#bits.get(node) ?? 0n;
  }

  /** The linear that alone makes a value, through whatever else. */
  makerOf(value: string): UnnamedLinear | undefined {
    return this.#linearOfBit.get(this.of(value).near);
  }

  /** Linears whose activation nothing but these sources reaches nearest. */
  readersOf(near: bigint): readonly UnnamedLinear[] {
    return this.#byNear.get(near) ?? [];
  }

  /** The linear that reads a linear's result and nothing else, where there is just one. */
  successorOf({ node }: UnnamedLinear): UnnamedLinear | undefined {
    const readers = this.readersOf(this.bitOf(node));
    return readers.length === 1 ? readers[0] : undefined;
  }

  /** The graph inputs of a set. */
  inputsOf(bits: bigint): Graph['inputs'] {
    return this.graph.inputs.filter(({ name }) => (this.of(name).inputs & bits) !== 0n);
  }
}
