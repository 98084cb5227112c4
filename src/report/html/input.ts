import type { Verdict } from '../../gate/judge.js';
import type { TensorHistogram } from '../histograms.js';
import type { Advice } from '../ladder.js';
import type { Results } from '../results.js';

/** What the page is made of. */
export interface ReportInput {
  readonly results: Results;
  readonly verdict: Verdict;
  /** Absent where it passed, or nothing is to be said. */
  readonly advice?: Advice | undefined;
  /** @returns the bytes of a picture that the results name */
  readonly media: (name: string) => Promise<Uint8Array>;
  /** Of activations, where a calibration was given. */
  readonly histograms?: readonly TensorHistogram[] | undefined;
  /** The command that makes the results again, as words. */
  readonly command?: readonly string[] | undefined;
}
