import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
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
    ['一只猫 🐈‍⬛ مرحبا', '一只猫 🐈‍⬛ مرحبا'],
  ])('shows %j as %s', (text, shown) => {
    expect(visible(text)).toBe(shown);
  });
});
