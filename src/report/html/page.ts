import type { ReportInput } from './input.js';
import { html } from './markup.js';
import { adviceSection } from './sections/advice.js';
import { costSection } from './sections/cost.js';
import { curvesSection } from './sections/curves.js';
import { histogramsSection } from './sections/histograms.js';
import { linearsSection } from './sections/linears.js';
import { metricsSection } from './sections/metrics.js';
import { provenanceSection } from './sections/provenance.js';
import { verdictSection } from './sections/verdict.js';
import { videosSection } from './sections/videos.js';
import { htmlPage } from './skeleton.js';

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
  return htmlPage({
    title,
    wanqVersion: results.wanqVersion,
    sections: present.map(([id, name]) => [id, name]),
    body: present.map(([, , section]) => html`${section}\n`),
    made: results.createdAt,
  });
}
