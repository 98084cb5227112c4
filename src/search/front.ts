/** A linear, or a group of them, that can be given back to its precision. */
export interface GivingUnit {
  /** Positions of its linears, ascending. */
  readonly members: readonly number[];
  /** Noise that giving it back takes away. */
  readonly damage: number;
  /** Bytes that giving it back costs. */
  readonly bytes: number;
}

/** A set of linears that is given back. */
export interface Giving {
  readonly members: readonly number[];
  readonly damage: number;
  readonly bytes: number;
}

/** Combinations that are looked through; a 5B model has 15,000. */
const MOST_COMBINATIONS = 1_000_000;

/** Units in the order in which they are given back: most damage for each byte first. */
export function giveBackOrder<T extends GivingUnit>(units: readonly T[]): T[] {
  const rate = ({ damage, bytes }: T): number => damage / Math.max(bytes, 1);
  return units.toSorted((a, b) => rate(b) - rate(a));
}

/**
 * Of every amount of bytes that can be given back, the set that takes most noise away, as long as more bytes take more away. Units of one size are given
 * back in the order of their damage, so that only how many of each size is open.
 *
 * @returns by bytes, ascending, nothing given back first; empty where there are too many sizes to look through
 */
export function givingFront(units: readonly GivingUnit[]): Giving[] {
  const sizes = new Map<number, GivingUnit[]>();
  for (const unit of units) sizes.set(unit.bytes, [...(sizes.get(unit.bytes) ?? []), unit]);
  const classes = [...sizes.values()].map((of) => of.toSorted((a, b) => b.damage - a.damage));
  const combinations = classes.reduce((product, of) => product * (of.length + 1), 1);
  if (combinations > MOST_COMBINATIONS) return [];
  let sums: { bytes: number; damage: number; counts: readonly number[] }[] = [{ bytes: 0, damage: 0, counts: [] }];
  for (const of of classes) {
    const heads = [{ bytes: 0, damage: 0 }];
    for (const { bytes, damage } of of) {
      const last = heads.at(-1) as (typeof heads)[number];
      heads.push({ bytes: last.bytes + bytes, damage: last.damage + damage });
    }
    sums = sums.flatMap(({ bytes, damage, counts }) =>
      heads.map((head, n) => ({ bytes: bytes + head.bytes, damage: damage + head.damage, counts: [...counts, n] })),
    );
  }
  sums.sort((a, b) => a.bytes - b.bytes || b.damage - a.damage);
  let most = Number.NEGATIVE_INFINITY;
  return sums.flatMap(({ bytes, damage, counts }) => {
    if (damage <= most) return [];
    most = damage;
    const members = classes.flatMap((of, c) => of.slice(0, counts[c]).flatMap((unit) => unit.members));
    return [{ bytes, damage, members: members.sort((a, b) => a - b) }];
  });
}
