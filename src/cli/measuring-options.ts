import { Option } from 'commander';
import { DEVICE_NAMES } from '../runtime/providers.js';
import { integer, numbersBetween } from './options.js';

/** Options of all commands that evaluate a quantized pipeline, beside those of sampling: what is measured on what. */
export function measuringOptions(): Option[] {
  return [
    new Option('--seeds-per-prompt <n>', 'videos made of each prompt').argParser(integer(1, 10_000)).default(1),
    new Option('--sigmas <list>', 'noise levels of the PSNR drop')
      .argParser(numbersBetween(0, 1))
      .default([0.3, 0.5, 0.7, 0.85]),
    new Option(
      '--clips <path>',
      'clips for the PSNR drop: a folder of videos, each with its prompt in a .txt, or a .safetensors file; default: the reference model’s own videos',
    ),
    new Option('--features <folder>', 'feature network and reference statistics for FVD'),
    new Option('--perceptual <file>', 'LPIPS-style network (.onnx)'),
    new Option('--inspected <n>', 'videos that get teacher forcing, a noise floor and pictures')
      .argParser(integer(1, 10_000))
      .default(4),
    new Option('--device-reference <name>', 'where the reference runs, if elsewhere').choices(DEVICE_NAMES),
    new Option('--device-vae <name>', 'where the VAE and the networks that look at videos run, if elsewhere').choices(
      DEVICE_NAMES,
    ),
  ];
}
