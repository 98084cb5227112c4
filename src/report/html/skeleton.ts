import { createHash } from 'node:crypto';
import { type Content, Html, html } from './markup.js';
import { HEAD_SCRIPT } from './script/head.js';
import { PAGE_SCRIPT } from './script/page.js';
import { STYLE } from './style.js';

/** A page, in parts. */
export interface PageParts {
  readonly title: string;
  readonly wanqVersion: string;
  /** Sections that the page leads to: id and name. */
  readonly sections: readonly (readonly [id: string, name: string])[];
  readonly body: Content;
  /** What the footer says beside the version. */
  readonly made?: string;
}

/**
 * An HTML page that needs no other file and no network. Its style and scripts are allowed by their hashes alone, so that no text from results can act
 * as either.
 */
export function htmlPage({ title, wanqVersion, sections, body, made }: PageParts): string {
  const [[first] = ['']] = sections;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="wanq ${wanqVersion}">
<title>${title}</title>
<style>${new Html(STYLE)}</style>
<script>${new Html(HEAD_SCRIPT)}</script>
</head>
<body>
<a class="skip" href="#${first}">Skip to the first section</a>
<header><div><strong>wanq</strong><nav aria-label="Sections">${sections.map(([id, name]) => html`<a href="#${id}">${name}</a>`)}</nav><button type="button" id="theme" class="needs-script" aria-label="Switch between light and dark" title="Switch between light and dark">◐</button></div></header>
<main>
${body}</main>
<footer>wanq ${wanqVersion}${made === undefined ? '' : `, ${made}`}. All of this page is in this one file.</footer>
<script>${new Html(PAGE_SCRIPT)}</script>
</body>
</html>
`.text;
}

function policy(): string {
  const hash = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  return [
    "default-src 'none'",
    'img-src data:',
    `style-src ${hash(STYLE)}`,
    `script-src ${hash(HEAD_SCRIPT)} ${hash(PAGE_SCRIPT)}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
}
