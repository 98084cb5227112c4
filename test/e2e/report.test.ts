import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { htmlReport, type ReportInput } from '../../src/report/html/page.js';
import { Browser, findBrowser } from '../helpers/browser.js';
import { DAMAGED, SAMPLE, sampleReport } from '../helpers/results.js';

const file = findBrowser();
if (!file && process.env.WANQ_REQUIRE_BROWSER === '1')
  throw new Error('WANQ_REQUIRE_BROWSER=1, and no Chromium was found');
if (!file) console.warn('SKIPPED: no Chromium on PATH, so report.html was not opened in any browser');

const VIEW = { width: 1280, height: 900 };

describe.skipIf(!file)('report.html in a browser', () => {
  let folder: string;
  let browser: Browser;
  let page: string;
  let input: ReportInput;

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'wanq-report-'));
    page = path.join(folder, 'report.html');
    input = await sampleReport({ ...SAMPLE, prompts: 6, height: 64, width: 96 });
    await writeFile(page, await htmlReport(input));
    browser = await Browser.start(file as string);
  });

  afterAll(async () => {
    await browser?.close();
    await rm(folder, { recursive: true, force: true });
  });

  const property = <T>(selector: string, name: string): Promise<T> =>
    browser.evaluate<T>(`document.querySelector(${JSON.stringify(selector)}).${name}`);
  const focus = (selector: string): Promise<void> =>
    browser.evaluate(`document.querySelector(${JSON.stringify(selector)}).focus()`);
  const firstLinear = (): Promise<string> => property('#linears-table tbody tr:not([hidden]) th', 'textContent');
  /** The pixels of a clip's picture. They are copied first: Chromium warns of canvases that are read again and again. */
  const pixels = (pane: string): Promise<number[]> =>
    browser.evaluate(
      `(() => { const copy = new OffscreenCanvas(96, 64).getContext('2d', { willReadFrequently: true }); copy.drawImage(document.querySelector('.video.chosen .${pane} canvas'), 0, 0); return [...copy.getImageData(0, 0, 96, 64).data]; })()`,
    );
  const nothingAmiss = (): void => {
    expect(browser.messages).toEqual([]);
    expect(browser.requests).toEqual([]);
  };

  it('loads without a word on the console and without a request, and no text in it has run', async () => {
    await browser.open(page, VIEW);
    expect(await browser.evaluate('document.title')).toBe('Failed: INT8 against reference');
    expect(await property('h1', 'textContent')).toContain('Failed');
    expect(await browser.evaluate('document.querySelectorAll("img").length')).toBe(18);
    nothingAmiss();
  });

  it('plays clips in step, and goes to the frame that is asked for', async () => {
    await browser.open(page, VIEW);
    expect(await property('#play', 'ariaPressed')).toBe('false');
    const before = await pixels('reference');
    await browser.click('#play');
    expect(await property('#play', 'ariaPressed')).toBe('true');
    await browser.evaluate(
      'new Promise((resolve) => { const t = setInterval(() => { if (Number(document.getElementById("frame").value) > 2) { clearInterval(t); resolve(); } }, 20); })',
    );
    await browser.click('#play');
    expect(await property('#play', 'textContent')).toContain('Play');
    expect(await pixels('reference')).not.toEqual(before);

    await browser.evaluate(
      'const s = document.getElementById("frame"); s.value = 9; s.dispatchEvent(new Event("input"))',
    );
    const psnr = input.results.videos[0]?.framePsnr?.[9] as number;
    expect(await property('#frame-text', 'textContent')).toBe(`frame 10 of 17, PSNR ${psnr.toFixed(2)} dB`);
    const cursor = await property<string>('.video.chosen .cursor', 'x1.baseVal.value');
    await focus('.video.chosen .stage');
    await browser.press('ArrowRight');
    expect(await property('#frame', 'value')).toBe('10');
    expect(await property('.video.chosen .cursor', 'x1.baseVal.value')).toBeGreaterThan(Number(cursor));
    await browser.press('Home');
    expect(await pixels('reference')).toEqual(before);
    nothingAmiss();
  });

  it('shows the pixels of the clips', async () => {
    await browser.open(page, VIEW);
    const { sheets } = input.results.videos[0] as ReportInput['results']['videos'][number];
    for (const pane of ['reference', 'quantized', 'difference'] as const) {
      const bytes = await input.media(sheets?.[pane] as string);
      const tile = await sharp(bytes)
        .extract({ left: 0, top: 0, width: 96, height: 64 })
        .ensureAlpha()
        .raw()
        .toBuffer();
      expect(await pixels(pane)).toEqual([...tile]);
    }
  });

  it('shows the clip that is chosen, at the zoom that is chosen', async () => {
    await browser.open(page, VIEW);
    await browser.evaluate(
      'for (const [id, value] of [["video-choice", "video-3"], ["zoom", "2"]]) { const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event("change")); }',
    );
    expect(
      await browser.evaluate('[...document.querySelectorAll(".video")].filter((e) => e.offsetParent).map((e) => e.id)'),
    ).toEqual(['video-3']);
    expect(await property('.video.chosen canvas', 'offsetWidth')).toBe(192);
    await browser.click('.to-video');
    const { videos } = input.results;
    const worst = videos.indexOf(
      videos.toSorted((a, b) => (a.sqnr as number) - (b.sqnr as number))[0] as (typeof videos)[number],
    );
    expect(await property('.video.chosen', 'id')).toBe(`video-${worst}`);
  });

  it('sorts linears with the keyboard, and filters them', async () => {
    await browser.open(page, VIEW);
    expect(await firstLinear()).toBe('patch_embedding');
    const excess = '#linears-table th:nth-child(9)';
    expect(await property(`${excess} button`, 'textContent')).toBe('excess');
    await focus(`${excess} button`);
    await browser.press('Enter');
    expect(await property(excess, 'ariaSort')).toBe('descending');
    expect(await firstLinear()).toBe(DAMAGED);
    await browser.press(' ');
    expect(await property(excess, 'ariaSort')).toBe('ascending');
    const { linears } = input.results;
    const least = linears
      .filter((row) => row.excess !== null)
      .toSorted((a, b) => (a.excess as number) - (b.excess as number))[0];
    expect(await firstLinear()).toBe(least?.linear);
    await browser.press('Enter');
    expect(await property(excess, 'ariaSort')).toBeNull();
    expect(await firstLinear()).toBe('patch_embedding');

    await focus('#linear-text');
    for (const key of 'up 12') await browser.press(key);
    expect(await property('#linear-count', 'textContent')).toBe(`1 of ${linears.length}`);
    expect(await firstLinear()).toBe('blocks.12.ffn.up');
    await browser.evaluate(
      'document.getElementById("linear-text").value = ""; const p = document.getElementById("linear-precision"); p.value = "int8"; p.dispatchEvent(new Event("change"))',
    );
    expect(await property('#linear-count', 'textContent')).toBe(`60 of ${linears.length}`);
    nothingAmiss();
  });

  it('shows the histogram of the linear that is chosen', async () => {
    await browser.open(page, VIEW);
    const shown = (): Promise<string[]> =>
      browser.evaluate(
        '[...document.querySelectorAll(".histogram")].filter((e) => e.offsetParent).map((e) => e.querySelector("code").textContent)',
      );
    expect(await shown()).toEqual(['blocks.0.ffn.up']);
    const row = input.results.linears.findIndex(({ linear }) => linear === DAMAGED);
    await browser.click(`#linear-${row} a`);
    expect(await shown()).toEqual([DAMAGED]);
    expect(await property(`#linear-${row}`, 'className')).toContain('chosen');
    nothingAmiss();
  });

  it('turns dark and light', async () => {
    const background = 'getComputedStyle(document.body).backgroundColor';
    await browser.open(page, { ...VIEW, dark: true });
    const dark = await browser.evaluate(background);
    await browser.open(page, VIEW);
    const light = await browser.evaluate(background);
    expect(light).not.toBe(dark);
    const before = await browser.screenshot();
    await browser.click('#theme');
    expect(await browser.evaluate(background)).toBe(dark);
    await browser.evaluate('scrollTo(0, 0)');
    const { entropy, channels } = await sharp(await browser.screenshot()).stats();
    expect(entropy).toBeGreaterThan(0.5);
    expect(channels[0]?.mean).toBeLessThan((await sharp(before).stats()).channels[0]?.mean as number);
    await browser.click('#theme');
    expect(await browser.evaluate(background)).toBe(light);
    nothingAmiss();
  });

  it('fits a narrow window, and shows everything without scripts', async () => {
    await browser.open(page, { width: 400, height: 900 });
    expect(await browser.evaluate('document.documentElement.scrollWidth <= innerWidth')).toBe(true);
    await browser.open(page, { ...VIEW, scripts: false });
    const seen = 'document.querySelectorAll(".video .sheet, .chart, .controls").length';
    expect(await browser.evaluate(seen)).toBeGreaterThan(0);
    const hidden =
      '[...document.querySelectorAll(".video .sheet, #linears-table tr, .plots .chart")].filter((e) => !e.getClientRects().length).length';
    expect(await browser.evaluate(hidden)).toBe(0);
    expect(
      await browser.evaluate(
        '[...document.querySelectorAll(".needs-script")].filter((e) => e.getClientRects().length).length',
      ),
    ).toBe(0);
    nothingAmiss();
  });
});
