import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DataTypeName } from '../../../../src/ir/dtype.js';
import { type DerivedForm, type MatrixFactor, Tensor } from '../../../../src/ir/tensor.js';
import { type Job, type Placed, planJobs } from '../../../../src/onnx/convert/jobs.js';

function external(name: string, offset: number, dims: readonly number[] = [2, 3], location = 'data'): Tensor {
  const length = 4 * dims.reduce((a, b) => a * b, 1);
  return new Tensor(name, 'float32', dims, { kind: 'external', location, offset, length });
}

const TYPES: Record<DerivedForm['as'], DataTypeName> = {
  int8: 'int8',
  'int8-scales': 'float32',
  float16: 'float16',
  'float16-rounded': 'float32',
};

function derived(source: Tensor, form: DerivedForm, name = `${source.name}_${form.as}`): Tensor {
  const dims = form.as === 'int8-scales' ? [source.dims[form.axis] as number] : source.dims;
  return new Tensor(name, TYPES[form.as], dims, { kind: 'derived', source, form });
}

/** Codes and scales of a weight. */
function quantized(source: Tensor, axis: 0 | 1 = 0, transposed = false, suffix = ''): Tensor[] {
  return [
    derived(source, { as: 'int8', axis, transposed }, `${source.name}_codes${suffix}`),
    derived(source, { as: 'int8-scales', axis, transposed }, `${source.name}_scales${suffix}`),
  ];
}

const placesOf = (jobs: readonly Job[]): Placed[] =>
  jobs.flatMap(({ target, scales }) => (scales ? [target, scales] : [target]));

const names = (jobs: readonly Job[]): string[] => placesOf(jobs).map(({ tensor }) => tensor.name);

describe('planJobs orders the work', () => {
  it('by the file and the offset that each source comes from', () => {
    const tensors = [
      external('d', 0, [1], 'z'),
      ...quantized(external('c', 900)),
      external('b', 10_000),
      derived(external('a', 100), { as: 'float16' }),
    ];
    const { jobs } = planJobs(tensors);
    expect(jobs.map(({ source }) => source.name)).toEqual(['a', 'c', 'b', 'd']);
    expect(names(jobs)).toEqual(['a_float16', 'c_codes', 'c_scales', 'b', 'd']);
  });

  it('with sources that are in memory first, in the order in which they came', () => {
    const inMemory = (name: string): Tensor => Tensor.float32(name, [1], [1]);
    const { jobs } = planJobs([inMemory('z'), external('file', 0), inMemory('a')]);
    expect(names(jobs)).toEqual(['z', 'a', 'file']);
  });

  it('so that targets lie in the same order', () => {
    const { jobs } = planJobs([external('late', 50), ...quantized(external('early', 2)), external('middle', 9)]);
    const offsets = placesOf(jobs).map(({ offset }) => offset);
    expect(offsets).toEqual(offsets.toSorted((a, b) => a - b));
  });
});

describe('planJobs makes', () => {
  it.each([false, true])('one job of the codes and the scales of a source, scales first: %s', (scalesFirst) => {
    const source = external('w', 0);
    const [codes, scales] = quantized(source, 1, true) as [Tensor, Tensor];
    const { jobs } = planJobs(scalesFirst ? [scales, codes] : [codes, scales]);
    expect(jobs).toHaveLength(1);
    expect(jobs[0]).toMatchObject({ source, form: { as: 'int8', axis: 1, transposed: true } });
    expect(jobs[0]?.target.tensor).toBe(codes);
    expect(jobs[0]?.scales?.tensor).toBe(scales);
  });

  it('a job of codes whose scales nothing refers to', () => {
    const [codes] = quantized(external('w', 0)) as [Tensor];
    const { jobs } = planJobs([codes]);
    expect(jobs.map(({ scales }) => scales)).toEqual([undefined]);
  });

  it('a job that copies for a tensor that is not derived', () => {
    const tensor = external('w', 0);
    const { jobs } = planJobs([tensor]);
    expect(jobs).toEqual([{ source: tensor, form: null, target: { tensor, offset: 0 }, scales: undefined }]);
  });

  it.each<[string, [0 | 1, boolean], [0 | 1, boolean]]>([
    ['along both axes', [0, false], [1, false]],
    ['in both layouts', [0, false], [0, true]],
  ])('two jobs of a source that is quantized %s', (_, one, other) => {
    const source = external('w', 0);
    const { jobs } = planJobs([...quantized(source, ...one, '_1'), ...quantized(source, ...other, '_2')]);
    expect(names(jobs)).toEqual(['w_codes_1', 'w_scales_1', 'w_codes_2', 'w_scales_2']);
    expect(jobs.map(({ form }) => form)).toEqual([
      { as: 'int8', axis: one[0], transposed: one[1] },
      { as: 'int8', axis: other[0], transposed: other[1] },
    ]);
  });

  const factor = (along: MatrixFactor['along'], values: Tensor, divides = false): MatrixFactor => ({
    along,
    values,
    divides,
  });
  const scalar = (value: number): Tensor => Tensor.float32('alpha', [], [value]);
  const far = (name: string): Tensor => external(name, 64, [6]);
  type Reading = Pick<Extract<DerivedForm, { axis: unknown }>, 'scale' | 'factors'>;

  /** Codes and scales of one source that two products read, each in its way. */
  const read = (...readings: Reading[]): Tensor[] =>
    readings.flatMap((reading, i) =>
      (['int8', 'int8-scales'] as const).map((as) =>
        derived(external('w', 0), { as, axis: 0, transposed: false, ...reading }, `${as}${i}`),
      ),
    );

  it.each<[string, Reading, Reading]>([
    ['with scales of two types', { scale: 'float32' }, { scale: 'float16' }],
    ['with a factor and without', {}, { factors: [factor('all', scalar(2))] }],
    ['with two values for one name', { factors: [factor('all', scalar(2))] }, { factors: [factor('all', scalar(3))] }],
    ['with two factors', { factors: [factor('rows', far('a'))] }, { factors: [factor('rows', far('b'))] }],
    ['along rows and columns', { factors: [factor('rows', far('a'))] }, { factors: [factor('columns', far('a'))] }],
    [
      'by a factor and a divisor',
      { factors: [factor('all', scalar(2))] },
      { factors: [factor('all', scalar(2), true)] },
    ],
    [
      'once and twice by a factor',
      { factors: [factor('all', scalar(2))] },
      { factors: Array(2).fill(factor('all', scalar(2))) },
    ],
  ])('two jobs of a source that is read %s', (_, one, other) => {
    const { jobs } = planJobs(read(one, other));
    expect(names(jobs)).toEqual(['int80', 'int8-scales0', 'int81', 'int8-scales1']);
    expect(jobs.map(({ form }) => form)).toEqual([
      { as: 'int8', axis: 0, transposed: false, ...one },
      { as: 'int8', axis: 0, transposed: false, ...other },
    ]);
  });

  it.each<[string, Reading, Reading]>([
    ['plainly', {}, { scale: 'float32', factors: [] }],
    ['with factors alike', { factors: [factor('all', scalar(2))] }, { factors: [factor('all', scalar(2))] }],
    ['with one factor in a file', { factors: [factor('rows', far('a'))] }, { factors: [factor('rows', far('a'))] }],
  ])('an error of codes that are derived twice the same way, %s', (_, one, other) => {
    expect(() => planJobs(read(one, other))).toThrow('w is derived twice the same way');
    const [codes, , , scales] = read(one, other) as [Tensor, Tensor, Tensor, Tensor];
    expect(planJobs([codes, scales]).jobs).toHaveLength(1);
  });

  it('two jobs of a source that is read as two matrices', () => {
    const source = external('w', 0, [6]);
    const as = (rows: number): Tensor => new Tensor('w', 'float32', [rows, 6 / rows], source.data);
    const { jobs } = planJobs([...quantized(as(2), 0, false, '_2'), ...quantized(as(3), 0, false, '_3')]);
    expect(jobs.map(({ target: { tensor } }) => tensor.dims)).toEqual([
      [2, 3],
      [3, 2],
    ]);
  });

  it('a job for each form of a source', () => {
    const source = external('w', 0);
    const { jobs } = planJobs([
      source,
      derived(source, { as: 'float16' }),
      derived(source, { as: 'float16-rounded' }),
      ...quantized(source),
    ]);
    expect(jobs.map(({ form }) => form?.as ?? 'copy')).toEqual(['copy', 'float16', 'float16-rounded', 'int8']);
    expect(jobs.every((job) => job.source === source)).toBe(true);
  });

  it('no job of nothing', () => {
    expect(planJobs([])).toEqual({ jobs: [], dataBytes: 0 });
  });

  it.each<[string, Tensor[]]>([
    ['alone', []],
    ['beside codes along the other axis', [quantized(external('w', 0), 1)[0] as Tensor]],
    ['beside codes in the other layout', [quantized(external('w', 0), 0, true)[0] as Tensor]],
  ])('an error of scales without their codes, %s', (_, others) => {
    const [, scales] = quantized(external('w', 0)) as [Tensor, Tensor];
    expect(() => planJobs([scales, ...others])).toThrow('scales of w are written without its codes');
  });
});

describe('the targets of planJobs', () => {
  it.each([
    [16_383, 64],
    [16_384, 4096],
    [16_385, 4096],
  ])('of %i floats start at a multiple of %i bytes', (floats, alignment) => {
    const { jobs } = planJobs([external('first', 0, [1]), external('second', 4, [floats])]);
    expect(jobs.map(({ target }) => target.offset)).toEqual([0, alignment]);
  });

  it('are aligned by their own size, not by that of their source', () => {
    const source = external('w', 4, [1024, 63]);
    const { jobs } = planJobs([external('first', 0, [1]), ...quantized(source)]);
    expect(placesOf(jobs).map(({ offset }) => offset)).toEqual([0, 64, 64 + 1024 * 63]);
  });

  const weights = fc.array(
    fc.record({
      rows: fc.integer({ min: 1, max: 300 }),
      columns: fc.integer({ min: 1, max: 300 }),
      offset: fc.nat(1e6),
      location: fc.constantFrom('a', 'b'),
      form: fc.constantFrom('copy', 'int8', 'float16', 'float16-rounded'),
      axis: fc.constantFrom<0 | 1>(0, 1),
      transposed: fc.boolean(),
    }),
    { maxLength: 12 },
  );

  it('hold every tensor once, aligned, without overlap and without more space than alignment needs', () => {
    fc.assert(
      fc.property(weights, (made) => {
        const tensors = made.flatMap(({ rows, columns, offset, location, form, axis, transposed }, i) => {
          const source = external(`w${i}`, offset, [rows, columns], location);
          if (form === 'copy') return [source];
          if (form === 'int8') return quantized(source, axis, transposed);
          return [derived(source, { as: form as 'float16' | 'float16-rounded' })];
        });
        const { jobs, dataBytes } = planJobs(tensors);
        const places = placesOf(jobs);
        expect(new Set(places.map(({ tensor }) => tensor))).toEqual(new Set(tensors));
        expect(places).toHaveLength(tensors.length);
        let end = 0;
        for (const { tensor, offset } of places) {
          const alignment = tensor.byteLength >= 65_536 ? 4096 : 64;
          expect(offset % alignment).toBe(0);
          expect(offset).toBeGreaterThanOrEqual(end);
          expect(offset - end).toBeLessThan(alignment);
          end = offset + tensor.byteLength;
        }
        expect(dataBytes).toBe(end);
      }),
    );
  });
});
