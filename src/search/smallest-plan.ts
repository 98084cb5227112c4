import { type GivingUnit, giveBackOrder, givingFront } from './front.js';

/** Linears of a plan that fails, and how they could be given back. */
export interface GivingProblem {
  /** Of each linear, by position: noise that giving it back takes away, and bytes that it costs. */
  readonly linears: readonly { readonly damage: number; readonly bytes: number }[];
  /** Kinds of blocks, which are given back and taken back as a whole too. `damage` is what all of one do together. */
  readonly groups: readonly { readonly members: readonly number[]; readonly damage: number }[];
  /** Bytes that may be given back at most; absent: all. */
  readonly bytesLimit?: number | undefined;
}

/** @returns whether the plan with these linears given back passes; undefined where it may not be asked any more */
export type Judge = (givenBack: ReadonlySet<number>) => Promise<boolean | undefined>;

export interface SmallestPlan {
  /** The smallest set that was found to pass; undefined where none did. */
  readonly givenBack: ReadonlySet<number> | undefined;
  /** Whether the search ended by itself, and not for want of further answers. */
  readonly complete: boolean;
}

/** How much more noise than the least of those that failed a set may be expected to have and still be worth asking: twice, 3 dB. */
const DOUBT = 2;

/**
 * Finds the smallest set of linears to give back for a plan to pass, with few questions:
 *
 * 1. Nothing is given back; then linears by damage for each byte, first as many as take 3 dB of the noise away, then 6, 12 and so on; then the least
 *    number of them by bisection.
 * 2. Among the sets that are smaller and ought to leave less noise than what failed (of linears one by one, and of whole kinds of blocks), by bisection.
 * 3. One linear or one kind of a block after the other is taken back from what passed.
 *
 * A set is never asked twice, nor one of which a superset failed: giving back less does not help. Where bytes are limited, 1. leaves out what does not
 * fit any more, and if it finds nothing, 2. asks for the sets with the least noise.
 */
export function findSmallestPlan(problem: GivingProblem, judge: Judge): Promise<SmallestPlan> {
  return new PlanSearch(problem, judge).run();
}

interface Candidate {
  readonly members: ReadonlySet<number>;
  readonly bytes: number;
  readonly noise: number;
}

/** Thrown where no more questions may be asked. */
class OutOfQuestions extends Error {}

class PlanSearch {
  readonly #problem: GivingProblem;
  readonly #judge: Judge;
  readonly #failed: Candidate[] = [];
  #best: Candidate | undefined;

  constructor(problem: GivingProblem, judge: Judge) {
    this.#problem = problem;
    this.#judge = judge;
  }

  async run(): Promise<SmallestPlan> {
    try {
      await this.#giveBack();
      await this.#searchFront();
      await this.#takeBack();
    } catch (error) {
      if (!(error instanceof OutOfQuestions)) throw error;
      return { givenBack: this.#best?.members, complete: false };
    }
    return { givenBack: this.#best?.members, complete: true };
  }

  async #giveBack(): Promise<void> {
    const units = this.#problem.linears.map((linear, i): GivingUnit => ({ ...linear, members: [i] }));
    const order = this.#fitting(giveBackOrder(units)).flatMap(({ members }) => members);
    const plans = Array.from({ length: order.length + 1 }, (_, k) => this.#candidate(order.slice(0, k)));
    const noiseOf = (k: number): number => (plans[k] as Candidate).noise;
    const asks = (k: number): Promise<boolean> => this.#ask(plans[k] as Candidate);
    if ((await asks(0)) || order.length === 0) return;
    let fails = 0;
    let passes: number | undefined;
    for (let decibels = 3; passes === undefined || passes - fails > 1; decibels *= 2) {
      const k: number =
        passes === undefined
          ? Math.min(Math.max(reach(noiseOf(0) / 10 ** (decibels / 10)), 2 * fails, 1), order.length)
          : between(fails, passes);
      if (await asks(k)) passes = k;
      else if (k === order.length) return;
      else fails = k;
    }

    /** The first plan with as little noise; the last where none has. */
    function reach(noise: number): number {
      const found = plans.findIndex((plan) => plan.noise <= noise);
      return found < 0 ? order.length : found;
    }

    /** The plan half-way in decibels; in number where the better one has no noise at all. */
    function between(worse: number, better: number): number {
      if (noiseOf(better) === 0) return (worse + better) >> 1;
      const half = reach(Math.sqrt(noiseOf(worse) * noiseOf(better)));
      return Math.min(Math.max(half, worse + 1), better - 1);
    }
  }

  async #searchFront(): Promise<void> {
    const { linears, groups } = this.#problem;
    const bytesOf = (members: readonly number[]): number =>
      members.reduce((sum, i) => sum + (linears[i]?.bytes as number), 0);
    const fronts = [
      givingFront(linears.map((linear, i) => ({ ...linear, members: [i] }))),
      givingFront(groups.map((group) => ({ ...group, bytes: bytesOf(group.members) }))),
    ];
    const pool = fronts.flat().map(({ members }) => this.#candidate(members));
    for (;;) {
      const open = pool
        .filter((candidate) => this.#isOpen(candidate) && candidate.noise < this.#leastFailed)
        .sort((a, b) => a.bytes - b.bytes || a.noise - b.noise);
      // While none passes, one answer of the least noisy tells most.
      const next = this.#best ? open[open.length >> 1] : open.toSorted((a, b) => a.noise - b.noise)[0];
      if (!next) return;
      await this.#ask(next);
    }
  }

  async #takeBack(): Promise<void> {
    for (;;) {
      const best = this.#best;
      if (!best) return;
      const units = [...best.members].map((i) => [i]).concat(this.#problem.groups.map(({ members }) => [...members]));
      const [next] = units
        .map((unit) => this.#candidate([...best.members].filter((i) => !unit.includes(i))))
        .filter((candidate) => this.#isOpen(candidate) && candidate.noise <= this.#leastFailed * DOUBT)
        .sort((a, b) => a.noise - b.noise);
      if (!next) return;
      await this.#ask(next);
    }
  }

  /** Whether an answer is wanted and not known yet. */
  #isOpen({ members, bytes }: Candidate): boolean {
    if (this.#best ? bytes >= this.#best.bytes : bytes > this.#bytesLimit) return false;
    return !this.#failed.some((failed) => [...members].every((i) => failed.members.has(i)));
  }

  get #bytesLimit(): number {
    return this.#problem.bytesLimit ?? Number.POSITIVE_INFINITY;
  }

  /** The units, in their order, that fit beside those before them. */
  #fitting(units: readonly GivingUnit[]): GivingUnit[] {
    let left = this.#bytesLimit;
    return units.filter(({ bytes }) => {
      if (bytes > left) return false;
      left -= bytes;
      return true;
    });
  }

  get #leastFailed(): number {
    return Math.min(...this.#failed.map(({ noise }) => noise));
  }

  #candidate(members: readonly number[]): Candidate {
    const { linears } = this.#problem;
    const set = new Set([...members].sort((a, b) => a - b));
    let [bytes, noise] = [0, 0];
    for (const [i, linear] of linears.entries()) {
      if (set.has(i)) bytes += linear.bytes;
      else noise += linear.damage;
    }
    return { members: set, bytes, noise };
  }

  async #ask(candidate: Candidate): Promise<boolean> {
    const passes = await this.#judge(candidate.members);
    if (passes === undefined) throw new OutOfQuestions();
    if (!passes) this.#failed.push(candidate);
    else if (!this.#best || candidate.bytes < this.#best.bytes) this.#best = candidate;
    return passes;
  }
}
