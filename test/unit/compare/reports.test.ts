import { mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, it } from 'vitest';
import { readReports } from '../../../src/compare/reports.js';
import { resultsToJson } from '../../../src/report/results.js';
import { temporaryFolder } from '../helpers/temporary.js';
import { modelResults } from './fixture.js';

async function reportFolder(root: string, name: string, ...files: string[]): Promise<string> {
  const folder = path.join(root, name);
  await mkdir(folder);
  await writeFile(path.join(folder, 'results.json'), resultsToJson(modelResults(name)));
  for (const file of files) await writeFile(path.join(folder, file), '');
  return folder;
}

it('reads folders and files, and finds the page of each', async () => {
  const root = await temporaryFolder();
  const a = await reportFolder(root, 'a', 'report.md', 'report.html');
  const b = await reportFolder(root, 'b', 'report.md');
  const c = path.join(await reportFolder(root, 'c'), 'results.json');
  const reports = await readReports([a, b, c]);
  expect(reports.map(({ page }) => path.relative(root, page))).toEqual([
    'a/report.html',
    'b/report.md',
    'c/results.json',
  ]);
  expect(reports.map(({ path: given }) => given)).toEqual([a, b, c]);
  expect(reports[1]?.results).toEqual(modelResults('b'));
});

it('refuses a report that is named twice, by whatever path', async () => {
  const root = await temporaryFolder();
  const a = await reportFolder(root, 'a');
  await symlink(a, path.join(root, 'link'));
  for (const again of [a, path.join(a, 'results.json'), path.join(root, 'link')]) {
    await expect(readReports([a, again])).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringMatching(/named twice/),
    });
  }
});

it('refuses what is no report', async () => {
  const root = await temporaryFolder();
  await expect(readReports([path.join(root, 'nowhere')])).rejects.toMatchObject({
    code: 'NOT_FOUND',
    message: expect.stringMatching(/nowhere does not exist/),
  });
  await expect(readReports([root])).rejects.toMatchObject({
    code: 'NOT_FOUND',
    message: expect.stringMatching(/has no results\.json/),
  });
  await writeFile(path.join(root, 'results.json'), JSON.stringify({ schema: 1 }));
  await expect(readReports([root])).rejects.toMatchObject({
    code: 'RESULTS_INVALID',
    message: expect.stringMatching(/schema 1/),
  });
  await mkdir(path.join(root, 'int8', 'transformer'), { recursive: true });
  await writeFile(path.join(root, 'int8', 'transformer', 'model.onnx'), '');
  await expect(readReports([path.join(root, 'int8')])).rejects.toMatchObject({
    code: 'NOT_FOUND',
    hint: expect.stringContaining('--reference'),
  });
});
