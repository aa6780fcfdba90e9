// SPDX-License-Identifier: Apache-2.0
// Builds the Java peer (test/interop/java) with Maven, once for each state of its sources, and says how to run it.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
export const kRoot = resolve(__dirname, '../../..');
const kProject = join(kRoot, 'test/interop/java');

function hashOfSources(): string {
  const hash = createHash('sha256');
  const names = readdirSync(join(kProject, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.java'),
  );
  for (const path of ['pom.xml', ...names.sort().map((name) => join('src', name))]) {
    hash.update(path).update(readFileSync(join(kProject, path)));
  }
  return hash.digest('hex').slice(0, 16);
}

/** Folder with the peer's jar and what it depends on. */
export async function javaPeerFolder(): Promise<string> {
  const cache = join(kRoot, 'build/interop');
  const folder = join(cache, `java-${hashOfSources()}`);
  if (existsSync(folder)) {
    return folder;
  }
  mkdirSync(cache, { recursive: true });
  // Built on the side and moved in whole: a build that was cut short never counts as done.
  const work = mkdtempSync(join(cache, 'work-'));
  try {
    cpSync(join(kProject, 'pom.xml'), join(work, 'pom.xml'));
    cpSync(join(kProject, 'src'), join(work, 'src'), { recursive: true });
    await run('mvn', ['-q', '-B', 'package'], { cwd: work, maxBuffer: 16 << 20 });
    const jars = mkdtempSync(join(cache, 'jars-'));
    cpSync(join(work, 'target/interop-peer-1.jar'), join(jars, 'interop-peer.jar'));
    cpSync(join(work, 'target/lib'), jars, { recursive: true });
    for (const old of readdirSync(cache).filter((name) => name.startsWith('java-'))) {
      rmSync(join(cache, old), { recursive: true, force: true });
    }
    renameSync(jars, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

/** Arguments of `java` up to the main class. Small and quick to start rather than fast: many of them share few cores. */
export function javaArguments(folder: string, heapMegabytes = 128): string[] {
  return [
    '-XX:+UseSerialGC',
    '-XX:TieredStopAtLevel=1',
    '-Xshare:auto',
    `-Xmx${heapMegabytes}m`,
    '-XX:-UsePerfData',
    '--add-opens',
    'java.base/jdk.internal.misc=ALL-UNNAMED',
    '-cp',
    `${folder}/*`,
  ];
}
