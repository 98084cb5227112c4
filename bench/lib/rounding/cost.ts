import type { Scheme } from '../../../src/quantize/scheme.js';

/** An activation, and the linears that read it. */
export interface Shape {
  readonly inputs: number;
  /** Of all linears together. */
  readonly outputs: number;
}

/** The 5B's blocks; their linears and how wide these are, from its published configuration. */
const BLOCKS = 30;
const WIDTH = 3072;
const HIDDEN = 14336;

/** The activations that a scheme quantizes in the 5B. The text is one for all blocks. */
export function shapesOf5B(scheme: Exclude<Scheme, 'auto'>): Shape[] {
  const each = (...shapes: Shape[]): Shape[] => new Array<Shape[]>(BLOCKS).fill(shapes).flat();
  const square = { inputs: WIDTH, outputs: WIDTH };
  const ffn = each({ inputs: WIDTH, outputs: HIDDEN }, { inputs: HIDDEN, outputs: WIDTH });
  if (scheme === 'ffn') return ffn;
  const attention = each({ inputs: WIDTH, outputs: 3 * WIDTH }, square, square, square);
  return [...ffn, ...attention, { inputs: WIDTH, outputs: 2 * BLOCKS * WIDTH }];
}

/** Steps of rounding each weight by itself. */
export function weightsOf(shapes: readonly Shape[]): number {
  return shapes.reduce((sum, { inputs, outputs }) => sum + inputs * outputs, 0);
}

/** Multiply-adds of GPTQ: second moments, their Cholesky factor, its inverse, and what the error of every weight changes behind it. */
export function gptqOperations(shapes: readonly Shape[], tokens: number): number {
  return shapes.reduce((sum, { inputs: k, outputs: n }) => sum + (k * k * (tokens + n)) / 2 + k ** 3 / 3, 0);
}

/** Bytes of the second moments of the widest activation. */
export function momentBytes(shapes: readonly Shape[]): number {
  return 8 * Math.max(...shapes.map(({ inputs }) => inputs)) ** 2;
}
