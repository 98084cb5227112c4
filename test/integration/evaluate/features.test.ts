import { copyFile, mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readFeatures } from '../../../src/evaluate/features.js';
import { featureStatistics } from '../../../src/evaluate/metrics/frechet.js';
import { randn } from '../../../src/numerics/rng.js';
import { readSafetensors, type SafeTensor, type Safetensors, writeSafetensors } from '../../../src/util/safetensors.js';
import { MICRO } from '../../helpers/fixtures.js';
import { expectRejection } from '../../unit/helpers/errors.js';
import { temporaryFolder } from '../support/environment.js';

const parent = temporaryFolder();
const SIZE = { frames: 17, height: 128, width: 128 };
const fixture = await readSafetensors(path.join(MICRO, 'fvd', 'reference.safetensors'));
const dim = fixture.tensors.get('mean')?.data.length as number;

function withFeatures(features: SafeTensor): Promise<string> {
  return withReference({ tensors: new Map([['features', features]]) });
}

/** The fixture's, with some tensors or the metadata others. */
async function withReference({ tensors, metadata = fixture.metadata }: Partial<Safetensors>): Promise<string> {
  const folder = await mkdtemp(path.join(parent, 'features-'));
  await copyFile(path.join(MICRO, 'fvd', 'model.onnx'), path.join(folder, 'model.onnx'));
  await writeSafetensors(path.join(folder, 'reference.safetensors'), {
    metadata,
    tensors: new Map([...fixture.tensors, ...(tensors ?? [])]),
  });
  return folder;
}

describe('reference.safetensors', () => {
  it('may have statistics alone, as the micro set has', async () => {
    const { reference } = await readFeatures(path.join(MICRO, 'fvd'), SIZE);
    expect(reference.features).toBeUndefined();
    expect(reference.covariance).toHaveLength(dim * dim);
    expect(reference.count).toBeGreaterThan(dim);
  });

  it.each(['F32', 'F64'] as const)('may hold the features themselves, as %s', async (dtype) => {
    const values = randn(1, 5 * dim);
    const data = dtype === 'F32' ? values : Float64Array.from(values);
    const { reference } = await readFeatures(await withFeatures({ dtype, shape: [5, dim], data }), SIZE);
    expect(reference.features).toHaveLength(5);
    expect(reference.features?.[4]).toEqual(data.subarray(4 * dim));
    expect(featureStatistics(reference.features ?? []).mean[0]).toBeTypeOf('number');
  });

  it.each<[string, () => SafeTensor]>([
    ['other features', () => ({ dtype: 'F32', shape: [5, dim + 1], data: randn(1, 5 * (dim + 1)) })],
    ['integers', () => ({ dtype: 'I32', shape: [5, dim], data: new Int32Array(5 * dim) })],
    ['one vector', () => ({ dtype: 'F32', shape: [1, dim], data: randn(1, dim) })],
    ['a flat list', () => ({ dtype: 'F32', shape: [5 * dim], data: randn(1, 5 * dim) })],
  ])('is refused with %s', async (_, features) => {
    await expectRejection(readFeatures(await withFeatures(features()), SIZE), 'FEATURES_INVALID');
  });

  it.each(['NaN', '-1', '1.5', '1e400', 'many'])('is refused where it is of %s videos', async (count) => {
    await expectRejection(readFeatures(await withReference({ metadata: { count } }), SIZE), 'FEATURES_INVALID');
  });

  it.each<[string, () => [string, SafeTensor]]>([
    ['a mean', () => ['mean', { dtype: 'F64', shape: [dim], data: new Float64Array(dim).fill(Number.NaN) }]],
    [
      'a covariance',
      () => ['covariance', { dtype: 'F64', shape: [dim, dim], data: new Float64Array(dim * dim).fill(Infinity) }],
    ],
    [
      'features',
      () => ['features', { dtype: 'F32', shape: [2, dim], data: new Float32Array(2 * dim).fill(Number.NaN) }],
    ],
  ])('is refused where it has %s that is no number', async (_, tensor) => {
    await expectRejection(
      readFeatures(await withReference({ tensors: new Map([tensor()]) }), SIZE),
      'FEATURES_INVALID',
    );
  });

  it('is refused without any feature', async () => {
    const none = { dtype: 'F64', data: new Float64Array() } as const;
    const tensors = new Map([
      ['mean', { ...none, shape: [0] }],
      ['covariance', { ...none, shape: [0, 0] }],
    ]);
    await expectRejection(readFeatures(await withReference({ tensors }), SIZE), 'FEATURES_INVALID');
  });
});
