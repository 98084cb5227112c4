import type { Linear } from '../analyze/linears.js';
import { typeOf } from '../analyze/value-types.js';
import { printable, WanqError } from '../errors.js';
import { int, ints } from '../ir/attribute.js';
import { DataType, type DataTypeName } from '../ir/dtype.js';
import { type Graph, Node } from '../ir/graph.js';
import { NameAuthority } from '../ir/names.js';
import { Tensor } from '../ir/tensor.js';
import { indexGraph } from '../ir/traverse.js';
import { counted, type Pass } from './pass.js';

/** Another weight for a linear. */
export interface ReplacedWeight {
  readonly linear: Linear;
  /** `[out, in]`; of a Conv the kernel's own shape will do too. */
  readonly weight: Tensor;
  /** `[out]`; absent: the bias stays. */
  readonly bias?: Tensor | undefined;
}

/**
 * Has linears multiply by other weights and add other biases. A product that reads its weight as `[in, out]` gets a Transpose of the new one, which is
 * quantized like any other and which runtimes compute when they load the model.
 *
 * @throws WanqError MODEL_UNSUPPORTED where a weight is scaled by the product, or no bias is found to replace
 */
export function replaceWeights(items: readonly ReplacedWeight[]): Pass {
  return {
    name: 'replace-weights',
    description: 'takes weights and biases from another file',
    run({ graph }) {
      const replacer = new Replacer(graph);
      for (const item of items) replacer.replace(item);
      const linears = counted(items.length, 'linear');
      return linears && `${linears} with other weights`;
    },
  };
}

class Replacer {
  readonly #graph: Graph;
  readonly #names: NameAuthority;
  readonly #index;

  constructor(graph: Graph) {
    this.#graph = graph;
    this.#names = new NameAuthority(graph);
    this.#index = indexGraph(graph);
  }

  replace({ linear, weight, bias }: ReplacedWeight): void {
    const { node, kind } = linear;
    if (node.floatAttribute('alpha', 1) !== 1) {
      throw new WanqError(
        'MODEL_UNSUPPORTED',
        `${printable(linear.role)} scales its product: its weight cannot be replaced`,
      );
    }
    const type = linear.computeType ?? weight.dtype;
    const dims = kind === 'Conv' ? linear.weight.dims : weight.dims;
    // The old name says what role the linear has.
    let value = this.#add(new Tensor(`${linear.weight.name}_replaced`, weight.dtype, dims, weight.data));
    value = this.#cast(value, weight.dtype, type, node);
    const flipped = kind === 'Conv' || node.intAttribute('transB', 0) !== 0;
    if (!flipped) value = this.#put('Transpose', value, [ints('perm', [1, 0])], node);
    node.inputs[1] = value;
    if (bias) this.#replaceBias(linear, bias);
  }

  #replaceBias({ node, output, role, outFeatures }: Linear, bias: Tensor): void {
    // Of a Gemm or a Conv; other products have no third input.
    const own = (node.inputs[2] ?? '') === '' ? [] : [{ node, at: 2 }];
    const added = (this.#index.consumers.get(output) ?? [])
      .filter((use) => use.node.isOnnx && use.node.opType === 'Add' && use.node.inputs.length === 2)
      .map((use) => ({ node: use.node, at: 1 - use.input }));
    const [place] = [...own, ...added].filter((site) => {
      const name = site.node.inputs[site.at] as string;
      return this.#graph.initializers.get(name)?.elements === outFeatures;
    });
    if (!place) {
      throw new WanqError('MODEL_UNSUPPORTED', `${printable(role)} adds no bias that could be replaced`);
    }
    const old = place.node.inputs[place.at] as string;
    const { dims } = this.#graph.initializers.get(old) as Tensor;
    const type = typeOf(old, this.#graph, this.#index) ?? bias.dtype;
    const value = this.#add(new Tensor(`${old}_replaced`, bias.dtype, dims, bias.data));
    place.node.inputs[place.at] = this.#cast(value, bias.dtype, type, place.node);
  }

  #add(tensor: Tensor): string {
    const named = tensor.renamed(this.#names.unique(tensor.name));
    this.#graph.addInitializer(named);
    return named.name;
  }

  #cast(value: string, from: DataTypeName, to: DataTypeName, before: Node): string {
    return from === to ? value : this.#put('Cast', value, [int('to', DataType[to])], before);
  }

  #put(opType: string, input: string, attributes: Node['attributes'], before: Node): string {
    const output = this.#names.unique(`${input}_${opType.toLowerCase()}`);
    const node = new Node({ opType, name: output, inputs: [input], outputs: [output], attributes });
    this.#graph.nodes.splice(this.#graph.nodes.indexOf(before), 0, node);
    return output;
  }
}
