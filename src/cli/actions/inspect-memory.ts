import { type WeightMemory, weightMemory } from '../../analyze/memory.js';
import { forwardBytes } from '../../calibrate/memory.js';
import { WanqError } from '../../errors.js';
import type { Graph } from '../../ir/graph.js';
import type { VideoSize } from '../../pipeline/geometry.js';
import type { Component, PipelineFolder } from '../../pipeline/layout.js';
import { describePipeline } from '../../pipeline/open.js';
import { fixedDim } from '../../pipeline/signature.js';
import { formatBytes } from '../../report/format.js';
import { renderTable } from '../ui/table.js';

/** What a run from prompt to video opens, in the order in which wanq does; the VAE encoder is for clips of the user's alone. */
const OPENED: readonly Component[] = ['text_encoder', 'transformer', 'vae_decoder'];

/** The graphs of a pipeline, in the order in which they are listed. */
export type Graphs = ReadonlyMap<Component, Graph>;

/** Predicted memory of a pipeline, bytes. */
export interface PipelineMemory {
  readonly components: readonly (WeightMemory & { readonly component: Component })[];
  /** Of one forward of the transformer on the CPU provider; null where no size is known. */
  readonly activations: { readonly bytes: number; readonly size: readonly [number, number, number] } | null;
  /** All components that a run opens, held at once. */
  readonly together: WeightMemory;
  /** The largest of them: as wanq runs them, one after the other. */
  readonly oneByOne: WeightMemory;
}

/**
 * Weights of every component, the transformer's activations where a size is given or the VAE decoder's graph fixes one, and both peaks.
 * @throws WanqError USAGE for a size that does not fit
 */
export async function pipelineMemory(folder: PipelineFolder, graphs: Graphs, size: VideoSize): Promise<PipelineMemory> {
  const components = [...graphs].map(([component, graph]) => ({ component, ...weightMemory(graph) }));
  const activations = await activationsOf(folder, graphs, size);
  const opened = components.filter(({ component }) => OPENED.includes(component));
  const running = opened.map(({ component, stored, cpu }) => ({
    stored,
    cpu: cpu + (component === 'transformer' ? (activations?.bytes ?? 0) : 0),
  }));
  const over = (of: (values: number[]) => number): WeightMemory => ({
    stored: of(running.map(({ stored }) => stored)),
    cpu: of(running.map(({ cpu }) => cpu)),
  });
  return {
    components,
    activations,
    together: over((values) => values.reduce((sum, value) => sum + value, 0)),
    oneByOne: over((values) => Math.max(...values)),
  };
}

async function activationsOf(
  folder: PipelineFolder,
  graphs: Graphs,
  size: VideoSize,
): Promise<PipelineMemory['activations']> {
  const given = Object.values(size).some((side) => side !== undefined);
  const transformer = graphs.get('transformer');
  if (!transformer || (!given && !decodesOneSize(graphs))) return null;
  try {
    const shape = await describePipeline(folder, size);
    const bytes = forwardBytes(transformer, shape, textTokens(graphs), await folder.transformerConfig());
    const { frames, height, width } = shape.video;
    return { bytes, size: [frames, height, width] };
  } catch (error) {
    // A transformer that cannot be fed has no forward; what it weighs can be told all the same.
    if (given || !(error instanceof WanqError)) throw error;
    return null;
  }
}

function decodesOneSize(graphs: Graphs): boolean {
  const latents = graphs.get('vae_decoder')?.inputs[0];
  return [2, 3, 4].every((axis) => fixedDim(latents, axis) !== undefined);
}

/** Tokens of a prompt: what the encoder's graph fixes, else Wan2.2's. */
function textTokens(graphs: Graphs): number {
  const ids = graphs.get('text_encoder')?.inputs.find(({ name }) => name === 'input_ids');
  return fixedDim(ids, 1) ?? 512;
}

/** The prediction as a table, with what it holds and what it leaves out. */
export function memoryText({ components, activations, together, oneByOne }: PipelineMemory): string {
  const row = (what: string, { stored, cpu }: WeightMemory): string[] => [what, formatBytes(stored), formatBytes(cpu)];
  const size = activations?.size.join(' x ');
  const table = renderTable(
    ['held in memory', 'as stored (GPU)', 'CPU provider'],
    [
      ...components.map(({ component, ...memory }) => row(`${component}, weights`, memory)),
      ...(activations ? [[`transformer, activations of ${size}`, '-', formatBytes(activations.bytes)]] : []),
      row(`peak, ${OPENED.join(' + ')} at once`, together),
      row('peak, one after the other', oneByOne),
    ],
    [1, 2],
  );
  const left = activations
    ? 'Activations: of the transformer on the CPU provider, an estimate; none on a GPU.'
    : 'Weights alone: give --frames, --height and --width for an estimate of the transformer’s activations.';
  return `${table}\n${left} Not in it: activations of text encoder and VAE, the runtime itself.`;
}
