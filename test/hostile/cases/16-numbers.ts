import { writeFileSync } from 'node:fs';
import { calibrate as makeCalibration } from '../../../src/calibrate/calibrate.js';
import type { Model, Node } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import { readSafetensors, type SafeTensor, writeSafetensors } from '../../../src/util/safetensors.js';
import { filled, matmul, OUT, pair, parameters, quantizedModel, weight } from '../../helpers/quantized.js';
import { type Control, type End, type HostileCase, lettered, type Row } from '../lib/case.js';
import { calibrate, check, quantizeBy, quantizeDynamic } from '../lib/commands.js';
import { external, graphOf, inline, PIPELINE } from '../lib/models.js';
import { once } from '../lib/once.js';
import type { Place } from '../lib/place.js';

type Made = Omit<HostileCase, 'id'>;

/** A calibration of {@link inline}, made once. */
const calibrationOf = once(async (place: Place) => {
  await makeCalibration({
    ...{ pipeline: place.path(PIPELINE), prompts: undefined, embeddings: undefined, syntheticInputs: 1 },
    ...{ steps: 1, guidance: 1, seed: 0, negativePrompt: '', device: 'cpu', frames: 5, height: 32, width: 32 },
    ...{ buckets: 2, tokens: 'auto', heldTokens: 'auto', output: place.path('made') },
  } as unknown as Parameters<typeof makeCalibration>[0]);
  return readSafetensors(place.path('made'));
});

const calibrated: Control = {
  name: 'calibration',
  input: async (place) => {
    await inline.input(place);
    await writeSafetensors(place.path('c'), await calibrationOf(inline.input));
  },
};

type File = { tensors: Map<string, SafeTensor>; metadata: Record<string, string> };
// biome-ignore lint/suspicious/noExplicitAny: the header of a calibration is JSON that is damaged on purpose
type Header = any;

function calibration(
  what: string,
  change: (file: File, header: Header) => void,
  expected: readonly End[] = INVALID,
): Made {
  return {
    what: `calibration: ${what}`,
    input: async (place) => {
      await inline.input(place);
      const { tensors, metadata } = await calibrationOf(inline.input);
      const copies = [...tensors].map(([name, tensor]) => [name, { ...tensor, data: tensor.data.slice() }] as const);
      const file: File = { tensors: new Map(copies), metadata: { ...metadata } };
      const header = JSON.parse(file.metadata['wanq.calibration'] as string);
      change(file, header);
      file.metadata['wanq.calibration'] ??= '';
      if (file.metadata['wanq.calibration'] !== '') file.metadata['wanq.calibration'] = JSON.stringify(header);
      await writeSafetensors(place.path('c'), file);
    },
    commands: [quantizeBy('c'), quantizeBy('c', '--method', 'minmax', '--smooth', 'none')],
    expected,
    control: calibrated,
  };
}

const INVALID: readonly End[] = ['CALIBRATION_INVALID', 'CALIBRATION_MISMATCH'];
/** Read, and told of: what holds no number is not quantized. */
const EITHER: readonly End[] = ['ok', ...INVALID, 'NON_FINITE', 'MODEL_UNSUPPORTED'];

const fill =
  (names: RegExp, value: number) =>
  (file: File): void => {
    for (const [name, { data }] of file.tensors) if (names.test(name) && data instanceof Float32Array) data.fill(value);
  };

const CALIBRATIONS: readonly Made[] = [
  calibration('of another model', (_, header) => {
    header.identity.model = '0'.repeat(64);
  }),
  calibration('of another version', ({ metadata }) => {
    metadata['wanq.calibration.schema'] = '3';
  }),
  calibration('of a version that is no number', ({ metadata }) => {
    metadata['wanq.calibration.schema'] = '\u001b[31m4';
  }),
  calibration('without a header', ({ metadata }) => {
    metadata['wanq.calibration'] = '';
  }),
  ...['min', 'max', 'held'].flatMap((name) => [
    calibration(`NaN in ${name}`, fill(new RegExp(`^${name}/`), Number.NaN), EITHER),
    calibration(`infinity in ${name}`, fill(new RegExp(`^${name}/`), Number.POSITIVE_INFINITY), EITHER),
    calibration(`3e38 in ${name}`, fill(new RegExp(`^${name}/`), 3e38), EITHER),
    calibration(`denormals in ${name}`, fill(new RegExp(`^${name}/`), 1e-44), EITHER),
  ]),
  calibration('zeros alone', fill(/./, 0), EITHER),
  calibration('maxima below minima', (file) => {
    fill(/^min\//, 1)(file);
    fill(/^max\//, -1)(file);
  }),
  calibration('counts below 0', ({ tensors }) => {
    for (const { data } of tensors.values()) if (data instanceof BigInt64Array) data.fill(-5n);
  }),
  calibration(
    'counts of 2^62',
    ({ tensors }) => {
      for (const { data } of tensors.values()) if (data instanceof BigInt64Array) data.fill(2n ** 62n);
    },
    EITHER,
  ),
  calibration(
    'counts of 0',
    ({ tensors }) => {
      for (const { data } of tensors.values()) if (data instanceof BigInt64Array) data.fill(0n);
    },
    EITHER,
  ),
  calibration('without the minima', ({ tensors }) => {
    for (const name of [...tensors.keys()]) if (name.startsWith('min/')) tensors.delete(name);
  }),
  calibration('without histograms', ({ tensors }) => {
    for (const name of [...tensors.keys()]) if (name.startsWith('histogram/')) tensors.delete(name);
  }),
  calibration(
    'without kept tokens',
    ({ tensors }) => {
      for (const name of [...tensors.keys()]) if (name.startsWith('held/')) tensors.delete(name);
    },
    EITHER,
  ),
  calibration('without activations', (_, header) => {
    header.activations = [];
  }),
  calibration('with an activation twice', (_, header) => {
    header.activations.push(header.activations[0]);
  }),
  calibration('with 1e9 channels', (_, header) => {
    for (const one of header.activations) one.channels = 1e9;
  }),
  calibration('with 0 channels', (_, header) => {
    for (const one of header.activations) one.channels = 0;
  }),
  calibration('with an exponent of 1e6', (_, header) => {
    for (const one of header.activations) for (const slice of one.slices) slice.exponent = 1e6;
  }),
  calibration('with an exponent of -1e6', (_, header) => {
    for (const one of header.activations) for (const slice of one.slices) slice.exponent = -1e6;
  }),
  calibration('with a first bin of 2^53', (_, header) => {
    for (const one of header.activations) for (const slice of one.slices) slice.first = Number.MAX_SAFE_INTEGER;
  }),
  calibration('with names `__proto__`', (_, header) => {
    for (const one of header.activations) one.value = '__proto__';
  }),
  calibration('without finished prompts', (_, header) => {
    header.done = [];
  }),
  calibration('with 2^53 prompts', (_, header) => {
    header.identity.promptCount = Number.MAX_SAFE_INTEGER;
  }),
];

/** A quantized graph of one product, whose scales and zero points `wanq check` looks at. */
const quantized: Control = { name: 'quantized product', input: (place) => writeQuantized(place, parameters()) };

function writeQuantized(place: Place, tensors: readonly Tensor[]): void {
  writeFileSync(place.path('m.onnx'), encodeModel(quantizedModel([...pair(), weight(), matmul()], tensors)));
}

const scales = (what: string, tensor: Tensor, expected: readonly End[] = ['fails', 'MODEL_INVALID']): Made => ({
  what: `quantized model: ${what}`,
  input: (place) => writeQuantized(place, parameters({}, tensor)),
  commands: [check('m.onnx')],
  expected,
  control: quantized,
});

const BAD = [0, -0.05, Number.NaN, Number.POSITIVE_INFINITY];

const SCALES: readonly Made[] = [
  ...BAD.map((value) => scales(`a scale of ${value} for activations`, Tensor.float32('xs', [], [value]))),
  ...BAD.map((value) => scales(`a scale of ${value} for weights`, Tensor.float32('ws', [OUT], filled(OUT, value)))),
  scales('a zero point of another type', Tensor.fromBytes('xz', 'int32', [], new Uint8Array(4)), [
    'fails',
    'MODEL_INVALID',
  ]),
  scales(
    'zero points of weights that are not 0',
    Tensor.fromBytes('wz', 'int8', [OUT], new Uint8Array(OUT).fill(100)),
    ['ok', 'fails'],
  ),
  scales('too few scales', Tensor.float32('ws', [3], [1, 1, 1])),
  scales('no scales', Tensor.float32('xs', [0], [])),
];

/** The weight of a linear within the blocks, filled. */
function weights(what: string, values: (old: number, i: number) => number, expected: readonly End[]): Made {
  return {
    what: `weights: ${what}`,
    input: graphOf(inline, (model) => {
      const { name, dims, data } = weightOf(model);
      if (data.kind !== 'bytes') throw new Error('the weight is not in the graph');
      const old = new Float32Array(new Uint8Array(data.bytes).buffer);
      model.graph.addInitializer(Tensor.float32(name, dims, old.map(values)));
    }),
    commands: [calibrate, quantizeDynamic, { ...quantizeDynamic, args: [...quantizeDynamic.args, '--float', 'fp16'] }],
    expected,
    control: inline,
    slow: true,
  };
}

/** Channels between the two linears of a feed-forward, which no other matrix has. */
const INNER = 160;

/** A weight of a feed-forward. */
function weightOf({ graph: { initializers, nodes } }: Model): Tensor {
  const read = nodes.flatMap(({ opType, inputs }: Node) => (opType === 'MatMul' || opType === 'Gemm' ? inputs[1] : []));
  const found = [...initializers.values()].find(({ name, dims }) => dims.includes(INNER) && read.includes(name));
  if (!found) throw new Error('there is no feed-forward');
  return found;
}

const ODD: readonly End[] = ['ok', 'NON_FINITE', 'MODEL_UNSUPPORTED', 'MODEL_INVALID'];

const WEIGHTS: readonly Made[] = [
  weights('NaN alone', () => Number.NaN, ODD),
  weights('one NaN', (old, i) => (i === 7 ? Number.NaN : old), ODD),
  weights('one infinity', (old, i) => (i === 7 ? Number.POSITIVE_INFINITY : old), ODD),
  weights('zeros alone', () => 0, ['ok']),
  weights('one value alone', () => 0.5, ['ok']),
  weights('denormals', () => 1e-41, ['ok']),
  weights('one outlier of 1e8', (old, i) => (i === 7 ? 1e8 : old), ODD),
  weights('one value past the end of FP16', (old, i) => (i === 7 ? 70_000 : old), ODD),
  weights('values at the end of FP32', () => 3e38, ODD),
];

export const NUMBER_ROWS: readonly Row[] = [
  ...lettered(16, [...CALIBRATIONS, ...SCALES]),
  ...lettered(17, WEIGHTS),
  {
    id: '17',
    what: 'NaN, infinity, zeros, constants, denormals and outliers in activations and weights, up to the written model',
    shownBy: 'test/integration/quantize/odd-numbers.test.ts, test/unit/numerics/int8.test.ts',
  },
  {
    id: '18',
    what: 'a histogram’s range grows, empty batches, merging',
    shownBy: 'test/unit/numerics/histogram.test.ts, test/unit/calibrate',
  },
  { id: '19', what: 'KL: fewer bins than levels, empty bins, ties', shownBy: 'test/unit/numerics/thresholds' },
  {
    id: '20',
    what: 'PSNR of identical videos, FVD of few samples, singular covariances, NaN',
    shownBy: 'test/unit/evaluate/metrics, test/unit/gate; rows 34',
  },
  {
    id: '21',
    what: 'another device, number of threads or version of Node',
    shownBy: 'test/unit/numerics/rng.test.ts, test/integration/calibrate; docs/devices.md tells how far devices differ',
  },
];
void external;
