import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DEFAULT_PERCENTILE } from '../quantize/options.js';
import { isInt8 } from '../quantize/precision.js';
import { searchMarkdown } from '../report/search.js';
import { search } from '../search/search.js';
import { quantizeByPlan } from './quantized.js';
import { MADE, quantizeCommand, type Rung, type RungSettings } from './rung.js';

/** Linears given back to their precision, as few bytes of them as pass. */
export const layers: Rung = {
  name: 'layers',
  applies: ({ plan }) => Object.values(plan.linears).some(({ precision }) => isInt8(precision)),
  does: (settings) =>
    `linears given back to their precision, ${percent(settings)} of the saved bytes at most (wanq search)`,
  costs: 'the bytes and the INT8 speed of what is given back; the time of a sensitivity and of several evaluations',
  commands: (context) => {
    const { failing, calibration, base, searching, stem, giveBack } = context;
    const by = ['--plan', base, '--calibration', calibration];
    return [
      [
        ...['wanq', 'search', failing.reference, ...by, ...searching],
        ...['--give-back', String(100 * giveBack), '-o', `${stem}-layers.json`],
      ],
      quantizeCommand(context, 'layers', `${stem}-layers.json`),
    ];
  },
  run: async (attempt) => {
    const { failing, calibration, base, known, measured, rules, shared, cache, work, signal, onProgress } = attempt;
    const { sensitivityBudget, evaluations, budgetMs, giveBack } = attempt;
    const output = path.join(work, 'plan.json');
    const { plan, trials, complete, sensitivity, chosen } = await search({
      ...measured,
      ...{ pipeline: failing.reference, components: failing.quantized, calibration, plan: base },
      // The plan goes before these.
      ...{
        scheme: 'blocks',
        target: failing.plan.target,
        method: failing.plan.method,
        percentile: DEFAULT_PERCENTILE,
        keep: [],
      },
      ...{ rules, shared, known, sensitivityBudget, evaluations, budgetMs, giveBack, cache, output, signal },
      onProgress,
    });
    const linears = Object.keys(sensitivity.linears).length;
    // What gives everything back is the reference, and no remedy.
    if (plan && chosen?.givenBack.length !== linears) {
      await quantizeByPlan(attempt, output);
      return MADE;
    }
    const plans = trials.map((trial) => ({ ...trial, passed: trial.verdict.passed }));
    const report = searchMarkdown({ plans, chosen: undefined, linears, complete });
    await rm(output, { force: true });
    await writeFile(path.join(work, 'report.md'), report);
    const within = `with ${percent(attempt)} of the saved bytes given back at most`;
    return { made: false, why: `none ${complete ? '' : 'that was tried '}passes ${within}; ${trials.length} tried` };
  },
};

function percent({ giveBack }: RungSettings): string {
  return `${Number((100 * giveBack).toFixed(2))} %`;
}
