import type { Graph } from './graph.js';
import type { Tensor } from './tensor.js';

/** An operator attribute. Immutable; integers outside +-2^53 are kept as bigint. */
export type Attribute =
  | { readonly name: string; readonly type: 'float'; readonly value: number }
  | { readonly name: string; readonly type: 'int'; readonly value: number | bigint }
  | { readonly name: string; readonly type: 'string'; readonly value: Uint8Array }
  | { readonly name: string; readonly type: 'tensor'; readonly value: Tensor }
  | { readonly name: string; readonly type: 'graph'; readonly value: Graph }
  | { readonly name: string; readonly type: 'floats'; readonly value: readonly number[] }
  | { readonly name: string; readonly type: 'ints'; readonly value: readonly (number | bigint)[] }
  | { readonly name: string; readonly type: 'strings'; readonly value: readonly Uint8Array[] }
  | { readonly name: string; readonly type: 'graphs'; readonly value: readonly Graph[] }
  /** Inside a function: the attribute of that name of the node that calls it. */
  | { readonly name: string; readonly type: 'reference'; readonly to: string }
  /** A kind wanq has no use for (sparse tensors, type protos); it survives as its bytes. */
  | { readonly name: string; readonly type: 'opaque' };

export function int(name: string, value: number): Attribute {
  return { name, type: 'int', value };
}

export function ints(name: string, value: readonly number[]): Attribute {
  return { name, type: 'ints', value };
}
