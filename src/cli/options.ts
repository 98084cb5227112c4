import { InvalidArgumentError, Option } from 'commander';
import { MAX_STEPS } from '../limits.js';
import { DEVICE_NAMES } from '../runtime/providers.js';

/** A whole number in [least, most]. */
export function integer(least: number, most: number = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text.trim()) || value < least || value > most) {
      throw new InvalidArgumentError(`Give a whole number from ${least} to ${most}.`);
    }
    return value;
  };
}

/** A number in [least, most]. */
export function number(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isFinite(value) || value < least || value > most) {
      throw new InvalidArgumentError(`Give a number from ${least} to ${most}.`);
    }
    return value;
  };
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
};

/** A size in bytes: `8GB` and `8G` are 8 x 10^9, `8GiB` is 8 x 2^30. */
export function byteCount(text: string): number {
  const [, count = '', unit = ''] = text.trim().match(/^(\d+(?:\.\d+)?)\s*([kmg]?i?)b?$/i) ?? [];
  const factor = UNITS[unit.toLowerCase()];
  const bytes = Math.floor(Number(count) * (factor ?? 0));
  if (count === '' || factor === undefined || bytes < 1 || !Number.isSafeInteger(bytes))
    throw new InvalidArgumentError('Give a size such as 8GB or 7.5GiB.');
  return bytes;
}

const SECONDS: Readonly<Record<string, number>> = { s: 1, min: 60, h: 3600 };

/** A time in ms: `90s`, `10min`, `1.5h`. */
export function duration(text: string): number {
  const [, count = '', unit = ''] = text.trim().match(/^(\d+(?:\.\d+)?)\s*(s|min|h)$/) ?? [];
  const ms = Number(count) * (SECONDS[unit] ?? 0) * 1000;
  if (!(ms > 0)) throw new InvalidArgumentError('Give a time such as 90s, 10min or 2h.');
  return ms;
}

/** Part i of n, from 1. */
export function shard(text: string): [number, number] {
  const [, index, count] = (text.match(/^(\d{1,6})\/(\d{1,6})$/) ?? []).map(Number);
  if (index === undefined || count === undefined || index < 1 || index > count) {
    throw new InvalidArgumentError('Give i/n with i from 1 to n, such as 2/4.');
  }
  return [index, count];
}

/** Comma-separated numbers in (least, most). */
export function numbersBetween(least: number, most: number): (text: string) => number[] {
  return (text) =>
    text.split(',').map((part) => {
      const value = Number(part);
      if (part.trim() === '' || !(value > least && value < most)) {
        throw new InvalidArgumentError(`Give numbers between ${least} and ${most}, separated by commas.`);
      }
      return value;
    });
}

const MAX_SEED = 2 ** 32 - 1;

/** Options that say how large a video is. */
export function sizeOptions(): Option[] {
  return [
    new Option('--frames <n>', 'frames of a video (default: what the VAE decoder fixes, else 121)').argParser(
      integer(1),
    ),
    new Option('--height <n>', 'pixels (default: what the VAE decoder fixes, else 704)').argParser(integer(1)),
    new Option('--width <n>', 'pixels (default: what the VAE decoder fixes, else 1280)').argParser(integer(1)),
  ];
}

/** Options that calibrate and eval share: how videos are made, and of which prompts. */
export function samplingOptions(defaults: { seed: number; promptsRequired: boolean }): Option[] {
  return [
    new Option('--prompts <file>', 'prompts, one a line').makeOptionMandatory(defaults.promptsRequired),
    ...chainOptions(defaults.seed),
  ];
}

/** Options of all commands that run the chain: how a video is made of a prompt. */
export function chainOptions(seed: number): Option[] {
  return [
    new Option('--negative-prompt <text>', 'prompt of the unconditional branch').default(''),
    new Option('--steps <n>', 'denoising steps').argParser(integer(1, MAX_STEPS)).default(50),
    new Option('--guidance <scale>', 'classifier-free guidance scale; 1 runs the prompt alone')
      .argParser(number(0, 100))
      .default(5),
    new Option('--seed <n>', 'seed of the first noise, as torch CPU generators count')
      .argParser(integer(0, MAX_SEED))
      .default(seed),
    ...sizeOptions(),
    new Option('--device <name>', 'where models run').choices(DEVICE_NAMES).default('auto').env('WANQ_DEVICE'),
  ];
}
