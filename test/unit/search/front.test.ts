import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type GivingUnit, giveBackOrder, givingFront } from '../../../src/search/front.js';

const unit = (members: number[], damage: number, bytes: number): GivingUnit => ({ members, damage, bytes });

describe('giveBackOrder', () => {
  it('gives back most damage for each byte first, and keeps the order of equals', () => {
    const units = [unit([0], 1, 100), unit([1], 3, 100), unit([2], 10, 500), unit([3], 2, 100)];
    expect(giveBackOrder(units).flatMap(({ members }) => members)).toEqual([1, 2, 3, 0]);
  });

  it('takes a unit that costs nothing as one that costs a byte', () => {
    expect(giveBackOrder([unit([0], 1, 1), unit([1], 2, 0)])[0]?.members).toEqual([1]);
  });
});

describe('givingFront', () => {
  it('starts with nothing given back, and ends with all that does any damage', () => {
    const front = givingFront([unit([0], 1, 100), unit([1], 0, 100), unit([2, 3], 5, 250)]);
    expect(front[0]).toEqual({ members: [], damage: 0, bytes: 0 });
    expect(front.at(-1)).toEqual({ members: [0, 2, 3], damage: 6, bytes: 350 });
  });

  it('has, for every set there is, one that is no larger and takes no less noise away', () => {
    const units = fc.array(fc.record({ damage: fc.nat(50), bytes: fc.constantFrom(3, 5, 8) }), { maxLength: 9 });
    fc.assert(
      fc.property(units, (drawn) => {
        const front = givingFront(drawn.map(({ damage, bytes }, i) => unit([i], damage, bytes)));
        for (let bits = 0; bits < 2 ** drawn.length; bits++) {
          const own = drawn.filter((_, i) => bits & (2 ** i));
          const bytes = own.reduce((sum, each) => sum + each.bytes, 0);
          const damage = own.reduce((sum, each) => sum + each.damage, 0);
          expect(front.some((set) => set.bytes <= bytes && set.damage >= damage)).toBe(true);
        }
        for (const { members, damage, bytes } of front) {
          expect(members.reduce((sum, i) => sum + (drawn[i]?.damage as number), 0)).toBe(damage);
          expect(members.reduce((sum, i) => sum + (drawn[i]?.bytes as number), 0)).toBe(bytes);
        }
      }),
    );
  });

  it('is empty where there are more sizes than can be looked through', () => {
    expect(givingFront(Array.from({ length: 21 }, (_, i) => unit([i], 1, i + 1)))).toEqual([]);
  });
});
