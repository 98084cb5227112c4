/** A dimension while a graph is built: a number, or a symbol for what the inputs decide. */
export type Size = number | string;

/**
 * NumPy's broadcasting over sizes that may be symbols; equal symbols are equal sizes.
 * @throws Error where two sizes do not go together
 */
export function broadcast(a: readonly Size[], b: readonly Size[]): Size[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const [x, y] = [a[i - rank + a.length] ?? 1, b[i - rank + b.length] ?? 1];
    if (x === y || y === 1) return x;
    if (x === 1) return y;
    throw new Error(`[${a.join(', ')}] and [${b.join(', ')}] do not broadcast`);
  });
}

/** @throws Error where the inner sizes differ */
export function matmulShape(a: readonly Size[], b: readonly Size[]): Size[] {
  const [rows, inner] = a.slice(-2);
  const [innerToo, columns] = b.slice(-2);
  if (rows === undefined || columns === undefined || inner !== innerToo) {
    throw new Error(`[${a.join(', ')}] and [${b.join(', ')}] have no product`);
  }
  return [...broadcast(a.slice(0, -2), b.slice(0, -2)), rows, columns];
}

/**
 * The shape of ONNX Reshape: 0 keeps the size at its place, -1 is the rest.
 * @param rest what -1 stands for; needed where it does not follow from numbers
 */
export function reshaped(from: readonly Size[], to: readonly number[], rest?: Size): Size[] {
  const kept = to.map((size, i) => (size === 0 ? from[i] : size));
  const others = [...from];
  for (const size of kept) {
    const at = size === undefined ? -1 : others.indexOf(size);
    if (typeof size === 'string' && at >= 0) others.splice(at, 1);
  }
  return kept.map((size) => {
    if (size === undefined) throw new Error(`[${from.join(', ')}] has no size to keep for [${to.join(', ')}]`);
    if (size !== -1) return size;
    if (rest !== undefined) return rest;
    const divisor = kept.reduce<number>(
      (product, other) => (typeof other === 'number' ? product * Math.abs(other) : product),
      1,
    );
    const inferred = others.reduce<number>((product, other) => product * Number(other), 1) / divisor;
    if (!Number.isInteger(inferred)) throw new Error(`[${from.join(', ')}] cannot become [${to.join(', ')}]`);
    return inferred;
  });
}

/** Counts an axis from the end where it is negative. */
export function axisOf(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}
