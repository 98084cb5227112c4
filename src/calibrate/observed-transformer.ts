import type { Boundary } from '../analyze/boundaries.js';
import { WanqError } from '../errors.js';
import type { Model } from '../ir/graph.js';
import { decodeModel, withGraph } from '../onnx/codec.js';
import type { LoadedModel } from '../onnx/load.js';
import { fuseTransposedWeights } from '../passes/fuse-transposed-weights.js';
import { NORMALIZE } from '../passes/normalize.js';
import {
  magnitudeOutput,
  type ObservedValue,
  type ObserverOutputs,
  observeActivations,
} from '../passes/observe-activations.js';
import { runPasses } from '../passes/pass.js';
import { removeUnused } from '../passes/remove-unused.js';
import { type Segment, splitGraph } from '../passes/split-graph.js';
import { type DenoiserInput, type TransformerFace, transformerFeeds, velocityOf } from '../pipeline/denoise.js';
import type { RuntimeHost, Session } from '../runtime/host.js';
import type { Feed, ModelSource, SessionOptions } from '../runtime/protocol.js';
import { type HostTensor, toFloat32 } from '../runtime/tensor.js';

/** One forward to run. */
export interface ObservedCall {
  readonly input: DenoiserInput;
  /** Further inputs that the observers read. */
  readonly feeds: Readonly<Record<string, HostTensor>>;
}

/** Statistics of one activation in one forward. */
export interface Observation {
  readonly min: Float32Array;
  readonly max: Float32Array;
  readonly sample: Float32Array;
}

/** Receives what is observed of a forward; `call` is its position among those of a step. */
export interface Observer {
  /** @param activation position among the observed values */
  activation(call: number, activation: number, observation: Observation): void;
  /** @param output position among the observed outputs; @param magnitude largest in this forward */
  output(call: number, output: number, magnitude: number): void;
}

/** A transformer with observers, which runs the branches of a step together. */
export interface ObservedTransformer {
  readonly provider: string;
  /** Pieces it runs in. */
  readonly segments: number;
  /** @returns one velocity for each call */
  run(calls: readonly ObservedCall[], observer: Observer): Promise<Float32Array[]>;
}

/** A transformer and what to observe of it. */
export interface ObservedSource {
  readonly loaded: LoadedModel;
  readonly face: TransformerFace;
  readonly values: readonly ObservedValue[];
  /** Values of which the largest magnitude is observed. */
  readonly magnitudes: readonly string[];
  /** Rows sampled a forward, or all. */
  readonly tokens: number | 'all';
}

/**
 * Opens a transformer for calibration on the first provider that takes it. Changes the loaded model.
 *
 * @param cuts where to run it in segments on the CPU; none: whole
 * @throws WanqError PROVIDER_UNAVAILABLE, RUNTIME_FAILED
 */
export async function openTransformer(
  host: RuntimeHost,
  source: ObservedSource,
  providers: readonly string[],
  cuts: readonly Boundary[],
): Promise<ObservedTransformer> {
  const others = providers.filter((provider) => provider !== 'cpu');
  const { model, bytes } = source.loaded;
  if (others.length > 0) {
    try {
      // On a copy: the observers of the CPU's segments are others.
      const copy = decodeModel(bytes);
      runPasses(copy, NORMALIZE);
      return await openWhole(host, { ...source, model: copy }, { providers: others });
    } catch (error) {
      if (others.length === providers.length || !(error instanceof WanqError) || error.code === 'RUNTIME_CRASHED')
        throw error;
    }
  }
  const observed = { ...source, model };
  return cuts.length > 0 ? openSegments(host, observed, cuts) : openWhole(host, observed, { providers: ['cpu'] });
}

interface ObservedModel extends ObservedSource {
  /** The one to observe: the loaded one or a copy of it. */
  readonly model: Model;
}

/**
 * Weights stay mapped from their file and every run allocates afresh: the same kernels on the same data whether the model is run whole or in
 * segments, so that the statistics do not depend on the memory there was.
 */
const MAPPED = { prepack: false, memoryPattern: false } as const;

/** Opens the whole graph in one session. Changes `model`. */
async function openWhole(
  host: RuntimeHost,
  { loaded, model, face, values, magnitudes, tokens }: ObservedModel,
  options: SessionOptions,
): Promise<ObservedTransformer> {
  const outputs: ObserverOutputs[] = [];
  const onCpu = options.providers[0] === 'cpu';
  const forCpu = onCpu ? [fuseTransposedWeights, removeUnused] : [];
  runPasses(model, [observeActivations({ values, magnitudes, tokens, outputs }), ...forCpu]);
  const source = await loaded.encoded(model);
  const session = await host.createSession(source, { ...options, ...(onCpu ? MAPPED : {}) });
  const { output } = face.signature;
  const indices = [...magnitudes.keys()];
  const fetches = [output, ...namesOf(outputs), ...indices.map(magnitudeOutput)];
  return {
    provider: session.info.provider,
    segments: 1,
    // All calls are sent at once: while the runtime works on one, the statistics of the one before are added up here.
    run: (calls, observer) =>
      Promise.all(
        calls.map(async ({ input, feeds }, call) => {
          const result = await session.run({ ...transformerFeeds(face, input), ...feeds }, fetches);
          report(outputs, result.outputs, (activation, observation) =>
            observer.activation(call, activation, observation),
          );
          reportMagnitudes(indices, result.outputs, (i, magnitude) => observer.output(call, i, magnitude));
          return velocityOf(result.outputs[output] as HostTensor, input.timestep);
        }),
      ),
  };
}

/**
 * Runs the graph in segments, one in memory at a time, each for all calls of a step. What passes from one segment to the next stays in
 * the runtime's process. On the CPU provider only. Changes `model`.
 */
async function openSegments(
  host: RuntimeHost,
  { loaded, model, face, values, magnitudes, tokens }: ObservedModel,
  cuts: readonly Boundary[],
): Promise<ObservedTransformer> {
  const segments = splitGraph(model, cuts);
  const lastTaker = new Map<string, number>();
  segments.forEach(({ takes }, i) => {
    for (const name of takes) lastTaker.set(name, i);
  });
  const seen = new Set<string>();
  const parts: SegmentPart[] = [];
  for (const [i, segment] of segments.entries()) {
    const read = new Set(segment.graph.nodes.flatMap(({ inputs }) => inputs));
    const own = [...values.entries()].filter(([, { value }]) => read.has(value) && !seen.has(value));
    for (const [, { value }] of own) seen.add(value);
    const outputs: ObserverOutputs[] = [];
    const made = new Set(segment.graph.nodes.flatMap((node) => node.outputs));
    const ownMagnitudes = [...magnitudes.entries()].filter(([, value]) => made.has(value));
    const part = withGraph(model, segment.graph);
    runPasses(part, [
      observeActivations({
        values: own.map(([, value]) => value),
        magnitudes: ownMagnitudes.map(([, value]) => value),
        tokens,
        outputs,
      }),
      fuseTransposedWeights,
      removeUnused,
    ]);
    parts.push({
      segment,
      source: await loaded.encoded(part),
      inputs: new Set(part.graph.inputs.map(({ name }) => name)),
      outputs,
      activations: own.map(([index]) => index),
      magnitudes: ownMagnitudes.map(([index]) => index),
      done: [...lastTaker].flatMap(([name, last]) => (last === i ? [name] : [])),
    });
  }
  return {
    provider: 'cpu',
    segments: parts.length,
    async run(calls, observer) {
      const velocities: Float32Array[] = [];
      for (const part of parts) {
        const session = await host.createSession(part.source, { providers: ['cpu'], ...MAPPED });
        await Promise.all(
          calls.map(async (call, index) => {
            const results = await runSegment(session, part, face, call, index);
            report(part.outputs, results, (i, observation) =>
              observer.activation(index, part.activations[i] as number, observation),
            );
            reportMagnitudes(part.magnitudes, results, (i, magnitude) => observer.output(index, i, magnitude));
            const output = results[face.signature.output];
            if (output) velocities[index] = velocityOf(output, call.input.timestep);
          }),
        );
        await session.release();
        await host.drop(calls.flatMap((_, index) => part.done.map((name) => keyOf(index, name))));
      }
      return velocities;
    },
  };
}

interface SegmentPart {
  readonly segment: Segment;
  readonly source: ModelSource;
  /** All inputs of the graph, those of observers included. */
  readonly inputs: ReadonlySet<string>;
  readonly outputs: readonly ObserverOutputs[];
  /** Positions of the observed values, in the order of `outputs`. */
  readonly activations: readonly number[];
  /** Positions of the observed outputs. */
  readonly magnitudes: readonly number[];
  /** Values that no later segment takes. */
  readonly done: readonly string[];
}

async function runSegment(
  session: Session,
  { segment, inputs, outputs, magnitudes }: SegmentPart,
  face: TransformerFace,
  call: ObservedCall,
  index: number,
): Promise<Readonly<Record<string, HostTensor>>> {
  const feeds: Record<string, Feed> = Object.fromEntries(
    Object.entries({ ...transformerFeeds(face, call.input), ...call.feeds }).filter(([name]) => inputs.has(name)),
  );
  for (const name of segment.takes) feeds[name] = { held: keyOf(index, name) };
  const fetches = [...segment.outputs, ...namesOf(outputs), ...magnitudes.map((_, i) => magnitudeOutput(i))];
  const holds = Object.fromEntries(segment.gives.map((name) => [name, keyOf(index, name)]));
  return (await session.run(feeds, fetches, holds)).outputs;
}

function keyOf(call: number, value: string): string {
  return `${call}/${value}`;
}

function namesOf(outputs: readonly ObserverOutputs[]): string[] {
  return outputs.flatMap(({ min, max, sample }) => [min, max, sample]);
}

function report(
  outputs: readonly ObserverOutputs[],
  results: Readonly<Record<string, HostTensor>>,
  observe: (activation: number, observation: Observation) => void,
): void {
  const floats = (name: string): Float32Array => toFloat32(results[name] as HostTensor);
  outputs.forEach(({ min, max, sample }, i) => {
    observe(i, { min: floats(min), max: floats(max), sample: floats(sample) });
  });
}

/** @param positions among all observed outputs, in the order of those of this graph */
function reportMagnitudes(
  positions: readonly number[],
  results: Readonly<Record<string, HostTensor>>,
  report: (position: number, magnitude: number) => void,
): void {
  for (const [i, position] of positions.entries()) {
    report(position, toFloat32(results[magnitudeOutput(i)] as HostTensor)[0] as number);
  }
}
