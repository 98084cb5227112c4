import ora from 'ora';
import { printable, printableLines } from '../../errors.js';
import { formatDuration } from '../../report/format.js';
import type { Context } from '../context.js';

/** Before this much is done, a time left would be a guess, ms. */
const ESTIMATE_AFTER_MS = 3000;

/** Lines on a stream that is no terminal come at most this often, ms. */
const QUIET_LINE_MS = 10_000;

/** What a long run says while it works: a spinner on a terminal, a line now and then elsewhere, nothing with --quiet. */
export interface Progress {
  /** @param share done, in [0, 1], for the time left; absent where it is unknown */
  update(text: string, share?: number): void;
  /** Ends the display. Call it whatever happened. */
  stop(): void;
}

export function startProgress({ io, quiet }: Context, start: string): Progress {
  if (quiet) return { update: () => {}, stop: () => {} };
  const began = Date.now();
  const withTimes = (text: string, share: number | undefined): string => {
    const elapsed = Date.now() - began;
    const left =
      share && share < 1 && elapsed > ESTIMATE_AFTER_MS
        ? `, ${formatDuration((elapsed * (1 - share)) / share)} left`
        : '';
    return `${printable(text)} (${formatDuration(elapsed)} elapsed${left})`;
  };
  if (io.stderr.isTTY && !io.env.CI) {
    const spinner = ora({ text: start, stream: io.stderr, discardStdin: false }).start();
    return {
      update: (text, share) => {
        spinner.text = withTimes(text, share);
      },
      stop: () => spinner.stop(),
    };
  }
  let last = 0;
  return {
    update: (text, share) => {
      if (Date.now() - last < QUIET_LINE_MS) return;
      last = Date.now();
      io.stderr.write(printableLines(`${withTimes(text, share)}\n`));
    },
    stop: () => {},
  };
}
