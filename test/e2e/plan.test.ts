import { beforeAll, describe, expect, it } from 'vitest';
import type { GraphSummary } from '../../src/analyze/inspect.js';
import { findLinears } from '../../src/analyze/linears.js';
import { loadModel } from '../../src/onnx/load.js';
import type { QuantPlan } from '../../src/quantize/plan.js';
import { Workplace } from '../helpers/cli.js';
import { MICRO_COMPONENTS, MICRO_PIPELINE } from '../helpers/fixtures.js';

const place = new Workplace();
const dry = ['quantize', MICRO_PIPELINE, '--dry-run'];
let roles: string[] = [];

/** The rows of a printed table, cell by cell. */
const cells = (table: string): string[][] =>
  table
    .split('\n')
    .filter((line) => line.startsWith('│'))
    .map((line) =>
      line
        .split('│')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );

beforeAll(async () => {
  place.write('prompts.txt', 'a small red circle');
  const sampling = ['--prompts', 'prompts.txt', '--steps', '1', '--guidance', '1', '--device', 'cpu'];
  await place.succeed(['calibrate', MICRO_PIPELINE, ...sampling, '-o', 'calibration']);
  const { model, close } = await loadModel(`${MICRO_PIPELINE}/transformer/model.onnx`);
  roles = findLinears(model.graph).map(({ role }) => role);
  await close();
});

describe('quantize --dry-run', () => {
  it('prints a row for every linear and writes nothing', async () => {
    const before = place.listing();
    const { stdout, stderr } = await place.succeed([...dry, '-o', 'out']);
    const [head, ...rows] = cells(stdout);
    expect(head).toEqual(['role', 'weight', 'decision', 'smooth', 'range', 'seen', 'clipped', 'tried', 'reason']);
    expect(rows.map(([role]) => role)).toEqual(roles);
    for (const [role = '', , decision, , range, , , , reason] of rows) {
      expect([role, decision, range]).toEqual([role, role.includes('.ffn.') ? 'int8' : 'keep', '']);
      expect(reason, role).not.toBe('');
    }
    expect(stdout.trimEnd().split('\n').at(-1)).toBe(
      'scheme ffn, target ort-cpu, method auto, smoothing auto, other linears fp32: 7.48 MB -> 4.84 MB of weights',
    );
    expect(stderr).toBe('');
    expect(place.listing()).toEqual(before);
  });

  it('prints ranges where there is a calibration', async () => {
    const before = place.listing();
    const { stdout } = await place.succeed([...dry, '--calibration', 'calibration', '--scheme', 'blocks']);
    const [, ...rows] = cells(stdout);
    expect(rows.map(([role]) => role)).toEqual(roles);
    for (const [role = '', , decision, , range, seen, clipped] of rows) {
      expect([role, decision]).toEqual([role, role.startsWith('blocks.') ? 'int8' : 'keep']);
      const pattern = decision === 'int8' ? /^-?[\d.e+-]+ \.\. -?[\d.e+-]+$/ : /^$/;
      expect(range, role).toMatch(pattern);
      expect(seen, role).toMatch(pattern);
      expect(clipped, role).toMatch(decision === 'int8' ? /^\d+\.\d{4} %$/ : /^$/);
    }
    expect(place.listing()).toEqual(before);
  });

  it('prints the plan as JSON, kept linears among its rows', async () => {
    const args = ['--calibration', 'calibration', '--keep', 'blocks.{0,-1}.*', '--json'];
    const { rows } = JSON.parse((await place.succeed([...dry, ...args])).stdout) as QuantPlan;
    expect(rows.map(({ role }) => role)).toEqual(roles);
    const int8 = rows.filter(({ decision }) => decision === 'int8');
    expect(int8.map(({ role }) => role)).toEqual(
      [1, 2, 3, 4].flatMap((n) => [`blocks.${n}.ffn.up`, `blocks.${n}.ffn.down`]),
    );
    for (const { role, activation: a } of int8) {
      expect(a?.scale, role).toBeGreaterThan(0);
      expect(a && a.min < a.max && a.low < a.high, role).toBe(true);
    }
    expect(rows.find(({ role }) => role === 'blocks.0.ffn.up')?.reason).toBe('named by --keep');
  });
});

describe('inspect --json', () => {
  it('tells components, roles and schemes', async () => {
    const { stdout, stderr } = await place.succeed(['inspect', MICRO_PIPELINE, '--json']);
    expect(stderr).toBe('');
    const { components, schemes } = JSON.parse(stdout) as {
      components: (GraphSummary & { name: string })[];
      schemes: { scheme: string; float: string; share: number }[];
    };
    expect(components.map(({ name }) => name)).toEqual([...MICRO_COMPONENTS]);
    const [transformer] = components;
    expect(transformer).toMatchObject({ blocks: 6, opset: 20 });
    expect(transformer?.roles.reduce((sum, { count }) => sum + count, 0)).toBe(roles.length);
    expect(transformer?.roles.find(({ role }) => role === 'blocks.*.ffn.up')).toMatchObject({
      count: 6,
      parameters: 6 * 128 * 576,
    });
    expect(schemes.map(({ scheme, float }) => `${scheme} ${float}`)).toEqual([
      ...['ffn fp32', 'ffn fp16', 'blocks fp32', 'blocks fp16'],
    ]);
    const shares = [0.648, 0.401, 0.336, 0.3];
    for (const [i, { share }] of schemes.entries()) expect(share).toBeCloseTo(shares[i] as number, 3);
  });
});
