import factory, { type Builder } from 'junit-report-builder';
import { printable } from '../errors.js';
import type { Verdict } from '../gate/judge.js';
import { baselineLine, gateLines } from '../gate/lines.js';

/** JUnit XML of a verdict: one suite, a case for each check. A warning is a case that passed and says so. */
export function junitReport(verdict: Verdict): string {
  // Its types are those of an ES module; what Node imports is module.exports.
  const builder = (factory as unknown as Builder).newBuilder();
  const suite = builder.testSuite().name('wanq gate');
  for (const { kind, name, status, message } of gateLines(verdict)) {
    const of = suite.testCase().className(`wanq.gate.${kind}`).name(xmlText(name, 200));
    if (status === 'failed') of.failure(xmlText(message));
    else of.standardOutput(xmlText(status === 'warn' ? `warning: ${message}` : message));
  }
  const notes = [baselineLine(verdict), ...(verdict.baseline?.notes ?? [])].flatMap((note) => note ?? []);
  if (notes.length > 0)
    suite
      .testCase()
      .className('wanq.gate.notes')
      .name('notes')
      .standardOutput(xmlText(notes.join('; ')));
  return builder.build();
}

/** What XML 1.0 has no way to write, even escaped: control characters, halves of surrogate pairs, U+FFFE and U+FFFF. */
const FORBIDDEN = /[\uFFFE\uFFFF]|[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g;

function xmlText(text: string, maxLength = 2000): string {
  return printable(text, maxLength).replace(FORBIDDEN, ' ');
}
