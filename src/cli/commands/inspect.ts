import { summarize } from '../../analyze/inspect.js';
import { printable } from '../../errors.js';
import type { Value } from '../../ir/graph.js';
import { loadGraph } from '../../onnx/load.js';
import { COMPONENTS, PipelineFolder } from '../../pipeline/layout.js';
import { planPipeline } from '../../quantize/quantize.js';
import { SCHEMES } from '../../quantize/scheme.js';
import { formatBytes } from '../../report/format.js';
import type { CommandModule } from '../command.js';
import { renderTable } from '../ui/table.js';

export const inspectCommand: CommandModule = {
  define: (command) =>
    command
      .name('inspect')
      .description('show what a pipeline is made of and how small each scheme makes it; reads no weights')
      .argument('<pipeline>', 'pipeline folder'),
  async run(context, { positional }) {
    const [pipeline] = positional as [string];
    const folder = await PipelineFolder.open(pipeline);
    const components = [];
    for (const name of COMPONENTS) {
      if (!(await folder.has(name))) continue;
      const { graph, opset } = await loadGraph(folder.modelPath(name));
      components.push({ name, ...summarize(graph, opset) });
    }
    const schemes = [];
    for (const scheme of SCHEMES) {
      const plan = await planPipeline({
        pipeline,
        scheme,
        target: 'ort-cpu',
        method: 'kl',
        percentile: 99.999,
        keep: [],
      }).catch((error: Error) => ({ note: error.message }));
      schemes.push(
        'note' in plan
          ? { scheme, ...plan }
          : { scheme, bytes: plan.bytesAfter, share: plan.bytesAfter / plan.bytesBefore },
      );
    }
    if (context.json) {
      context.print(JSON.stringify({ pipeline, components, schemes }, null, 2));
      return undefined;
    }
    for (const { name, inputs, outputs, nodes, opset, parameters, bytes } of components) {
      context.print(
        `${name}: ${nodes} nodes, opset ${opset}, ${millions(parameters)} parameters, ${formatBytes(bytes)}`,
      );
      for (const value of inputs) context.print(`  in   ${describe(value)}`);
      for (const value of outputs) context.print(`  out  ${describe(value)}`);
    }
    const transformer = components.find(({ name }) => name === 'transformer');
    context.print(`\nLinears of the transformer (${transformer?.blocks ?? 0} blocks):`);
    context.print(
      renderTable(
        ['role', 'count', 'parameters', 'bytes', 'known by'],
        (transformer?.roles ?? []).map(({ role, count, parameters, bytes, evidence }) => [
          role,
          String(count),
          millions(parameters),
          formatBytes(bytes),
          evidence,
        ]),
        [1, 2, 3],
      ),
    );
    context.print('\nSize of the transformer after `wanq quantize`:');
    context.print(
      renderTable(
        ['scheme', 'bytes', 'of now'],
        [
          ['as it is', formatBytes(transformer?.bytes ?? 0), '100.0 %'],
          ...schemes.map((row) =>
            'note' in row
              ? [row.scheme, '-', row.note]
              : [row.scheme, formatBytes(row.bytes), `${(100 * row.share).toFixed(1)} %`],
          ),
        ],
        [1, 2],
      ),
    );
    return undefined;
  },
};

function describe({ name, dtype, dims }: Value): string {
  return printable(`${name}: ${dtype ?? '?'} [${dims?.map((dim) => dim ?? '?').join(', ') ?? '...'}]`);
}

function millions(parameters: number): string {
  return parameters >= 1e9 ? `${(parameters / 1e9).toFixed(3)} G` : `${(parameters / 1e6).toFixed(3)} M`;
}
