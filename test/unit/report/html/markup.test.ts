import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { printable } from '../../../../src/errors.js';
import { html, visible } from '../../../../src/report/html/markup.js';

describe('html', () => {
  it('escapes text in elements and attributes, and leaves markup as it is', () => {
    const inner = html`<b>${'<i>'}</b>`;
    expect(html`<p title="${'" onclick="x'}">${inner}${['a', null, false, 1]}</p>`.text).toBe(
      '<p title="&quot; onclick=&quot;x"><b>&lt;i&gt;</b>a1</p>',
    );
  });

  it('lets no text begin or end markup', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(html`${text}`.text).not.toMatch(/[<>"']/);
      }),
    );
  });
});

describe('visible', () => {
  it.each([
    ['turned \u202e around', 'turned [U+202E] around'],
    ['a\u0000b\u001b[31m\n', 'a␀b␛[31m␊'],
    ['\u0085\u200b\ufeff\u2066', '[U+0085][U+200B][U+FEFF][U+2066]'],
    ['a\u00adb\u180e\u3164c\u{e0041}\ud800', 'a[U+00AD]b[U+180E][U+3164]c[U+E0041][U+D800]'],
    ['jo\u200din\u200cer\u200d', 'jo[U+200D]in[U+200C]er[U+200D]'],
    ['一只猫 🐈‍⬛ مرحبا', '一只猫 🐈‍⬛ مرحبا'],
    ['👩🏽‍🚀 🏳️‍🌈 می‌خواهم क्‍ष', '👩🏽‍🚀 🏳️‍🌈 می‌خواهم क्‍ष'],
  ])('shows %j as %s', (text, shown) => {
    expect(visible(text)).toBe(shown);
  });

  it('shows all that is not shown on a terminal', () => {
    for (let code = 0; code <= 0x10ffff; code++) {
      const text = `a${String.fromCodePoint(code)}b`;
      if (printable(text) !== text) expect(visible(text), code.toString(16)).not.toBe(text);
    }
  });
});
