import { valueTypes } from '../analyze/value-types.js';
import { int } from '../ir/attribute.js';
import { DataType } from '../ir/dtype.js';
import { type Graph, Node } from '../ir/graph.js';
import { NameAuthority } from '../ir/names.js';
import { Tensor } from '../ir/tensor.js';
import { valuesRead } from '../ir/traverse.js';
import {
  type ComputeFloat16Options,
  FLOAT16_MARGIN,
  isCastTo,
  isOperand,
  OPERANDS,
  operands,
  Region,
  Surroundings,
} from './float16-region.js';
import { counted, type Pass } from './pass.js';

export { type ComputeFloat16Options, FLOAT16_MARGIN } from './float16-region.js';

/**
 * Computes products of a FP32 graph in FP16, for runtimes that have kernels for it (TensorRT, CUDA), and with them what stands between two of
 * them: biases, GELU as one operator, and what moves values about. All else stays FP32: modulation, norms, softmax, RoPE, the residual stream,
 * the timestep's embedding. Casts stand where values pass from one to the other, one for a value and direction; constants that FP16 nodes read
 * are stored so, beside the original where others read it.
 *
 * A product and its bias stay FP32 together where a value of theirs was seen that, {@link FLOAT16_MARGIN} times as large, is past FP16's largest
 * number, or where a constant is itself. Ranges carry over to what is only moved. Constants in external files are judged when the model is
 * saved, which then fails.
 *
 * Works on the outermost graph in topological order; subgraphs keep reading what they did.
 */
export function computeFloat16(options: ComputeFloat16Options): Pass {
  let chosen: ReadonlySet<Node> = new Set();
  return {
    name: 'compute-float16',
    description: 'computes products, and what stands between them, in FP16',
    run({ graph }) {
      const region = new Region(graph, options);
      options.overflow.push(...region.overflow);
      chosen = region.nodes;
      if (chosen.size === 0) return undefined;
      const { casts } = new Rewriter(graph, chosen);
      const products = counted(region.products, 'product');
      const others = counted(chosen.size - region.products, 'other node');
      return `${[products, others].filter(Boolean).join(' and ')} in FP16, ${counted(casts, 'cast') ?? 'no cast'} added`;
    },
    ensures({ graph }) {
      const types = valueTypes(graph);
      const mixed = [...chosen].find((node) =>
        [...operands(node), ...node.outputs].some((name) => name !== '' && types.get(name) !== 'float16'),
      );
      return mixed && `${mixed.opType} "${mixed.name}" is not of FP16 throughout`;
    },
  };
}

/** Gives the nodes of a region FP16 inputs, and everybody else what they had. */
class Rewriter {
  casts = 0;
  readonly #graph: Graph;
  readonly #around: Surroundings;
  readonly #region: ReadonlySet<Node>;
  readonly #names: NameAuthority;
  /** FP16 forms of float32 values. */
  readonly #halves = new Map<string, string>();
  /** Nodes to put behind the one that makes what they read; undefined: before all. */
  readonly #behind = new Map<Node | undefined, Node[]>();
  /** Casts that stand elsewhere now, or nowhere. */
  readonly #gone = new Set<Node>();
  readonly #replaced: Node[] = [];
  /** Values that a node of the region read and reads no more. */
  readonly #left = new Set<string>();

  constructor(graph: Graph, region: ReadonlySet<Node>) {
    this.#graph = graph;
    this.#region = region;
    this.#names = new NameAuthority(graph);
    typeCastLikes(new Surroundings(graph), region);
    this.#around = new Surroundings(graph);
    for (const node of region) node.outputs = node.outputs.map((output) => this.#giveOutput(node, output));
    for (const node of region) {
      const positions = OPERANDS.get(node.opType);
      node.inputs = node.inputs.map((name, input) => {
        if (name === '' || !(positions === null || positions?.includes(input))) return name;
        this.#left.add(name);
        return this.#half(name);
      });
    }
    graph.nodes = [
      ...(this.#behind.get(undefined) ?? []),
      ...graph.nodes.flatMap((node) => (this.#gone.has(node) ? [] : [node, ...(this.#behind.get(node) ?? [])])),
    ];
    this.#dropUnread();
  }

  /** Makes an output FP16. @returns its name: the one it had, unless somebody still reads that as float32 */
  #giveOutput(node: Node, output: string): string {
    if (output === '') return output;
    const { index, exposed } = this.#around;
    const uses = index.consumers.get(output) ?? [];
    const casts = uses.filter(({ node: reader }) => reader.isOnnx && reader.opType === 'Cast').map((use) => use.node);
    const others = uses.filter((use) => !(this.#region.has(use.node) && isOperand(use)) && !takesAnyType(use.node));
    const idle = casts.filter((cast) => this.#around.isIdle(cast) && this.#isReadElsewhere(cast.outputs[0] as string));
    const half =
      others.length > 0 || idle.length > 1 || exposed.has(output) ? this.#names.unique(`${output}_float16`) : output;
    this.#halves.set(output, half);
    if (half === output) this.#retype(output);
    else {
      this.#describe(half, output);
      this.#put(node, this.#cast(half, output, 'float32'));
    }
    for (const { node: reader, input } of uses) {
      if (!takesAnyType(reader) || (reader.opType === 'Cast' && this.#around.isIdle(reader) && half !== output))
        continue;
      reader.inputs = reader.inputs.with(input, half);
    }
    for (const cast of casts) if (isCastTo(cast, 'float16')) this.#replaceCast(cast, half);
    return half;
  }

  /** Whether anybody but nodes of the region reads what an idle Cast makes. */
  #isReadElsewhere(name: string): boolean {
    return (
      this.#around.exposed.has(name) ||
      this.#around.uses(name).some((use) => !(this.#region.has(use.node) && isOperand(use)))
    );
  }

  /** A Cast to FP16 of what is FP16 now: its readers read the value itself. */
  #replaceCast(cast: Node, half: string): void {
    const output = cast.outputs[0] as string;
    if (this.#around.exposed.has(output)) return;
    for (const { node, input } of this.#around.index.consumers.get(output) ?? []) {
      node.inputs = node.inputs.with(input, half);
    }
    this.#gone.add(cast);
    this.#replaced.push(cast);
  }

  /** @returns the name of the FP16 form of a float32 value, made where there is none */
  #half(name: string): string {
    if (this.#around.types.get(name) === 'float16') return name;
    const root = this.#around.root(name);
    const known = this.#halves.get(root);
    if (known !== undefined) return known;
    const half = this.#existing(root) ?? this.#stored(root) ?? this.#castDown(root);
    this.#halves.set(root, half);
    return half;
  }

  /** What is FP16 already: the source of a Cast to float32, or the result of a Cast from it. */
  #existing(root: string): string | undefined {
    const { index, types } = this.#around;
    const producer = index.producers.get(root);
    const source = producer && isCastTo(producer, 'float32') ? producer.inputs[0] : undefined;
    if (source !== undefined && types.get(source) === 'float16') return source;
    const cast = this.#around.uses(root).find((use) => isCastTo(use.node, 'float16'))?.node;
    if (!cast) return undefined;
    // It may stand behind a node that reads it now.
    this.#gone.add(cast);
    this.#left.add(cast.inputs[0] as string);
    this.#put(producer, new Node({ ...cast, inputs: [root] }));
    return cast.outputs[0];
  }

  #stored(root: string): string | undefined {
    const tensor = this.#around.constant(root);
    if (!tensor || tensor.data.kind === 'derived') return undefined;
    const name = this.#names.unique(`${root}_float16`);
    this.#graph.addInitializer(
      new Tensor(name, 'float16', tensor.dims, { kind: 'derived', source: tensor, form: { as: 'float16' } }),
    );
    return name;
  }

  #castDown(root: string): string {
    const half = this.#names.unique(`${root}_float16`);
    this.#put(this.#around.index.producers.get(root), this.#cast(root, half, 'float16'));
    this.#describe(half, root);
    return half;
  }

  #cast(from: string, to: string, type: 'float16' | 'float32'): Node {
    this.casts++;
    return new Node({
      opType: 'Cast',
      name: this.#names.unique(`${from}_to_${type}`),
      inputs: [from],
      outputs: [to],
      attributes: [int('to', DataType[type])],
    });
  }

  #put(place: Node | undefined, node: Node): void {
    this.#behind.set(place, [...(this.#behind.get(place) ?? []), node]);
  }

  #retype(name: string): void {
    for (const [i, value] of this.#graph.valueInfo.entries()) {
      if (value.name === name) this.#graph.valueInfo[i] = { ...value, dtype: 'float16' };
    }
  }

  /** States a FP16 value's shape where that of its float32 form is stated. */
  #describe(half: string, name: string): void {
    const { valueInfo, inputs, outputs } = this.#graph;
    const stated = [valueInfo, inputs, outputs].flatMap(
      (values) => values.find((value) => value.name === name) ?? [],
    )[0];
    if (stated) valueInfo.push({ name: half, dtype: 'float16', dims: stated.dims });
  }

  /** Drops constants and Casts that nobody reads any more, of those whose readers went elsewhere. */
  #dropUnread(): void {
    const { initializers, inputs } = this.#graph;
    const reads = new Map<string, number>();
    const count = (name: string, change: number): number => {
      const left = (reads.get(name) ?? 0) + change;
      reads.set(name, left);
      return left;
    };
    for (const { name } of this.#graph.outputs) count(name, 1);
    for (const node of this.#graph.nodes) for (const name of valuesRead(node)) count(name, 1);
    const gone = new Set<Node>();
    const queue = [...this.#left];
    for (const name of queue) {
      if (count(name, 0) > 0) continue;
      if (!inputs.some((input) => input.name === name)) initializers.delete(name);
      const node = this.#around.index.producers.get(name);
      if (!node || gone.has(node) || !node.isOnnx || !DROPPABLE.has(node.opType)) continue;
      gone.add(node);
      for (const input of valuesRead(node)) if (count(input, -1) === 0) queue.push(input);
    }
    this.#graph.nodes = this.#graph.nodes.filter((node) => !gone.has(node));
    const dropped = new Set([...gone, ...this.#replaced].flatMap(({ outputs }) => outputs));
    this.#graph.valueInfo = this.#graph.valueInfo.filter(({ name }) => !dropped.has(name));
  }
}

const DROPPABLE = new Set(['Cast', 'CastLike', 'Constant']);

function takesAnyType(node: Node): boolean {
  return node.isOnnx && (node.opType === 'Shape' || node.opType === 'Size' || node.opType === 'Cast');
}

/** Has CastLikes name the type they read from values of the region, whose type is about to change: it would be a reason to keep both. */
function typeCastLikes({ index, types }: Surroundings, region: ReadonlySet<Node>): void {
  for (const name of [...region].flatMap(({ outputs }) => outputs)) {
    for (const { node } of index.consumers.get(name) ?? []) {
      const type = types.get(node.inputs[1] ?? '');
      if (!node.isOnnx || node.opType !== 'CastLike' || type === undefined) continue;
      node.opType = 'Cast';
      node.inputs = node.inputs.slice(0, 1);
      node.attributes = [...node.attributes, int('to', DataType[type])];
    }
  }
}
