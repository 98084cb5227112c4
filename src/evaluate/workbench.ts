import path from 'node:path';
import { printable, WanqError } from '../errors.js';
import { median } from '../numerics/stats.js';
import { type DenoiserInput, transformerFeeds } from '../pipeline/denoise.js';
import { PipelineFolder } from '../pipeline/layout.js';
import { describePipeline, openDenoiser, type PipelineShape } from '../pipeline/open.js';
import type { DeviceRow } from '../report/results.js';
import { DeviceMemory } from '../runtime/device-memory.js';
import { RuntimeHost } from '../runtime/host.js';
import { nodePlacement } from '../runtime/placement.js';
import type { ModelSource, SessionInfo, SessionOptions } from '../runtime/protocol.js';
import { providersFor } from '../runtime/providers.js';
import { Scratch } from '../util/scratch.js';
import type { EvaluateOptions } from './options.js';
import { ModelRuns, type RunContext, type Take } from './runs.js';

/** What one model's session left behind. */
export interface ModelOutcome {
  readonly provider: string;
  readonly runtimeVersion: string;
  readonly peakBytes: number;
  readonly forwardMs: number;
}

/** What the stages of an evaluation share: pipelines, takes, the scratch folder, runtime processes, and what is counted along the way. */
export class Workbench {
  readonly options: EvaluateOptions;
  readonly reference: PipelineFolder;
  readonly quantized: PipelineFolder;
  readonly shape: PipelineShape;
  readonly scratch: Scratch;
  readonly takes: readonly Take[];
  readonly devices: DeviceRow[] = [];
  /** Wall time in which models were loaded or ran, ms. */
  modelMs = 0;
  #stage = '';
  #done = 0;
  #total = 0;

  private constructor(
    options: EvaluateOptions,
    folders: { readonly reference: PipelineFolder; readonly quantized: PipelineFolder },
    shape: PipelineShape,
    scratch: Scratch,
  ) {
    this.options = options;
    this.reference = folders.reference;
    this.quantized = folders.quantized;
    this.shape = shape;
    this.scratch = scratch;
    this.takes = options.prompts
      .flatMap((prompt) => new Array<string>(options.seedsPerPrompt).fill(prompt))
      .map((prompt, i) => ({ prompt, seed: options.seed + i }));
  }

  /** @throws WanqError USAGE, PROMPTS_EMPTY, PIPELINE_INVALID and those of the pipelines */
  static async open(options: EvaluateOptions): Promise<Workbench> {
    for (const count of ['seedsPerPrompt', 'inspected'] as const) {
      if (!(options[count] >= 1)) throw new WanqError('USAGE', `${count} must be at least 1, and is ${options[count]}`);
    }
    if (options.prompts.length === 0) throw new WanqError('PROMPTS_EMPTY', 'there are no prompts to evaluate');
    const reference = await PipelineFolder.open(options.reference);
    const quantized = await PipelineFolder.open(options.quantized);
    const shape = await describePipeline(reference, options);
    const other = await describePipeline(quantized, options);
    if (JSON.stringify(shape.latents) !== JSON.stringify(other.latents)) {
      throw new WanqError(
        'PIPELINE_INVALID',
        `${printable(options.quantized)} makes other latents than the reference`,
        { hint: 'compare a pipeline with the one it was quantized from' },
      );
    }
    const scratch = options.journal?.scratch ?? options.shared?.scratch ?? (await Scratch.open());
    return new Workbench(options, { reference, quantized }, shape, scratch);
  }

  async close(): Promise<void> {
    if (!this.options.shared && !this.options.journal) await this.scratch.close();
  }

  /** Takes that get all measurements. */
  get inspected(): readonly Take[] {
    return this.takes.slice(0, this.options.inspected);
  }

  /** Position of a take's prompt. */
  promptOf(take: number): number {
    return Math.floor(take / this.options.seedsPerPrompt);
  }

  /** Device the reference runs on. */
  get referenceDevice(): string {
    return this.options.deviceReference ?? this.options.device;
  }

  /** Device the VAE and the networks that look at videos run on. */
  get vaeDevice(): string {
    return this.options.deviceVae ?? this.options.device;
  }

  /** A part of the evaluation; one that an interrupted run finished is taken over. @returns a value of JSON, or undefined */
  step<T>(name: string, make: () => Promise<T>): Promise<T> {
    return this.options.journal?.once(name, make) ?? make();
  }

  /** A {@link step} that opens runtime processes, whose devices are taken over with it. */
  async stage<T>(name: string, make: () => Promise<T>): Promise<T> {
    const { value, devices } = await this.step(name, async () => {
      const before = this.devices.length;
      return { value: await make(), devices: this.devices.slice(before) };
    });
    this.#enter(devices);
    return value;
  }

  /** A {@link stage} that is the same for all evaluations that share their reference: it is made for the first of them. */
  once<T>(what: string, make: () => Promise<T>): Promise<T> {
    return this.options.shared?.once(what, () => this.stage(what, make)) ?? this.stage(what, make);
  }

  #enter(rows: readonly DeviceRow[]): void {
    for (const row of rows)
      if (!this.devices.some(({ component }) => component === row.component)) this.devices.push(row);
  }

  /**
   * Lends a runtime process, and enters where its sessions ran.
   * @param label of its sessions; undefined: the name of the folder that a model lies in; null: not to be entered
   */
  async withHost<T>(
    device: string,
    label: string | undefined | null,
    use: (host: RuntimeHost, session: SessionOptions) => Promise<T>,
  ): Promise<T> {
    const memory = new DeviceMemory();
    const sessions: { component: string; info: SessionInfo }[] = [];
    const host: RuntimeHost = new RuntimeHost({
      signal: this.options.signal,
      onSession: (info, source) => {
        memory.watch(info.provider, host.pid);
        if (label === null) return;
        const file = 'path' in source ? source.path : source.folder;
        sessions.push({ component: label ?? path.basename(path.dirname(file)), info });
      },
    });
    try {
      const result = await use(host, { providers: providersFor(device) });
      const { peakBytes } = await host.status();
      const deviceBytes = memory.stop();
      const rows = sessions.map(({ component, info }) => {
        const refused = info.refused.map(({ provider, reason }) => ({ provider, reason: printable(reason, 240) }));
        return { component, asked: device, ran: info.provider, refused, nodes: null, peakBytes, deviceBytes };
      });
      this.#enter(rows);
      return result;
    } finally {
      memory.stop();
      this.modelMs += host.busyMs;
      await host.close();
    }
  }

  /** Enters which providers took the nodes of a transformer; of the CPU's own there is nothing to tell. */
  async enterPlacement(label: string, file: string, device: string, input: DenoiserInput): Promise<void> {
    const row = this.devices.findIndex(({ component }) => component === label);
    const entered = this.devices[row];
    if (!entered || entered.ran === 'cpu') return;
    const nodes = await this.withHost(device, null, (host) => {
      const source = { path: file };
      const options = { providers: [entered.ran] };
      return nodePlacement(host, { source, options, feeds: transformerFeeds(this.shape, input) }, this.scratch.folder);
    });
    this.devices[row] = { ...entered, nodes };
  }

  /** Runs a transformer in a process of its own, so that memory is measured for each and only one has to fit. */
  runModel<T>(
    label: string,
    source: ModelSource,
    device: string,
    context: RunContext,
    use: (runs: ModelRuns) => Promise<T>,
    session: Partial<SessionOptions> = {},
  ): Promise<{ result: T; outcome: ModelOutcome }> {
    return this.withHost(device, label, async (host, options) => {
      const denoiser = await openDenoiser(host, source, { ...options, ...session }, this.shape);
      const runs = new ModelRuns(denoiser, context);
      const result = await use(runs);
      const { peakBytes, runtimeVersion } = await host.status();
      const { provider } = denoiser.session.info;
      return { result, outcome: { provider, runtimeVersion, peakBytes, forwardMs: median(runs.times) } };
    });
  }

  begin(stage: string, total: number): void {
    this.#stage = stage;
    this.#total = total;
    this.#done = 0;
    this.#report();
  }

  tick(): void {
    this.#done++;
    this.#report();
  }

  #report(): void {
    this.options.onProgress?.({ stage: this.#stage, done: this.#done, total: this.#total });
  }
}

export async function inSequence<T, R>(items: readonly T[], use: (item: T, index: number) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const [index, item] of items.entries()) results.push(await use(item, index));
  return results;
}
