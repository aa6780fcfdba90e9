// SPDX-License-Identifier: Apache-2.0
// Writes the generated parts of docs/ from the programs' own help and from the build; with --check it only says whether they are current.
// Needs the build.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

function helpOf(program: string, ...args: string[]): string {
  const text = execFileSync(program, [...args, '--help'], { encoding: 'utf8' });
  return text.replaceAll(/\/dev\/shm\/aeron-\w+/g, '/dev/shm/aeron-<user>');
}

/** A function without arguments of a compiled module. */
function compiled(module: string, name: string): string {
  const exported = createRequire(import.meta.url)(`../build/ts/${module}.js`) as Record<string, () => string>;
  return (exported[name] as () => string)().trimEnd();
}

/** Name, meaning and the line of allowed values of each option in the driver's help. */
function driverOptions(): { name: string; meaning: string; allowed: string }[] {
  const found = helpOf('build/outrigger-driver').matchAll(
    /^ {2}((?:AERON|OUTRIGGER)_\w+)\n {6}(.+)\n {6}Allowed: (.+)\.$/gm,
  );
  return [...found].map(([, name = '', meaning = '', allowed = '']) => ({ name, meaning, allowed }));
}

const kNoEffect = 'anything: it has no effect';

function driverTable(): string {
  const rows = driverOptions()
    .filter(({ allowed }) => allowed !== kNoEffect)
    .map(({ name, meaning, allowed }) => {
      const [values = '', byDefault = ''] = allowed.split('. Default: ');
      return `| \`${name}\` | ${cell(meaning)} | ${cell(values)} | ${byDefault === '' ? '' : `\`${byDefault}\``} |`;
    });
  return ['| variable | meaning | allowed | default |', '|---|---|---|---|', ...rows].join('\n');
}

function driverIgnored(): string {
  const rows = driverOptions()
    .filter(({ allowed }) => allowed === kNoEffect)
    .map(({ name, meaning }) => `| \`${name}\` | ${cell(meaning)} |`);
  return ['| variable | why |', '|---|---|', ...rows].join('\n');
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

function block(text: string): string {
  return `\`\`\`\n${text.trimEnd()}\n\`\`\``;
}

function replaced(path: string, page: string, name: string, text: string): string {
  const begin = `<!-- generated: ${name} -->`;
  const end = `<!-- end of generated: ${name} -->`;
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  if (from < 0 || to < from) throw new Error(`${path} lacks the markers ${begin} and ${end}`);
  return `${page.slice(0, from + begin.length)}\n${text}\n${page.slice(to)}`;
}

const kPages: Record<string, Record<string, () => string>> = {
  'docs/configuration.md': {
    sidecar: () => compiled('sidecar/src/config/docs', 'renderConfigTable'),
    driver: driverTable,
    'driver-ignored': driverIgnored,
    init: () => block(helpOf('build/outrigger-init')),
    nicd: () => block(helpOf('build/outrigger-nicd')),
  },
  'docs/metrics.md': {
    sidecar: () => compiled('operator/src/observability/metrics_docs', 'renderSidecarMetrics'),
    driver: () => compiled('operator/src/observability/metrics_docs', 'renderDriverMetrics'),
    operator: () => compiled('operator/src/observability/metrics_docs', 'renderOperatorMetrics'),
  },
  'docs/operator.md': {
    settings: () => compiled('operator/src/config/docs', 'renderOperatorSettings'),
    roles: () => compiled('operator/src/config/docs', 'renderOperatorRoles'),
  },
  'docs/runbooks.md': {
    alerts: () => compiled('operator/src/observability/rules', 'renderAllRunbooks'),
  },
  'docs/injection.md': {
    annotations: () => compiled('operator/src/webhook/annotations', 'renderAnnotationTable'),
  },
};

for (const [path, parts] of Object.entries(kPages)) {
  const before = readFileSync(path, 'utf8');
  let page = before;
  for (const [name, make] of Object.entries(parts)) page = replaced(path, page, name, make());
  if (page === before) continue;
  if (process.argv.includes('--check')) {
    console.error(`${path} is not what the programs say: run make docs`);
    process.exitCode = 1;
  } else {
    writeFileSync(path, page);
  }
}
