import type { Command } from './case.js';
import { MODEL, PIPELINE } from './models.js';

/** For models that are quantized. */
export const check = (file = MODEL): Command => ({ args: ['check', file, '--target', 'ort-cpu'] });

export const inspect: Command = { args: ['inspect', PIPELINE] };

export const dryRun: Command = { args: ['quantize', PIPELINE, '--dry-run'], name: 'quantize --dry-run' };

/** Runs the transformer once, over random embeddings. */
export const calibrate: Command = {
  args: [
    ...['calibrate', PIPELINE, '--synthetic-inputs', '1', '--steps', '1', '--guidance', '1'],
    ...['--frames', '5', '--height', '32', '--width', '32', '--device', 'cpu', '-o', 'out'],
  ],
  outputs: ['out'],
};

/** Runs the text encoder and the transformer of the micro pipeline once. */
export const calibratePrompt: Command = {
  args: [
    ...['calibrate', PIPELINE, '--prompts', 'prompts.txt', '--steps', '1', '--guidance', '1'],
    ...['--device', 'cpu', '-o', 'out'],
  ],
  outputs: ['out'],
};

/** Writes a quantized pipeline by dynamic scales, which need no calibration. */
export const quantizeDynamic: Command = {
  args: [
    ...['quantize', PIPELINE, '--scheme', 'ffn', '--smooth', 'none', '--activations', 'dynamic'],
    ...['--verify', 'load', '-o', 'out'],
  ],
  outputs: ['out'],
};

export const quantizeBy = (calibration: string, ...rest: string[]): Command => ({
  args: ['quantize', PIPELINE, '--calibration', calibration, '--verify', 'load', ...rest, '-o', 'out'],
  outputs: ['out'],
});

/** Every command that reads a transformer. */
export const ALL = [inspect, dryRun, calibrate, quantizeDynamic] as const;
