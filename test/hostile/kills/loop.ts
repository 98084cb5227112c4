import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { MersenneTwister } from '../../../src/numerics/rng.js';
import { alive, childrenOf, WANQ } from '../../helpers/cli.js';
import { digest } from '../faults/loop.js';

/** A command that is killed and run again until it is done. */
export interface KilledJob {
  readonly name: string;
  /** Arguments of `wanq`, in the place. */
  readonly args: readonly string[];
  /** What it writes. */
  readonly outputs: readonly string[];
  /** What it goes on from, if that lies beside the outputs. */
  readonly checkpoint?: string;
  /** What is compared of an output; all its bytes if absent. */
  readonly digest?: (file: string) => string;
  /** A line on stderr that says how much was taken over. */
  readonly resumed?: RegExp;
}

export interface KillTally {
  readonly job: string;
  kills: number;
  /** Of them, of the whole process group; the others of the parent alone. */
  groups: number;
  /** Kills while there was a checkpoint. */
  withCheckpoint: number;
  /** Kills after which no output was there, or all of them. */
  absent: number;
  complete: number;
  /** Runs that came to their end, each with its outputs compared. */
  finished: number;
  takenOver: number;
  mismatches: number;
  /** Entries in the place and in the folder for temporary files that a finished run left. */
  leftovers: number;
  scratch: number;
  /** Processes that were still there 5 s after a kill. */
  survivors: number;
  /** Of the undisturbed run, ms. */
  readonly ms: number;
  readonly problems: string[];
}

const GONE_WITHIN_MS = 5000;

/** Kills a job at random moments over its length, as often as asked for, and runs it again each time. */
export class KillLoop {
  readonly #root: string;
  readonly #random: MersenneTwister;
  /** Of a whole run, ms, as it was last seen. */
  #length = 0;

  /** @param root a folder of its own */
  constructor(root: string, seed: number) {
    this.#root = root;
    this.#random = new MersenneTwister(seed);
  }

  get place(): string {
    return path.join(this.#root, 'place');
  }

  get #temporary(): string {
    return path.join(this.#root, 'tmp');
  }

  async run(job: KilledJob, kills: number): Promise<KillTally> {
    this.#reset();
    const start = performance.now();
    const { code, stderr } = await this.#start(job).outcome;
    const ms = performance.now() - start;
    if (code !== 0) throw new Error(`${job.name} ends with ${code}: ${stderr}`);
    this.#length = ms;
    const wanted = this.#digests(job);
    const tally: KillTally = {
      ...{ job: job.name, kills: 0, groups: 0, withCheckpoint: 0, absent: 0, complete: 0, finished: 0, takenOver: 0 },
      ...{ mismatches: 0, leftovers: 0, scratch: 0, survivors: 0, ms, problems: [] },
    };
    while (tally.kills < kills) {
      this.#reset();
      await this.#untilDone(job, kills, wanted, tally);
    }
    return tally;
  }

  /** One output: killed once or more often, and run to its end at last. */
  async #untilDone(job: KilledJob, kills: number, wanted: readonly string[], tally: KillTally): Promise<void> {
    for (let first = true; ; ) {
      const kill = tally.kills < kills && (first || this.#random.uniform() < 0.6);
      const whole = first;
      first = false;
      const start = performance.now();
      const { code, stderr, killed } = await this.#attempt(
        job,
        kill ? 1.1 * this.#length * this.#random.uniform() : undefined,
        tally,
      );
      if (killed) {
        tally.kills++;
        const there = job.outputs.filter((name) => existsSync(path.join(this.place, name)));
        if (there.length === 0) tally.absent++;
        else if (there.length === job.outputs.length) tally.complete++;
        else tally.problems.push(`kill ${tally.kills}: ${there.join(', ')} is there alone`);
        if (job.checkpoint !== undefined && existsSync(path.join(this.place, job.checkpoint))) tally.withCheckpoint++;
        const resumable = job.checkpoint !== undefined && job.outputs.includes(job.checkpoint);
        if (there.length > 0 && !resumable) return this.#compare(job, wanted, tally, false);
        continue;
      }
      if (code !== 0) {
        tally.problems.push(`after kill ${tally.kills} it ended with ${code}: ${stderr.trim()}`);
        return;
      }
      // How busy the machine is changes; of a run that was resumed there was less to do.
      if (whole) this.#length = performance.now() - start;
      tally.takenOver += Number(job.resumed?.exec(stderr)?.[1] ?? 0);
      return this.#compare(job, wanted, tally, true);
    }
  }

  #compare(job: KilledJob, wanted: readonly string[], tally: KillTally, finished: boolean): void {
    if (finished) tally.finished++;
    const found = this.#digests(job);
    for (const [i, name] of job.outputs.entries()) {
      if (found[i] === wanted[i]) continue;
      tally.mismatches++;
      tally.problems.push(`after kill ${tally.kills}: ${name} is not what it is undisturbed`);
    }
    if (!finished) return;
    const left = readdirSync(this.place).filter((name) => !job.outputs.includes(name));
    tally.leftovers += left.length;
    if (left.length > 0) tally.problems.push(`after kill ${tally.kills}: left ${left.join(', ')}`);
    tally.scratch += readdirSync(this.#temporary).filter((name) => name.startsWith('wanq')).length;
  }

  #digests({ outputs, digest: of = digest }: KilledJob): string[] {
    return outputs.map((name) => of(path.join(this.place, name)));
  }

  /** @param after ms until it is killed; absent: it is left alone */
  async #attempt(
    job: KilledJob,
    after: number | undefined,
    tally: KillTally,
  ): Promise<{ code: number | null; stderr: string; killed: boolean }> {
    const { child, outcome } = this.#start(job);
    if (after === undefined) return { ...(await outcome), killed: false };
    let ended = false;
    void outcome.then(() => {
      ended = true;
    });
    await new Promise((resolve) => setTimeout(resolve, after));
    // One that was quicker than the last time has come to its end.
    if (ended) return { ...(await outcome), killed: false };
    const workers = childrenOf(child);
    const group = this.#random.uniform() < 0.5;
    if (group) process.kill(-Number(child.pid), 'SIGKILL');
    else child.kill('SIGKILL');
    const { code, stderr } = await outcome;
    if (code !== null) return { code, stderr, killed: false };
    if (group) tally.groups++;
    const end = performance.now() + GONE_WITHIN_MS;
    let left = alive(workers);
    while (left.length > 0 && performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      left = alive(left);
    }
    tally.survivors += left.length;
    for (const pid of left) tally.problems.push(`kill ${tally.kills + 1}: process ${pid} outlives it by 5 s`);
    return { code, stderr, killed: true };
  }

  #start({ args }: KilledJob): { child: ChildProcess; outcome: Promise<{ code: number | null; stderr: string }> } {
    const { PATH = '' } = process.env;
    const child = spawn(process.execPath, [WANQ, ...args], {
      cwd: this.place,
      env: { PATH, HOME: this.#root, TMPDIR: this.#temporary },
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
    });
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    // `exit` and not `close`: a runtime that outlives its parent may hold the pipe.
    const outcome = new Promise<{ code: number | null; stderr: string }>((resolve, reject) => {
      child.on('error', reject).on('exit', (code) => setImmediate(() => resolve({ code, stderr })));
    });
    return { child, outcome };
  }

  #reset(): void {
    for (const folder of [this.place, this.#temporary]) {
      rmSync(folder, { recursive: true, force: true });
      mkdirSync(folder, { recursive: true });
    }
  }
}
