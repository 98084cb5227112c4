import type { Sample } from './samples.js';
import type { Sensitivity, SensitivityEntry, SensitivityIdentity } from './sensitivity-file.js';

/** A linear, or linears that are quantized together. */
export interface Unit {
  readonly section: 'linears' | 'groups';
  readonly name: string;
  /** Positions among the candidates. */
  readonly members: readonly number[];
  /** Bytes that are saved by quantizing it. */
  readonly bytesSaved: number;
}

/** Noise by sample, null where it is missing; or the damage that a person set. */
type Noise = (number | null)[] | { readonly damage: number };

/** What was measured so far. */
export class Figures {
  readonly #units: readonly Unit[];
  readonly #samples: readonly Sample[];
  readonly #noise: ReadonlyMap<Unit, Noise>;

  /** @param found an earlier state, as people may have edited it */
  constructor(units: readonly Unit[], samples: readonly Sample[], found: Sensitivity | undefined) {
    this.#units = units;
    this.#samples = samples;
    this.#noise = new Map(units.map((unit) => [unit, noiseOf(found?.[unit.section][unit.name], samples.length)]));
  }

  /** Whether nothing is missing. */
  get complete(): boolean {
    return this.#samples.every((_, s) => this.missing(s).length === 0);
  }

  /** Units of which a sample is missing. */
  missing(sample: number): Unit[] {
    return this.#units.filter((unit) => {
      const noise = this.#noise.get(unit);
      return Array.isArray(noise) && noise[sample] === null;
    });
  }

  set(unit: Unit, sample: number, value: number): void {
    const noise = this.#noise.get(unit);
    if (Array.isArray(noise)) noise[sample] = value;
  }

  toSensitivity(identity: SensitivityIdentity): Sensitivity {
    const section = (name: Unit['section']): Sensitivity['linears'] => {
      const own = this.#units.filter((unit) => unit.section === name);
      return Object.fromEntries(own.map((unit) => [unit.name, this.#entry(unit)]));
    };
    return { identity, samples: this.#samples, linears: section('linears'), groups: section('groups') };
  }

  #entry(unit: Unit): SensitivityEntry {
    const noise = this.#noise.get(unit) as Noise;
    const { bytesSaved } = unit;
    if (!Array.isArray(noise)) return { damage: noise.damage, sqnr: decibels(noise.damage), bytesSaved };
    const measured = noise.flatMap((value, s) => (value === null ? [] : [{ value, bucket: this.#bucket(s) }]));
    const damage = meanOf(measured);
    const numbers = [...new Set(measured.map(({ bucket }) => bucket))].sort((a, b) => a - b);
    const buckets = Object.fromEntries(
      numbers.map((number) => [String(number), meanOf(measured.filter(({ bucket }) => bucket === number))]),
    );
    return { damage, sqnr: decibels(damage), bytesSaved, buckets, noise };
  }

  #bucket(sample: number): number {
    return this.#samples[sample]?.bucket as number;
  }
}

/** What a person set goes before what was measured. */
function noiseOf(entry: SensitivityEntry | undefined, samples: number): Noise {
  const noise = Array.from({ length: samples }, (_, s) => entry?.noise?.[s] ?? null);
  if (!entry) return noise;
  const measured = noise.flatMap((value) => (value === null ? [] : [{ value }]));
  if (entry.noise === undefined || (measured.length === samples && meanOf(measured) !== entry.damage)) {
    return { damage: entry.damage };
  }
  return noise;
}

function meanOf(figures: readonly { readonly value: number }[]): number {
  return figures.length === 0 ? 0 : rounded(figures.reduce((sum, { value }) => sum + value, 0) / figures.length);
}

/** Signal to noise, dB; null where there is no noise. */
export function decibels(damage: number): number | null {
  return damage === 0 ? null : Number((-10 * Math.log10(damage)).toFixed(2));
}

/** To six digits: fewer than the same forwards on another number of threads agree in. */
export function rounded(value: number): number {
  return Number(value.toPrecision(6));
}
