import { createHash } from 'node:crypto';
import type { ReportInput } from './input.js';
import { Html, html } from './markup.js';
import { HEAD_SCRIPT } from './script/head.js';
import { PAGE_SCRIPT } from './script/page.js';
import { adviceSection } from './sections/advice.js';
import { costSection } from './sections/cost.js';
import { curvesSection } from './sections/curves.js';
import { histogramsSection } from './sections/histograms.js';
import { linearsSection } from './sections/linears.js';
import { metricsSection } from './sections/metrics.js';
import { provenanceSection } from './sections/provenance.js';
import { verdictSection } from './sections/verdict.js';
import { videosSection } from './sections/videos.js';
import { STYLE } from './style.js';

export type { ReportInput } from './input.js';

/**
 * The report as one HTML page that needs no other file and no network: verdict first, then clips side by side, curves, linears, histograms, cost
 * and how it was made. Its style and scripts are allowed by their hashes alone, so that no text from results can act as either.
 *
 * @throws what `media` throws
 */
export async function htmlReport(input: ReportInput): Promise<string> {
  const { results, verdict, advice, histograms } = input;
  const title = `${verdict.passed ? 'Passed' : 'Failed'}: INT8 against reference`;
  const sections = [
    ['verdict', 'Verdict', verdictSection(input)],
    ['advice', 'Remedies', advice && adviceSection(advice)],
    ['figures', 'Figures', metricsSection(results)],
    ['videos', 'Videos', await videosSection(input)],
    ['curves', 'Curves', curvesSection(results)],
    ['linears', 'Linears', linearsSection(input)],
    ['histograms', 'Histograms', histogramsSection(histograms)],
    ['cost', 'Cost', costSection(results)],
    ['provenance', 'Provenance', provenanceSection(input)],
  ] as const;
  const present = sections.filter(([, , section]) => section !== undefined);
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="wanq ${results.wanqVersion}">
<title>${title}</title>
<style>${new Html(STYLE)}</style>
<script>${new Html(HEAD_SCRIPT)}</script>
</head>
<body>
<a class="skip" href="#verdict">Skip to the verdict</a>
<header><div><strong>wanq</strong><nav aria-label="Sections">${present.map(([id, name]) => html`<a href="#${id}">${name}</a>`)}</nav><button type="button" id="theme" class="needs-script" aria-label="Switch between light and dark" title="Switch between light and dark">◐</button></div></header>
<main>
${present.map(([, , section]) => html`${section}\n`)}</main>
<footer>wanq ${results.wanqVersion}, ${results.createdAt}. All of this page is in this one file.</footer>
<script>${new Html(PAGE_SCRIPT)}</script>
</body>
</html>
`;
  return page.text;
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
