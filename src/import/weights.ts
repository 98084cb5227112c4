import { printable, WanqError } from '../errors.js';
import { STORED_FLOATS } from '../ir/dtype.js';
import { sameDims, Tensor } from '../ir/tensor.js';
import type { StoredTensor } from './checkpoint.js';

/** Where a graph that is built gets its weights from. */
export interface WeightSource {
  /** @param dims the shape the model gives it */
  take(name: string, dims: readonly number[]): Tensor;
}

/** Tensors that diffusers too skips when it loads a checkpoint: it builds no module for them. */
const IGNORED = /(^|\.)norm_added_q\./;

/** Tensor names that a message lists. */
const LISTED = 3;

/**
 * The tensors of a checkpoint, each to be taken once, as initializers that point into its files. What does not fit is noted, so that one
 * message can name all of it.
 */
export class CheckpointWeights implements WeightSource {
  readonly #tensors: ReadonlyMap<string, StoredTensor>;
  readonly #taken = new Set<string>();
  readonly #missing: string[] = [];
  readonly #misshapen: string[] = [];
  readonly #untyped: string[] = [];

  constructor(tensors: ReadonlyMap<string, StoredTensor>) {
    this.#tensors = tensors;
  }

  take(name: string, dims: readonly number[]): Tensor {
    this.#taken.add(name);
    const stored = this.#tensors.get(name);
    const dtype = STORED_FLOATS[stored?.dtype ?? ''];
    if (!stored) this.#missing.push(name);
    else if (!sameDims(stored.dims, dims)) {
      this.#misshapen.push(`${name} is [${stored.dims.join(', ')}], expected [${dims.join(', ')}]`);
    } else if (dtype === undefined) this.#untyped.push(`${name} is ${stored.dtype}`);
    const { file: location = '', offset = 0, length = 0 } = stored ?? {};
    return new Tensor(name, dtype ?? 'float32', dims, { kind: 'external', location, offset, length });
  }

  /**
   * Call it when the graph is built.
   * @throws WanqError MODEL_INVALID naming tensors that are missing, of another shape, or not part of the model; MODEL_UNSUPPORTED for
   * element types other than F32, F16 and BF16
   */
  assertFit(where: string): void {
    const surplus = [...this.#tensors.keys()].filter((name) => !this.#taken.has(name) && !IGNORED.test(name));
    const complaints = [
      complaint(this.#missing, 'missing'),
      complaint(this.#misshapen, 'of another shape'),
      complaint(surplus, 'not part of the model'),
    ].filter((text) => text !== '');
    if (complaints.length > 0) {
      throw new WanqError('MODEL_INVALID', `${printable(where)}: ${complaints.join('; ')}`, {
        hint: 'check that config.json and the weights belong together and all shards are there',
      });
    }
    if (this.#untyped.length > 0) {
      throw new WanqError('MODEL_UNSUPPORTED', `${printable(where)}: ${complaint(this.#untyped, 'of another type')}`, {
        hint: 'F32, F16 and BF16 weights can be imported; save the checkpoint in one of them',
      });
    }
  }
}

function complaint(items: readonly string[], what: string): string {
  if (items.length === 0) return '';
  const listed = items.slice(0, LISTED).map((item) => printable(item, 120));
  const more = items.length > LISTED ? ` and ${items.length - LISTED} more` : '';
  return `${items.length} ${items.length === 1 ? 'tensor is' : 'tensors are'} ${what} (${listed.join('; ')}${more})`;
}
