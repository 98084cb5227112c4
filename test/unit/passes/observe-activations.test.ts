import { describe, expect, it } from 'vitest';
import { encodeModel } from '../../../src/onnx/codec.js';
import { JITTER_INPUT, type ObserverOutputs, observeActivations } from '../../../src/passes/observe-activations.js';
import { runPasses } from '../../../src/passes/pass.js';
import { expectRefusal } from '../helpers/errors.js';
import { model, node } from '../helpers/graphs.js';

const build = (opset = 21) =>
  model({ nodes: [node('Relu', ['x'], 'a'), node('Relu', ['a'], 'y')], inputs: ['x'], outputs: ['y'] }, opset);

const values = [
  { value: 'a', channels: 4, dtype: 'float32' },
  { value: 'x', channels: 8, dtype: 'float16' },
] as const;

describe('observe-activations', () => {
  it('adds the outputs it names, after those of the model', () => {
    const made = build();
    const outputs: ObserverOutputs[] = [];
    expect(observeActivations({ values, tokens: 16, outputs }).run(made)).toBeDefined();
    const added = outputs.flatMap(({ min, max, sample }) => [min, max, sample]);
    expect(outputs).toHaveLength(2);
    expect(made.graph.outputs.map(({ name }) => name)).toEqual(['y', ...added]);
    expect(new Set(added).size).toBe(6);
    const dims = Object.fromEntries(made.graph.outputs.map(({ name, dims }) => [name, dims]));
    expect(dims[outputs[1]?.min ?? '']).toEqual([8]);
    expect(dims[outputs[1]?.sample ?? '']).toEqual([null, 8]);
  });

  it('leaves the nodes of the model in front, and makes every value before it is read', () => {
    const made = build();
    observeActivations({ values, tokens: 16, outputs: [] }).run(made);
    expect(made.graph.nodes.slice(0, 2).map(({ name }) => name)).toEqual(['a', 'y']);
    const known = new Set([...made.graph.inputs.map(({ name }) => name), ...made.graph.initializers.keys(), '']);
    for (const { inputs, outputs } of made.graph.nodes) {
      expect(inputs.filter((name) => !known.has(name))).toEqual([]);
      for (const name of outputs) {
        expect(known.has(name)).toBe(false);
        known.add(name);
      }
    }
    expect(made.graph.outputs.filter(({ name }) => !known.has(name))).toEqual([]);
  });

  it('asks for jitter where it samples, and not where it takes all tokens', () => {
    const [sampling, all] = [build(), build()];
    observeActivations({ values, tokens: 16, outputs: [] }).run(sampling);
    observeActivations({ values, tokens: 'all', outputs: [] }).run(all);
    expect(sampling.graph.inputs.at(-1)).toEqual({ name: JITTER_INPUT, dtype: 'float64', dims: [16] });
    expect(all.graph.inputs.map(({ name }) => name)).toEqual(['x']);
  });

  it('casts what is not float32, and nothing else, where it takes all tokens', () => {
    const made = build();
    observeActivations({ values, tokens: 'all', outputs: [] }).run(made);
    const casts = made.graph.nodes.filter(({ opType }) => opType === 'Cast');
    expect(casts.map((cast) => cast.intAttribute('to', 0))).toEqual([1]);
  });

  it.each([
    [17, 1, [0]],
    [18, 2, undefined],
  ])('gives opset %i its reductions with %i inputs', (opset, inputs, axes) => {
    const made = build(opset);
    observeActivations({ values, tokens: 'all', outputs: [] }).run(made);
    const reductions = made.graph.nodes.filter(({ opType }) => /^Reduce(Min|Max)$/.test(opType));
    expect(reductions).toHaveLength(4);
    for (const reduction of reductions) {
      expect(reduction.inputs).toHaveLength(inputs);
      const attribute = reduction.attribute('axes');
      expect(attribute?.type === 'ints' ? attribute.value : undefined).toEqual(axes);
      expect(reduction.intAttribute('keepdims', 1)).toBe(0);
    }
  });

  it('changes nothing the second time', () => {
    const made = build();
    const pass = observeActivations({ values, tokens: 16, outputs: [] });
    pass.run(made);
    const once = encodeModel(made);
    expect(pass.run(made)).toBeUndefined();
    expect(Buffer.from(encodeModel(made)).equals(once)).toBe(true);
  });

  it('says whether it changed the model, where there is nothing to observe too', () => {
    const made = build();
    const before = Buffer.from(encodeModel(made));
    const modified = observeActivations({ values: [], tokens: 16, outputs: [] }).run(made);
    expect(before.equals(encodeModel(made))).toBe(!modified);
  });

  it('needs opset 13', () => {
    const pass = observeActivations({ values, tokens: 'all', outputs: [] });
    expectRefusal(() => runPasses(build(12), [pass]), 'MODEL_UNSUPPORTED');
  });
});
