import { printable } from '../../../errors.js';
import { magma } from '../../colormap.js';
import type { Results, Sheets } from '../../results.js';
import { DIFFERENCE_GAIN } from '../../strip.js';
import { framePsnr } from '../charts/frames.js';
import { type Column, decibelCell, figure, longCell, numberCell, table } from '../figures.js';
import type { ReportInput } from '../input.js';
import { Html, html } from '../markup.js';

type Video = Results['videos'][number];

/** Longest side of a picture as it is first shown, pixels. */
const SHOWN_SIDE = 420;

const COLUMNS: readonly Column[] = [
  { name: 'prompt' },
  { name: 'seed', number: true },
  { name: 'PSNR', number: true, help: 'free-running, dB' },
  { name: 'floor PSNR', number: true, help: 'of the noise floor, dB' },
  { name: 'SSIM', number: true },
  { name: 'floor SSIM', number: true },
  { name: 'MS-SSIM', number: true },
  { name: 'temp. PSNR', number: true, help: 'of the differences of consecutive frames, dB' },
  { name: 'flicker', number: true, help: 'mean change from frame to frame, quantized over reference' },
  { name: 'LPIPS', number: true, help: 'by the perceptual network, where one was given' },
  { name: 'SQNR', number: true, help: 'teacher-forced, mean over steps and branches, dB' },
  { name: 'worst SQNR', number: true, help: 'teacher-forced, of the worst step and branch, dB' },
];

/** Clips side by side, and the figures of all videos. */
export async function videosSection({ results, media }: Pick<ReportInput, 'results' | 'media'>): Promise<Html> {
  const players: Html[] = [];
  const names: Html[] = [];
  for (const [i, video] of results.videos.entries()) {
    if (video.sheets === null && video.strip === null) continue;
    names.push(
      html`<option value="video-${i}">${players.length + 1}. ${printable(video.prompt, 120)} (seed ${video.seed})</option>`,
    );
    players.push(video.sheets ? await player(i, video, video.sheets, media) : await strip(i, video, media));
  }
  return html`<section id="videos" aria-labelledby="videos-title">
<h2 id="videos-title">Videos</h2>
${players.length === 0 ? html`<p>No video was kept for inspection.</p>` : html`${controls(names)}${players}`}
${table(
  'Videos of free runs, quantized against reference; PSNR and SQNR in dB',
  COLUMNS,
  results.videos.map((video) => videoRow(video)),
  { id: 'videos-table', className: 'dense' },
)}
</section>`;
}

function videoRow(video: Video): Html {
  const { prompt, seed, psnr, ssim, msSsim, temporalPsnr, flicker, lpips, floorPsnr, floorSsim, sqnr, sqnrMin } = video;
  return html`<tr>${longCell(prompt)}${numberCell(seed, String(seed))}${decibelCell(psnr)}${decibelCell(floorPsnr)}${numberCell(ssim)}${numberCell(floorSsim)}${numberCell(msSsim)}${decibelCell(temporalPsnr)}${numberCell(flicker)}${numberCell(lpips)}${decibelCell(sqnr)}${decibelCell(sqnrMin)}</tr>`;
}

function controls(names: readonly Html[]): Html {
  const rates = [2, 4, 8, 12, 16, 24];
  return html`<div class="controls needs-script" id="controls" role="group" aria-label="Player of all clips">
<label class="wide">Prompt <select id="video-choice">${names}</select></label>
<button type="button" id="play" aria-pressed="false"><span aria-hidden="true">▶</span> <span class="word">Play</span></button>
<button type="button" id="back" aria-label="One frame back">◀|</button>
<button type="button" id="forth" aria-label="One frame forth">|▶</button>
<label class="grow">Frame <input type="range" id="frame" min="0" max="0" value="0" step="1"></label>
<output id="frame-text" for="frame" aria-live="off"></output>
<label>Speed <select id="speed">${rates.map((rate) => html`<option value="${rate}"${rate === 8 ? html` selected` : null}>${rate} fps</option>`)}</select></label>
<label>Zoom <select id="zoom"><option value="0">fit</option>${[1, 2, 4, 8].map((zoom) => html`<option value="${zoom}">${zoom} ×</option>`)}</select></label>
</div>
<p class="hint quiet needs-script">Space plays, arrow keys step by a frame, Home and End go to the ends. Zoomed pictures scroll together.</p>`;
}

async function player(i: number, video: Video, sheets: Sheets, media: ReportInput['media']): Promise<Html> {
  const { prompt, seed, framePsnr: psnr } = video;
  const { columns, frames, width, height } = sheets;
  const scale = Math.max(1, Math.floor(SHOWN_SIDE / Math.max(width, height)));
  const panes = [
    { name: 'reference', title: 'Reference', file: sheets.reference },
    { name: 'quantized', title: 'Quantized', file: sheets.quantized },
    { name: 'difference', title: `Difference × ${DIFFERENCE_GAIN}`, file: sheets.difference },
  ];
  const pictures: Html[] = [];
  for (const { name, title, file } of panes) {
    const alt = `${title} of the clip: ${frames.length} frames as tiles, ${figuresText(video)}`;
    pictures.push(
      html`<figure class="pane ${name}"><figcaption>${title}${name === 'difference' ? scaleBar() : null}</figcaption><div class="stage" tabindex="0" role="group" aria-label="${title}"><img class="sheet" alt="${alt}" decoding="async" loading="lazy" src="${dataUrl(await media(file))}"></div></figure>`,
    );
  }
  const count = psnr?.length ?? (frames.at(-1) ?? 0) + 1;
  const shown = frames.length === count ? `${count} frames` : `${frames.length} of ${count} frames`;
  // The script takes what it needs from attributes: no text of others is among it.
  return html`<article class="video" id="video-${i}" aria-labelledby="video-${i}-title" data-columns="${columns}" data-width="${width}" data-height="${height}" data-scale="${scale}" data-frames="${frames.join(' ')}" data-psnr="${(psnr ?? []).map((value) => figure(value)).join('|')}">
<h3 id="video-${i}-title">${prompt}</h3>
<p class="quiet">Seed ${seed}; ${figuresText(video)}. Shown: ${shown} of ${width} × ${height} pixels.</p>
<div class="panes">${pictures}</div>
${psnr && psnr.length > 1 ? html`<figure class="plot wide"><figcaption>PSNR by frame</figcaption>${framePsnr(`chart-frames-${i}`, psnr)}</figure>` : null}
</article>`;
}

function figuresText({ psnr, ssim, floorPsnr, sqnr, sqnrMin }: Video): string {
  const forced = sqnr === null ? '' : `, SQNR ${figure(sqnr)}, at worst ${figure(sqnrMin)}`;
  return `PSNR ${figure(psnr)} (noise floor ${figure(floorPsnr)}), SSIM ${figure(ssim, '')}${forced}`;
}

/** What the colours of a difference mean: steps of 8-bit values. */
function scaleBar(): Html {
  const steps = Array.from({ length: 16 }, (_, i) => {
    const [r, g, b] = magma(Math.round((255 * (i + 0.5)) / 16));
    return html`<rect x="${i * 6}" y="0" width="6.5" height="10" fill="rgb(${r},${g},${b})"></rect>`;
  });
  const most = Math.ceil(255 / DIFFERENCE_GAIN);
  return html` <span class="scale"><span>0</span><svg viewBox="0 0 96 10" width="96" height="10" role="img" aria-label="Colours of differences from 0 to ${most} of 255 and more">${steps}</svg><span>≥ ${most} of 255</span></span>`;
}

async function strip(i: number, video: Video, media: ReportInput['media']): Promise<Html> {
  const alt = `Frames of the clip: reference above, quantized below it, their difference last; ${figuresText(video)}`;
  return html`<article class="video" id="video-${i}" aria-labelledby="video-${i}-title">
<h3 id="video-${i}-title">${video.prompt}</h3>
<p class="quiet">Seed ${video.seed}; ${figuresText(video)}. Reference, quantized, difference × ${DIFFERENCE_GAIN}.</p>
<img class="strip" alt="${alt}" decoding="async" src="${dataUrl(await media(video.strip as string))}">
</article>`;
}

function dataUrl(bytes: Uint8Array): Html {
  const type = bytes[0] === 0x89 ? 'image/png' : 'image/webp';
  return new Html(
    `data:${type};base64,${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')}`,
  );
}
