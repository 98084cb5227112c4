import { printable, WanqError } from '../errors.js';
import { type Attribute, int } from '../ir/attribute.js';
import { type FunctionDefinition, type Graph, isDefaultDomain, type Model, Node } from '../ir/graph.js';
import { NameAuthority } from '../ir/names.js';
import { Tensor } from '../ir/tensor.js';
import { subgraphs } from '../ir/traverse.js';
import {
  FIRST_OPSET,
  IR_VERSIONS,
  LAST_OPSET,
  OPERATORS,
  type OpsetConversion,
  RUNTIME_OPERATORS,
} from './opset-changes.js';
import { counted, type Pass } from './pass.js';

/**
 * Lifts the default operator set of a model to opset `to`, and its IR version to one that may import it. Nodes whose operator means the same
 * there stay as they are, others are rewritten; one that cannot be is refused, and so is one whose operator wanq does not know. A model of
 * that opset or a newer one is left alone, and so are the operators of other domains and what model-local functions are made of.
 *
 * Source: {@link OPERATORS}.
 *
 * @param to from {@link FIRST_OPSET} to {@link LAST_OPSET}
 */
export function convertOpset(to: number): Pass {
  if (!Number.isInteger(to) || to < FIRST_OPSET || to > LAST_OPSET)
    throw new RangeError(`no opset to convert to: ${to}`);
  return {
    name: 'convert-opset',
    description: `lifts the model to opset ${to}`,
    requires(model) {
      planConversions(model, to);
    },
    run(model) {
      if (model.opset >= to) return undefined;
      const from = model.opset;
      const steps = planConversions(model, to);
      const constants = new Constants(model.graph);
      const changed = new Set<Node>();
      for (const { graph, node, needs } of steps) {
        const { inputs, outputs, attributes } = node;
        const replacement = CONVERSIONS[needs].convert(node, constants);
        if (replacement) graph.nodes.splice(graph.nodes.indexOf(node), 1, ...replacement);
        if (node.inputs !== inputs || node.outputs !== outputs || node.attributes !== attributes) changed.add(node);
      }
      model.opsets = model.opsets.map((set) => (isDefaultDomain(set.domain) ? { ...set, version: to } : set));
      const ir = IR_VERSIONS.findLast(([opset]) => opset <= to);
      model.irVersion = Math.max(model.irVersion, ir?.[1] ?? 0);
      const nodes = counted(changed.size, 'node');
      return `lifted opset ${from} to ${to}${nodes ? `, rewrote ${nodes}` : ''}`;
    },
    ensures(model) {
      return model.opset >= to ? undefined : `it is of opset ${model.opset}`;
    },
  };
}

interface Step {
  readonly graph: Graph;
  readonly node: Node;
  readonly needs: OpsetConversion;
}

/**
 * @returns what is to be done, in order
 * @throws WanqError MODEL_UNSUPPORTED naming the node
 */
function planConversions(model: Model, to: number): Step[] {
  const { opset: from, functions } = model;
  if (from >= to) return [];
  if (from < FIRST_OPSET) {
    throw unsupported(`the model uses opset ${from}, and wanq lifts those from ${FIRST_OPSET} on`, to);
  }
  const called = new Set(functions.map(({ domain, name }) => callKey(domain, name)));
  const steps: Step[] = [];
  const visit = (graph: Graph): void => {
    for (const node of graph.nodes) {
      if (node.isOnnx && !called.has(callKey(node.domain, node.opType))) {
        for (const needs of changesOf(node, from, to)) {
          const obstacle = CONVERSIONS[needs].obstacle?.(node);
          if (obstacle !== undefined) throw unsupported(`${titleOf(node)} ${obstacle}`, to);
          steps.push({ graph, node, needs });
        }
      }
      for (const inner of subgraphs(node)) visit(inner);
    }
  };
  visit(model.graph);
  for (const definition of functions) refuseChanged(definition, called, to);
  return steps;
}

function callKey(domain: string, name: string): string {
  return `${isDefaultDomain(domain) ? '' : domain}\0${name}`;
}

/** @throws WanqError MODEL_UNSUPPORTED where the operator is unknown, or no operator of opset `from` */
function changesOf(node: Node, from: number, to: number): OpsetConversion[] {
  const versions = Object.hasOwn(OPERATORS, node.opType) ? OPERATORS[node.opType] : undefined;
  if (RUNTIME_OPERATORS.has(node.opType) && !(versions && versions[0] <= from)) return [];
  if (!versions) throw unsupported(`${titleOf(node)} is of an operator that wanq cannot lift from opset ${from}`, to);
  if (versions[0] > from) throw unsupported(`${titleOf(node)} is of an operator that opset ${from} does not have`, to);
  return versions.flatMap((version) =>
    typeof version !== 'number' && version[0] > from && version[0] <= to ? [version[1]] : [],
  );
}

/**
 * A function is written in the opset it imports itself; the IR specification has the model import another one as long as every operator it
 * uses is the same in both, which runtimes that inline functions rely on.
 */
function refuseChanged(definition: FunctionDefinition, called: ReadonlySet<string>, to: number): void {
  const from = definition.opsets.find(({ domain }) => isDefaultDomain(domain))?.version ?? to;
  const visit = (nodes: readonly Node[]): void => {
    for (const node of nodes) {
      if (node.isOnnx && !called.has(callKey(node.domain, node.opType)) && from < to) {
        if (changesOf(node, from, to).length > 0) {
          throw unsupported(
            `${titleOf(node)} changed since opset ${from}, and it is part of the function ${printable(definition.name)}`,
            to,
          );
        }
      }
      for (const inner of subgraphs(node)) visit(inner.nodes);
    }
  };
  visit(definition.nodes);
}

function titleOf({ opType, name, outputs }: Node): string {
  return printable(`${opType} "${name || outputs.find((output) => output !== '') || ''}"`);
}

function unsupported(what: string, to: number): WanqError {
  return new WanqError('MODEL_UNSUPPORTED', what, { hint: `export the model again with opset ${to}` });
}

/** Constants that conversions add, to the outermost graph: every subgraph sees them, and what is alike is there once. */
class Constants {
  readonly #graph: Graph;
  readonly #names: NameAuthority;
  readonly #known = new Map<string, string>();

  constructor(graph: Graph) {
    this.#graph = graph;
    this.#names = new NameAuthority(graph);
  }

  /** @param dims absent: a vector */
  int64(purpose: string, values: readonly number[], dims: readonly number[] = [values.length]): string {
    const key = [purpose, dims, values].join(' ');
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const name = this.unique(`wanq.${purpose}`);
    this.#graph.addInitializer(Tensor.int64(name, dims, values));
    this.#known.set(key, name);
    return name;
  }

  unique(name: string): string {
    return this.#names.unique(name);
  }
}

interface Conversion {
  /** Why a node cannot be converted, as the end of a sentence about it. */
  readonly obstacle?: (node: Node) => string | undefined;
  /** Gives the node other inputs, outputs or attributes. @returns nodes to put in its place, where one is not enough */
  readonly convert: (node: Node, constants: Constants) => Node[] | undefined;
}

const CONVERSIONS: Readonly<Record<OpsetConversion, Conversion>> = {
  'axes-to-input': {
    convert(node, constants) {
      const axes = intsOf(drop(node, 'axes'));
      // Both before and after, no axes at all mean every axis.
      if (axes && axes.length > 0) setInput(node, 1, constants.int64('axes', axes));
      return undefined;
    },
  },
  'softmax-axis': {
    convert(node, constants) {
      const axis = node.intAttribute('axis', 1);
      if (axis === -1) return undefined;
      drop(node, 'axis');
      node.attributes = [...node.attributes, int('axis', -1)];
      const [input, output] = [node.inputs[0] as string, node.outputs[0] as string];
      const made = (part: string): string => constants.unique(`${output}_${part}`);
      const [shape, flat, result] = [made('shape'), made('flat'), made('flat_result')];
      node.inputs = [flat];
      node.outputs = [result];
      return [
        helper('Shape', [input], shape),
        helper('Flatten', [input], flat, [int('axis', axis)]),
        node,
        helper('Reshape', [result, shape], output),
      ];
    },
  },
  'split-to-input': {
    convert(node, constants) {
      const parts = intsOf(drop(node, 'split'));
      if (parts) setInput(node, 1, constants.int64('split', parts));
      return undefined;
    },
  },
  'split-count': {
    convert(node) {
      if (!node.inputs[1]) node.attributes = [...node.attributes, int('num_outputs', node.outputs.length)];
      return undefined;
    },
  },
  'dropout-ratio': {
    convert(node) {
      drop(node, 'ratio');
      return undefined;
    },
  },
  'batch-norm-outputs': {
    obstacle: (node) => (node.outputs.slice(1).some((name) => name !== '') ? 'is in training mode' : undefined),
    convert(node) {
      if (node.outputs.length > 1) node.outputs = node.outputs.slice(0, 1);
      return undefined;
    },
  },
  'resize-scales': {
    obstacle: (node) =>
      textOf(node.attribute('coordinate_transformation_mode')) === 'tf_half_pixel_for_nn'
        ? 'transforms coordinates as tf_half_pixel_for_nn, which is gone'
        : undefined,
    convert(node) {
      if (node.inputs[3]) node.inputs = [...node.inputs.slice(0, 2), '', ...node.inputs.slice(3)];
      return undefined;
    },
  },
  'roi-align-mode': {
    convert(node) {
      setText(node, 'coordinate_transformation_mode', 'output_half_pixel');
      return undefined;
    },
  },
  'grid-sample-mode': {
    convert(node) {
      const mode = textOf(node.attribute('mode'));
      if (mode === 'bilinear') setText(node, 'mode', 'linear');
      if (mode === 'bicubic') setText(node, 'mode', 'cubic');
      return undefined;
    },
  },
  'dft-axis': {
    convert(node, constants) {
      const axis = node.intAttribute('axis', 1);
      drop(node, 'axis');
      setInput(node, 2, constants.int64('axis', [axis], []));
      return undefined;
    },
  },
  'group-norm-scale': {
    obstacle: (node) => (node.intAttribute('num_groups', 0) > 0 ? undefined : 'has no number of groups'),
    convert(node, constants) {
      const [input, scale, bias] = node.inputs as [string, string, string];
      const groups = constants.int64('groups', [node.intAttribute('num_groups', 0)]);
      const made = (part: string): string => constants.unique(`${node.outputs[0]}_${part}`);
      const [channels, each, shape] = [made('channels'), made('channels_of_group'), made('groups_shape')];
      const last = constants.int64('axes', [-1]);
      const perChannel = (value: string, part: string): { output: string; nodes: Node[] } => {
        const [column, wide, output] = [made(`${part}_column`), made(`${part}_wide`), made(part)];
        return {
          output,
          nodes: [
            helper('Unsqueeze', [value, last], column),
            helper('Expand', [column, shape], wide),
            helper('Reshape', [wide, last], output),
          ],
        };
      };
      const [scales, biases] = [perChannel(scale, 'scale'), perChannel(bias, 'bias')];
      node.inputs = [input, scales.output, biases.output];
      return [
        helper('Shape', [input], channels, [int('start', 1), int('end', 2)]),
        helper('Div', [channels, groups], each),
        helper('Concat', [groups, each], shape, [int('axis', 0)]),
        ...scales.nodes,
        ...biases.nodes,
        node,
      ];
    },
  },
  'pool-ceil': {
    obstacle: (node) => (node.intAttribute('ceil_mode', 0) === 0 ? undefined : 'has ceil_mode, which changed'),
    convert: () => undefined,
  },
};

function helper(opType: string, inputs: string[], output: string, attributes: Attribute[] = []): Node {
  return new Node({ opType, name: output, inputs, outputs: [output], attributes });
}

/** Takes an attribute away. @returns it */
function drop(node: Node, name: string): Attribute | undefined {
  const attribute = node.attribute(name);
  if (attribute) node.attributes = node.attributes.filter((kept) => kept !== attribute);
  return attribute;
}

function setInput(node: Node, position: number, name: string): void {
  const inputs = Array.from({ length: Math.max(position + 1, node.inputs.length) }, (_, i) => node.inputs[i] ?? '');
  inputs[position] = name;
  node.inputs = inputs;
}

function setText(node: Node, name: string, text: string): void {
  drop(node, name);
  node.attributes = [...node.attributes, { name, type: 'string', value: Buffer.from(text) }];
}

function textOf(attribute: Attribute | undefined): string | undefined {
  return attribute?.type === 'string' ? Buffer.from(attribute.value).toString() : undefined;
}

function intsOf(attribute: Attribute | undefined): number[] | undefined {
  return attribute?.type === 'ints' ? attribute.value.map(Number) : undefined;
}
