// Outputs of the step: the verdict and the figures that workflows ask for. Numbers and fixed words alone, so that no line is somebody else's.
import { readFileSync } from 'node:fs';

const [file, verdict] = process.argv.slice(2);
const { metrics } = JSON.parse(readFileSync(file, 'utf8'));
const figure = (name) => {
  const value = metrics[name]?.value ?? '';
  return typeof value === 'number' || ['Infinity', '-Infinity', 'NaN'].includes(value) ? String(value) : '';
};
const lines = {
  verdict: verdict === 'passed' ? 'passed' : 'failed',
  'psnr-drop': figure('psnr_drop'),
  'fvd-growth': figure('fvd_growth'),
  sqnr: figure('sqnr'),
};
for (const [name, value] of Object.entries(lines)) process.stdout.write(`${name}=${value}\n`);
