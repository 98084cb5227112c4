// The software bill of materials of what an installation of wanq brings: CycloneDX JSON, to the file that is named, else to stdout.
// npm's own `--omit dev` also leaves out production packages that a development package needs as well (npm 10.9.9 and 11.19.1: 4 of 97), so the
// whole list is taken and filtered by the lockfile. Nothing in it changes from run to run.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const [file] = process.argv.slice(2);

const args = ['sbom', '--sbom-format', 'cyclonedx', '--sbom-type', 'application', '--package-lock-only'];
const options = { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 28, stdio: ['ignore', 'pipe', 'inherit'] };
const { npm_execpath: npm } = process.env;
const all = JSON.parse(
  npm
    ? execFileSync(process.execPath, [npm, ...args], options)
    : execFileSync('npm', args, { ...options, shell: process.platform === 'win32' }),
);

const { packages } = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8'));
const production = new Set(
  Object.entries(packages)
    .filter(([place, { dev }]) => place !== '' && !dev)
    .map(([place, { name, version }]) => `${name ?? place.replace(/^.*node_modules\//, '')}@${version}`),
);
const { name, version, dependencies } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
const self = `${name}@${version}`;
const direct = new Set(Object.keys(dependencies));

const components = new Map(
  all.components
    .filter((component) => production.has(component['bom-ref']))
    // Only a development dependency makes some of them required, and only npm 10 tells where each lies.
    .map(({ properties, ...component }) => [component['bom-ref'], component]),
);
const isDirect = (reference) => direct.has(reference.slice(0, reference.lastIndexOf('@')));
const graph = new Map();
for (const { ref, dependsOn } of all.dependencies) {
  if (ref !== self && !production.has(ref)) continue;
  const kept = dependsOn.filter((other) => production.has(other) && (ref !== self || isDirect(other)));
  graph.set(ref, [...new Set([...(graph.get(ref) ?? []), ...kept])].sort());
}

const byReference = ([a], [b]) => (a < b ? -1 : 1);
const { metadata } = all;
const bill = {
  $schema: all.$schema,
  bomFormat: all.bomFormat,
  specVersion: all.specVersion,
  version: 1,
  metadata: {
    lifecycles: metadata.lifecycles,
    tools: metadata.tools.map(({ vendor, name }) => ({ vendor, name })),
    // npm takes its name from the folder.
    component: { ...metadata.component, name, properties: [] },
  },
  components: [...components].sort(byReference).map(([, component]) => component),
  dependencies: [...graph].sort(byReference).map(([ref, dependsOn]) => ({ ref, dependsOn })),
};
const text = `${JSON.stringify(bill, null, 2)}\n`;
if (file === undefined) process.stdout.write(text);
else writeFileSync(file, text);
