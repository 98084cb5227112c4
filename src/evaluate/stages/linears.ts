import { concatenated } from '../../numerics/concatenated.js';
import { fingerprint, type LoadedModel, loadModel } from '../../onnx/load.js';
import { NORMALIZE } from '../../passes/normalize.js';
import { runPasses } from '../../passes/pass.js';
import { replaceWeights } from '../../passes/replace-weights.js';
import type { DenoiserInput } from '../../pipeline/denoise.js';
import { type PipelineFolder, PLAN_NAME } from '../../pipeline/layout.js';
import { openWeights } from '../../quantize/other-weights.js';
import { type PlanFile, readPlan } from '../../quantize/plan-file.js';
import type { LinearRow } from '../../report/results.js';
import { exists } from '../../util/files.js';
import { type LinearPair, pairLinears } from '../linears/pairs.js';
import { linearRows, type RowsOf } from '../linears/rows.js';
import { TappedTransformer, type TappedValue } from '../linears/taps.js';
import type { RunContext } from '../runs.js';
import type { Workbench } from '../workbench.js';
import { keys, LABELS } from './models.js';

/** Takes, and steps of each, at which the linears are looked at. */
const TAKES = 2;
const STEPS = 4;

/** First opset that values can be observed in. */
const OBSERVABLE_OPSET = 13;

/** Key of a model's metadata that says that its weights are not the reference's. */
const TRAINED = 'wanq.weights';

/** Tokens of each value in each of those forwards. */
const TOKENS = 32;

/**
 * Finds out before any model runs whether the files that {@link compareLinears} needs can be read.
 * @throws WanqError WEIGHTS_INVALID, PLAN_INVALID and those of reading files
 */
export async function checkLinears({ options, reference, quantized }: Workbench): Promise<void> {
  if (options.linears === false) return;
  await planOf(quantized);
  if (options.weights === undefined) return;
  const loaded = await loadModel(reference.modelPath('transformer'));
  try {
    const source = await fingerprint(loaded);
    runPasses(loaded.model, NORMALIZE);
    await openWeights(options.weights, loaded, loaded.model.graph, source);
  } finally {
    await loaded.close();
  }
}

async function planOf(quantized: PipelineFolder): Promise<PlanFile | undefined> {
  const file = quantized.path('transformer', PLAN_NAME);
  return (await exists(file)) ? readPlan(file) : undefined;
}

/**
 * Holds every linear of the quantized transformer against the reference's by itself, on tokens from the reference's trajectories.
 * @returns none where it was not asked for, or a graph is too old
 */
export async function compareLinears(bench: Workbench, context: RunContext): Promise<LinearRow[]> {
  if (bench.options.linears === false) return [];
  const [reference, quantized] = [
    await loadModel(bench.reference.modelPath('transformer')),
    await loadModel(bench.quantized.modelPath('transformer')),
  ];
  try {
    // Observers are written in later operators than these.
    if ([reference, quantized].some(({ model }) => model.opset < OBSERVABLE_OPSET)) return [];
    const source = await fingerprint(reference);
    runPasses(reference.model, NORMALIZE);
    const pairs = pairLinears(reference.model, quantized.model);
    const inputs = await tappedInputs(bench, context);
    bench.begin('linears', 2 * inputs.length + pairs.length);
    const ofReference = pairs.map(({ linear }) => ({ value: linear.activation, channels: linear.inFeatures }));
    const ofTheReference = await tap(bench, 'reference', bench.referenceDevice, reference, ofReference, inputs);
    const ofTheQuantized = await tap(bench, 'quantized', bench.options.device, quantized, valuesOf(pairs), inputs);
    const plan = await planOf(bench.quantized);
    const { sensitivities, weights } = bench.options;
    const trained = weights !== undefined && (await openWeights(weights, reference, reference.model.graph, source));
    if (trained) runPasses(reference.model, [replaceWeights(trained.replaced)]);
    const comparable = !quantized.model.metadata.has(TRAINED) || trained !== false;
    const rows = await bench.withHost('cpu', null, (host) =>
      linearRows(trained ? pairLinears(reference.model, quantized.model) : pairs, {
        ...{ host, reference, quantized, plan, sensitivities, comparable },
        rowsOfReference: ofTheReference.of,
        rowsOfQuantized: ofTheQuantized.of,
        step: (name, make) => bench.step(name, make),
        onLinear: () => bench.tick(),
      }),
    );
    // Gigabytes of a large model.
    for (const key of [...ofTheReference.keys, ...ofTheQuantized.keys]) await bench.scratch.remove(key);
    return rows;
  } finally {
    await reference.close();
    await quantized.close();
  }
}

function valuesOf(pairs: readonly LinearPair[]): TappedValue[] {
  return pairs.flatMap(({ linear, input, output }) => [
    { value: input, channels: linear.inFeatures },
    { value: output, channels: linear.outFeatures },
  ]);
}

/** Enters which providers took the nodes of both transformers. */
export async function enterPlacements(bench: Workbench, context: RunContext): Promise<void> {
  const [input] = await tappedInputs(bench, context, 1, 1);
  if (!input) return;
  const { reference, quantized, referenceDevice, options } = bench;
  await bench.enterPlacement(LABELS.reference, reference.modelPath('transformer'), referenceDevice, input);
  await bench.enterPlacement(LABELS.quantized, quantized.modelPath('transformer'), options.device, input);
}

/** Evenly spaced steps of the first takes' trajectories. */
async function tappedInputs(
  bench: Workbench,
  context: RunContext,
  takes = TAKES,
  stepsEach = STEPS,
): Promise<DenoiserInput[]> {
  const { timesteps } = context.makeScheduler(context.steps);
  const count = Math.min(stepsEach, timesteps.length);
  const steps = Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * timesteps.length) / count));
  const inputs: DenoiserInput[] = [];
  for (const [i, { prompt }] of bench.inspected.slice(0, takes).entries()) {
    for (const step of steps) {
      inputs.push({
        latents: await bench.scratch.get(`${keys.record(i)}-${step}`),
        shape: context.shape,
        timestep: timesteps[step] as number,
        text: await context.embeddings.get(prompt),
      });
    }
  }
  return inputs;
}

/** Samples values of a model; rows of each, those of all inputs one behind the other, go to the scratch folder. */
async function tap(
  bench: Workbench,
  name: string,
  device: string,
  loaded: LoadedModel,
  values: readonly TappedValue[],
  inputs: readonly DenoiserInput[],
): Promise<TappedRows> {
  const distinct = [...new Map(values.map((value) => [value.value, value])).values()];
  const keys = new Map(distinct.map(({ value }, i) => [value, `${name}-value${i}`]));
  await bench.step(`values of the ${name}`, async () => {
    const parts = new Map<string, Float32Array[]>(distinct.map(({ value }) => [value, []]));
    await bench.withHost(device, null, async (host, options) => {
      const source = { loaded, face: bench.shape, options };
      const tapped = await TappedTransformer.open(host, source, distinct, TOKENS);
      for (const [i, input] of inputs.entries()) {
        for (const [value, rows] of await tapped.run(input, i)) parts.get(value)?.push(rows);
        bench.tick();
      }
    });
    for (const [value, rows] of parts) await bench.scratch.put(keys.get(value) as string, concatenated(rows));
  });
  return { of: (value) => bench.scratch.get(keys.get(value) as string), keys: [...keys.values()] };
}

interface TappedRows {
  readonly of: RowsOf;
  /** Of the scratch folder. */
  readonly keys: readonly string[];
}
