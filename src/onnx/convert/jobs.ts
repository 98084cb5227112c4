import type { DerivedForm, Tensor } from '../../ir/tensor.js';

/** onnxruntime maps external tensors at page boundaries; small ones need only their own alignment. */
const PAGE = 4096;
const PAGED_FROM_BYTES = 64 * 1024;

/** One tensor of the source and all that is written of it, so that it is read once. */
export interface Job {
  readonly source: Tensor;
  /** null: copied as it is. */
  readonly form: DerivedForm | null;
  /** The tensor to write, and where in the data file. */
  readonly target: Placed;
  /** Of `int8`: the scales, where anything refers to them. */
  readonly scales: Placed | undefined;
}

export interface Placed {
  readonly tensor: Tensor;
  readonly offset: number;
}

/**
 * Plans a data file: jobs in the order in which their sources lie in the files they come from, and their targets one after the other, so that
 * both files are gone through from front to back.
 *
 * @returns the jobs and the bytes of the data file
 */
export function planJobs(tensors: readonly Tensor[]): { jobs: Job[]; dataBytes: number } {
  const groups = new Map<string, { source: Tensor; form: DerivedForm | null; target?: Tensor; scales?: Tensor }>();
  for (const tensor of tensors) {
    const { data } = tensor;
    if (data.kind !== 'derived') {
      groups.set(`copy\0${tensor.name}`, { source: tensor, form: null, target: tensor });
      continue;
    }
    const { source, form } = data;
    const isScales = form.as === 'int8-scales';
    const key = `${derivationKey(source, form)}\0${isScales ? 'int8' : form.as}`;
    const known = groups.get(key);
    if (isScales ? known?.scales : known?.target) throw new Error(`${source.name} is derived twice the same way`);
    const group = known ?? { source, form: isScales ? { ...form, as: 'int8' as const } : form };
    groups.set(key, { ...group, ...(isScales ? { scales: tensor } : { target: tensor }) });
  }
  let end = 0;
  const place = (tensor: Tensor): Placed => {
    const alignment = tensor.byteLength >= PAGED_FROM_BYTES ? PAGE : 64;
    const offset = Math.ceil(end / alignment) * alignment;
    end = offset + tensor.byteLength;
    return { tensor, offset };
  };
  const jobs = [...groups.values()].sort(bySource).map(({ source, form, target, scales }): Job => {
    if (!target) throw new Error(`the scales of ${source.name} are written without its codes`);
    return { source, form, target: place(target), scales: scales && place(scales) };
  });
  return { jobs, dataBytes: end };
}

/** The same for tensors that are derived of the same source in the same way, codes and scales alike. */
export function derivationKey(source: Tensor, form: DerivedForm): string {
  if (!('axis' in form)) return source.name;
  const factors = (form.factors ?? []).map(
    ({ along, values, divides }) => `${along} ${divides} ${values.name} ${inlineText(values)}`,
  );
  return [source.name, source.dims, form.axis, form.transposed, form.scale ?? 'float32', ...factors].join('\0');
}

/** Factors that come of an attribute have no name of their own. */
function inlineText({ data }: Tensor): string {
  return data.kind === 'bytes' ? Buffer.from(data.bytes).toString('hex') : '';
}

function bySource(a: { readonly source: Tensor }, b: { readonly source: Tensor }): number {
  const [x, y] = [positionOf(a.source), positionOf(b.source)];
  return x.location < y.location ? -1 : x.location > y.location ? 1 : x.offset - y.offset;
}

function positionOf({ data }: Tensor): { location: string; offset: number } {
  return data.kind === 'external' ? data : { location: '', offset: 0 };
}
