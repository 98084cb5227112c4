import { describe, expect, it } from 'vitest';
import { LINEAR_FORMS } from '../../../src/passes/quantize-linears.js';
import type { Activations } from '../../../src/quantize/options.js';
import { type Int8Precision, isInt8, PRECISIONS } from '../../../src/quantize/precision.js';
import {
  formOf,
  int8Precision,
  scaleTypeOf,
  TARGET_TRAITS,
  TARGETS,
  type Target,
} from '../../../src/quantize/target.js';
import { expectRefusal, thrownBy } from '../helpers/errors.js';

const matmul = { kind: 'MatMul', role: 'blocks.0.ffn.up' } as const;
const conv = { kind: 'Conv', role: 'patch_embedding' } as const;

describe('int8Precision', () => {
  it.each<[Target, Activations | undefined, Int8Precision]>([
    ['ort-cpu', undefined, 'int8'],
    ['ort-cpu', 'dynamic', 'int8-dynamic'],
    ['tensorrt', undefined, 'int8'],
    ['ort-cuda', undefined, 'int8-dynamic'],
    ['ort-cuda', 'static', 'int8'],
    ['directml', 'static', 'int8'],
    ['webgpu', undefined, 'int8-weights'],
  ])('of %s with activations %s is %s', (target, activations, precision) => {
    expect(int8Precision(target, activations)).toBe(precision);
  });

  it.each<[Target, Activations]>([
    ['tensorrt', 'dynamic'],
    ['directml', 'dynamic'],
    ['webgpu', 'static'],
    ['webgpu', 'dynamic'],
  ])('refuses of %s activations that are %s, and names targets that take them', (target, activations) => {
    const error = thrownBy(() => int8Precision(target, activations));
    expect(error.code).toBe('USAGE');
    expect(error.message).toContain(`target ${target} has no ${activations} activations`);
    expect(error.hint).toContain('ort-cuda');
  });
});

describe('formOf', () => {
  it('knows a form for every precision of a target, and a kernel reads all weights at least in floats', () => {
    for (const target of TARGETS) {
      const { forms } = TARGET_TRAITS[target];
      expect(forms.has('int8-weights')).toBe(true);
      for (const [precision, form] of forms) {
        expect(PRECISIONS.filter(isInt8)).toContain(precision);
        expect(LINEAR_FORMS).toContain(form);
        expect(formOf(target, precision, matmul)).toEqual({ precision, form });
      }
    }
  });

  it('refuses a precision that the target has no form for', () => {
    expectRefusal(() => formOf('tensorrt', 'int8-dynamic', matmul), 'USAGE');
    expect(thrownBy(() => formOf('webgpu', 'int8', matmul)).hint).toContain('int8-weights');
  });

  it('leaves the activation of a convolution in floats where no integer kernel gives floats', () => {
    expect(formOf('tensorrt', 'int8', conv)).toEqual({ precision: 'int8', form: 'qdq' });
    const weights = { precision: 'int8-weights', form: 'weights' };
    for (const target of ['ort-cpu', 'directml', 'ort-cuda'] as const) {
      expect(formOf(target, 'int8', conv)).toEqual(weights);
    }
    expect(formOf('ort-cuda', 'int8-dynamic', conv)).toEqual(weights);
  });
});

it.each<[Target, string]>([
  ['ort-cpu', 'float32'],
  ['tensorrt', 'float16'],
  ['ort-cuda', 'float16'],
  ['directml', 'float16'],
  ['webgpu', 'float16'],
])('scales of %s around a product in FP16 are %s', (target, type) => {
  expect(scaleTypeOf(target, 'float16', false)).toBe(type);
  expect(scaleTypeOf(target, 'float32', false)).toBe('float32');
  expect(scaleTypeOf(target, 'float32', true)).toBe(type);
});
