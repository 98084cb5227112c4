import type { Operand, Scope } from './builder.js';

/**
 * torch.nn.Linear with a bias. The weight stays `[out, in]` as it is stored.
 * @param x `[..., in]`
 */
export function linear(scope: Scope, x: Operand, outFeatures: number): Operand {
  const inFeatures = Number(x.dims.at(-1));
  const weight = scope.transpose(scope.weight('weight', [outFeatures, inFeatures]), [1, 0]);
  return scope.add(scope.matmul(x, weight), scope.weight('bias', [outFeatures]));
}

/** LayerNorm over the last axis, in float32. @param affine whether the checkpoint has a weight and a bias for it */
export function layerNorm(scope: Scope, x: Operand, eps: number, affine: boolean): Operand {
  const width = Number(x.dims.at(-1));
  const parameters = affine ? [scope.weight('weight', [width]), scope.weight('bias', [width])] : [scope.ones(width)];
  return scope.op('LayerNormalization', [x, ...parameters], x.dims, [
    { name: 'axis', type: 'int', value: -1 },
    { name: 'epsilon', type: 'float', value: eps },
  ]);
}

/** torch.nn.RMSNorm over the last axis: x / sqrt(mean(x^2) + eps) * weight. ONNX has an operator for it from opset 23 on. */
export function rmsNorm(scope: Scope, x: Operand, eps: number): Operand {
  const width = Number(x.dims.at(-1));
  const mean = scope.op('ReduceMean', [scope.mul(x, x), scope.integers([-1])], x.dims.with(-1, 1));
  const root = scope.map('Sqrt', scope.add(mean, scope.scalar(eps)));
  return scope.mul(scope.mul(x, scope.map('Reciprocal', root)), scope.weight('weight', [width]));
}

export function silu(scope: Scope, x: Operand): Operand {
  return scope.mul(x, scope.map('Sigmoid', x));
}

/** @param approximate `tanh` as Wan's blocks have it; `none` is the exact function */
export function gelu(scope: Scope, x: Operand, approximate: 'tanh' | 'none'): Operand {
  return scope.map('Gelu', x, [{ name: 'approximate', type: 'string', value: new TextEncoder().encode(approximate) }]);
}

/** diffusers' FeedForward with a GELU: `net.0.proj`, the activation, `net.2`. */
export function feedForward(
  scope: Scope,
  x: Operand,
  innerFeatures: number,
  outFeatures: number,
  approximate: 'tanh' | 'none',
): Operand {
  const net = scope.in('net');
  const inner = gelu(net.in('0'), linear(net.in('0').in('proj'), x, innerFeatures), approximate);
  return linear(net.in('2'), inner, outFeatures);
}
