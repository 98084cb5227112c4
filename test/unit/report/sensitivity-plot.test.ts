import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { escapeXml, type PlottedLinear, sensitivityPlot } from '../../../src/report/sensitivity-plot.js';

const linears: PlottedLinear[] = [
  { name: 'blocks.0.attn1.q', damage: 1e-6 },
  { name: 'blocks.0.ffn.down', damage: 1e-4 },
  { name: 'blocks.10.attn1.q', damage: 3e-6 },
  { name: 'blocks.10.ffn.down', damage: 0 },
];
const text = { title: 'Damage', subtitle: 'micro' };

/** Fails where it is not well-formed. */
const render = (svg: string): ReturnType<ReturnType<typeof sharp>['metadata']> => sharp(Buffer.from(svg)).metadata();

describe('sensitivityPlot', () => {
  it('has a cell for each linear of a block, with its decibels, and a bar for each kind', async () => {
    const svg = sensitivityPlot(linears, text);
    expect((await render(svg)).format).toBe('svg');
    expect(svg.match(/<rect class="q\d"/g)).toHaveLength(4);
    for (const shown of ['>block 0<', '>block 10<', '>attn1.q<', '>ffn.down<', '>60.0<', '>40.0<', '>∞<']) {
      expect(svg).toContain(shown);
    }
    expect(svg.match(/<rect class="bar"/g)).toHaveLength(2);
    expect(svg).toContain('>96.2 %<');
  });

  it('shades from the least to the most damage', () => {
    const svg = sensitivityPlot(linears, text);
    const shades = [...svg.matchAll(/<title>(\S+): [^<]+<\/title><rect class="q(\d)"/g)].map(([, name, q]) => [
      name,
      q,
    ]);
    expect(Object.fromEntries(shades)).toEqual({
      'blocks.0.attn1.q': '0',
      'blocks.0.ffn.down': '7',
      'blocks.10.attn1.q': '1',
      'blocks.10.ffn.down': '0',
    });
  });

  it('follows the colour scheme of its reader', () => {
    expect(sensitivityPlot(linears, text)).toContain('@media (prefers-color-scheme:dark)');
  });

  it('takes names and titles as text, whatever is in them', async () => {
    const nasty = `</text><script>alert("1")</script>&amp;'\u0000\u001b[31m`;
    const svg = sensitivityPlot(
      [
        { name: nasty, damage: 1 },
        { name: `blocks.0.${nasty}`, damage: 1 },
      ],
      {
        ...{ title: nasty, subtitle: nasty },
      },
    );
    for (const raw of ['<script', '\u0000', '\u001b']) expect(svg).not.toContain(raw);
    expect(svg).toContain('&lt;script&gt;alert(&quot;1&quot;)');
    expect((await render(svg)).format).toBe('svg');
  });

  it('has bars alone where no linear is of a block', async () => {
    const svg = sensitivityPlot([{ name: 'node_1', damage: 2 }], text);
    expect((await render(svg)).format).toBe('svg');
    expect(svg).not.toMatch(/class="q\d/);
    expect(svg).toContain('>100.0 %<');
  });

  it('stands a model without damage', async () => {
    const svg = sensitivityPlot([{ name: 'blocks.0.ffn.up', damage: 0 }], text);
    expect((await render(svg)).format).toBe('svg');
    expect(svg).toContain('>0 %<');
    expect(svg).not.toContain('NaN');
  });
});

describe('escapeXml', () => {
  it('keeps line breaks and letters of all scripts', () => {
    expect(escapeXml('a\tb\nc é 字')).toBe('a\tb\nc é 字');
  });
});
