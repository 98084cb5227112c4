import type { Linear } from '../../analyze/linears.js';
import { asBytes, type Tensor, type TensorSource } from '../../ir/tensor.js';
import { weightScales } from '../../numerics/int8.js';
import { decodeFloats } from '../../onnx/convert/tile.js';

/** Output channels of each linear that are looked at: errors at a few hundred of them tell those at all. */
const SAMPLED_OUTPUTS = 256;

/** Bytes of a weight read at a time where its output channels are columns. */
const READ_BYTES = 8 * 2 ** 20;

/** Output channels of one or more linears that read the same activation. */
export class WeightSample {
  /** `[outputs, inFeatures]`. */
  readonly rows: Float32Array;
  readonly inFeatures: number;
  /** Output channels that each sampled one stands for. */
  readonly #weight: Float64Array;

  private constructor(rows: Float32Array, inFeatures: number, weight: Float64Array) {
    this.rows = rows;
    this.inFeatures = inFeatures;
    this.#weight = weight;
  }

  /** Reads evenly spaced output channels of each linear. */
  static async read(linears: readonly Linear[], source: TensorSource): Promise<WeightSample> {
    const parts = [];
    for (const linear of linears) parts.push(await readOutputs(linear, source));
    const inFeatures = linears[0]?.inFeatures as number;
    const rows = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    const weight = new Float64Array(rows.length / inFeatures);
    let start = 0;
    parts.forEach((part, i) => {
      rows.set(part, start * inFeatures);
      const count = part.length / inFeatures;
      weight.fill((linears[i] as Linear).outFeatures / count, start, start + count);
      start += count;
    });
    return new WeightSample(rows, inFeatures, weight);
  }

  /** `[inFeatures]`, largest magnitude of each input channel. */
  get channelMax(): Float32Array {
    const most = new Float32Array(this.inFeatures);
    for (let output = 0, i = 0; output < this.#weight.length; output++) {
      for (let k = 0; k < most.length; k++, i++) {
        const magnitude = Math.abs(this.rows[i] as number);
        if (magnitude > (most[k] as number)) most[k] = magnitude;
      }
    }
    return most;
  }

  /** `[inFeatures]`, see `OutputGain`. */
  get gain(): Float64Array {
    const gain = new Float64Array(this.inFeatures);
    for (let output = 0, i = 0; output < this.#weight.length; output++) {
      const weight = this.#weight[output] as number;
      for (let k = 0; k < gain.length; k++, i++) {
        const w = this.rows[i] as number;
        gain[k] = (gain[k] as number) + weight * w * w;
      }
    }
    return gain;
  }

  /** See `OutputGain`, of weights multiplied with `factors` and quantized with one scale for each output channel. */
  weightNoise(factors: Float32Array | undefined): number {
    const maxima = new Float32Array(this.#weight.length);
    for (let output = 0, i = 0; output < maxima.length; output++) {
      let most = 0;
      for (let k = 0; k < this.inFeatures; k++, i++) {
        const magnitude = Math.abs(this.rows[i] as number) * (factors?.[k] ?? 1);
        if (magnitude > most) most = magnitude;
      }
      maxima[output] = most;
    }
    return weightScales(maxima).reduce((sum, step, i) => sum + ((this.#weight[i] as number) * step * step) / 12, 0);
  }
}

/** @returns `[outputs, inFeatures]`, with all that stands between the stored weight and the product */
async function readOutputs(linear: Linear, source: TensorSource): Promise<Float32Array> {
  const { inFeatures, outFeatures } = linear;
  const count = Math.min(SAMPLED_OUTPUTS, outFeatures);
  const chosen = Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * outFeatures) / count));
  const rows = new Float32Array(count * inFeatures);
  if (linear.transposed) await readRows(linear.matrix, chosen, source, rows);
  else await readColumns(linear.matrix, chosen, source, rows);
  for (const { along, values, divides } of linear.factors) {
    const factors = decodeFloats(values.dtype, await source.read(values), values.elements);
    rows.forEach((w, i) => {
      const at = along === 'all' ? 0 : along === 'in' ? i % inFeatures : (chosen[Math.floor(i / inFeatures)] as number);
      const factor = factors[at] as number;
      rows[i] = divides ? w / factor : w * factor;
    });
  }
  return rows;
}

async function readRows(
  matrix: Tensor,
  chosen: readonly number[],
  source: TensorSource,
  target: Float32Array,
): Promise<void> {
  const [rows, columns] = matrix.dims as [number, number];
  const bytes = new Uint8Array(matrix.byteLength / rows);
  for (const [i, row] of chosen.entries()) {
    await source.readInto(matrix, row * bytes.length, bytes);
    target.set(decodeFloats(matrix.dtype, bytes, columns), i * columns);
  }
}

async function readColumns(
  matrix: Tensor,
  chosen: readonly number[],
  source: TensorSource,
  target: Float32Array,
): Promise<void> {
  const [rows, columns] = matrix.dims as [number, number];
  const rowBytes = matrix.byteLength / rows;
  const most = Math.max(1, Math.floor(READ_BYTES / rowBytes));
  const buffer = new Float64Array(Math.ceil((most * rowBytes) / 8));
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const bytes = asBytes(buffer).subarray(0, count * rowBytes);
    await source.readInto(matrix, first * rowBytes, bytes);
    const values = decodeFloats(matrix.dtype, bytes, count * columns);
    for (let row = 0; row < count; row++) {
      chosen.forEach((column, i) => {
        target[i * rows + first + row] = values[row * columns + column] as number;
      });
    }
  }
}
