import { int } from '../ir/attribute.js';
import { DataType, type DataTypeName } from '../ir/dtype.js';
import { Node } from '../ir/graph.js';
import { NameAuthority } from '../ir/names.js';
import { Tensor } from '../ir/tensor.js';
import { counted, type Pass, requireOpset } from './pass.js';

/** An activation to observe. Its last axis holds the channels. */
export interface ObservedValue {
  readonly value: string;
  readonly channels: number;
  /** undefined where it is not known. */
  readonly dtype: DataTypeName | undefined;
}

/** Graph outputs that carry the statistics of one observed value. */
export interface ObserverOutputs {
  /** `[channels]`, exact over all tokens; NaN for a channel that held NaN or infinity. */
  readonly min: string;
  readonly max: string;
  /** `[k, channels]` with k = min(tokens, rows): a stratified sample of rows, or all of them. */
  readonly sample: string;
}

/** Graph input with one number in [0, 1) for each sampled row: where in its stratum the row is taken. float64 `[tokens]`. */
export const JITTER_INPUT = 'wanq.jitter';

export interface ObserveOptions {
  readonly values: readonly ObservedValue[];
  /** Rows sampled a forward, or all. */
  readonly tokens: number | 'all';
  /** Receives the outputs in the order of `values`. */
  readonly outputs: ObserverOutputs[];
  /** Values of which only the largest magnitude is asked for. */
  readonly magnitudes?: readonly string[];
}

/** Graph output with the largest magnitude of the i-th value asked for, a float32 scalar. */
export function magnitudeOutput(i: number): string {
  return `wanq.magnitude.${i}`;
}

/**
 * Adds graph outputs with the statistics of activations, so that no activation leaves the runtime whole: per-channel minimum and maximum
 * over every token, and a sample of tokens for the histograms. The number of rows is taken in the graph, so one model serves every
 * resolution and prompt length: with R rows and k samples, sample i is row floor((i + jitter[i]) R / k).
 * Of `magnitudes`, one number each.
 */
export function observeActivations({ values, tokens, outputs, magnitudes = [] }: ObserveOptions): Pass {
  return {
    name: 'observe-activations',
    description: 'adds outputs with per-channel ranges and token samples of activations',
    requires(model) {
      requireOpset(model, 13, 'observing activations');
    },
    run(model) {
      const { graph } = model;
      if (
        values.length + magnitudes.length === 0 ||
        graph.outputs.some(({ name }) => /^wanq\.(observe|magnitude)\./.test(name))
      )
        return undefined;
      const names = new NameAuthority(graph);
      const emit = (opType: string, inputs: string[], attributes: Node['attributes'] = []): string => {
        const output = names.unique('wanq.value');
        graph.nodes.push(new Node({ opType, name: output, inputs, outputs: [output], attributes }));
        return output;
      };
      const constant = (tensor: Tensor): string => {
        graph.addInitializer(tensor);
        return tensor.name;
      };
      const zero = constant(Tensor.int64(names.unique('wanq.zero'), [], [0]));
      const one = constant(Tensor.int64(names.unique('wanq.one'), [], [1]));
      const vector = constant(Tensor.int64(names.unique('wanq.vector'), [1], [1]));
      const firstAxis = constant(Tensor.int64(names.unique('wanq.axis'), [1], [0]));
      const naught = constant(Tensor.float32(names.unique('wanq.naught'), [], [0]));
      const reduce = (opType: string, value: string): string =>
        model.opset >= (opType === 'ReduceSum' ? 13 : 18)
          ? emit(opType, [value, firstAxis], [int('keepdims', 0)])
          : emit(opType, [value], [{ name: 'axes', type: 'ints', value: [0] }, int('keepdims', 0)]);

      const sampler =
        tokens === 'all'
          ? undefined
          : { limit: constant(Tensor.int64(names.unique('wanq.tokens'), [], [tokens])), jitter: JITTER_INPUT };
      if (sampler && tokens !== 'all' && values.length > 0)
        graph.inputs.push({ name: JITTER_INPUT, dtype: 'float64', dims: [tokens] });

      const sampleRows = (rows: string): string => {
        if (!sampler) return rows;
        const count = emit('Gather', [emit('Shape', [rows]), zero]);
        const k = emit('Min', [count, sampler.limit]);
        const double = (value: string): string => emit('Cast', [value], [int('to', DataType.float64)]);
        const jitter = emit('Slice', [sampler.jitter, firstAxis, emit('Reshape', [k, vector])]);
        const stratum = emit('Div', [double(count), double(k)]);
        const place = emit('Mul', [emit('Add', [double(emit('Range', [zero, k, one])), jitter]), stratum]);
        const index = emit('Cast', [place], [int('to', DataType.int64)]);
        return emit('Gather', [rows, emit('Min', [index, emit('Sub', [count, one])])]);
      };

      for (const [i, { value, channels, dtype }] of values.entries()) {
        const shape = constant(Tensor.int64(names.unique('wanq.shape'), [2], [-1, channels]));
        const flat = emit('Reshape', [value, shape]);
        const rows = dtype === 'float32' ? flat : emit('Cast', [flat], [int('to', DataType.float32)]);
        // onnxruntime's ReduceMin and ReduceMax pass over NaN, and ReduceSum does not: 0 * sum is NaN where a value was not finite.
        const poison = emit('Mul', [reduce('ReduceSum', rows), naught]);
        const extreme = (opType: string): string => emit('Add', [reduce(opType, rows), poison]);
        const made = { min: extreme('ReduceMin'), max: extreme('ReduceMax'), sample: sampleRows(rows) };
        const named = Object.fromEntries(
          Object.entries(made).map(([statistic, from]) => {
            const name = `wanq.observe.${i}.${statistic}`;
            graph.nodes.push(new Node({ opType: 'Identity', name, inputs: [from], outputs: [name] }));
            const dims = statistic === 'sample' ? [null, channels] : [channels];
            graph.outputs.push({ name, dtype: 'float32', dims });
            return [statistic, name];
          }),
        );
        outputs.push(named as unknown as ObserverOutputs);
      }
      const whole = (opType: string, value: string): string => emit(opType, [value], [int('keepdims', 0)]);
      for (const [i, value] of magnitudes.entries()) {
        const extremes = ['ReduceMax', 'ReduceMin'].map((opType) => whole(opType, value));
        const largest = emit(
          'Max',
          extremes.map((extreme) => emit('Abs', [extreme])),
        );
        const name = magnitudeOutput(i);
        const attributes = [int('to', DataType.float32)];
        graph.nodes.push(new Node({ opType: 'Cast', name, inputs: [largest], outputs: [name], attributes }));
        graph.outputs.push({ name, dtype: 'float32', dims: [] });
      }
      const parts = [counted(values.length, 'activation'), counted(magnitudes.length, 'output')];
      return `observes ${parts.filter((part) => part !== undefined).join(' and ')}`;
    },
  };
}
