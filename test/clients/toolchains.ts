// SPDX-License-Identifier: Apache-2.0
// Makes the gRPC clients in other languages runnable: a Python environment kept outside the tree, stubs from proto/, a Go program. Each is
// made once for each state of what it is made of.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const kRoot = resolve(__dirname, '../..');
const kHere = __dirname;
const kProto = join(kRoot, 'proto');
const kMessagingProto = 'outrigger/v1/messaging.proto';

/** How to start a client: command and first arguments, and what its environment needs. */
export interface ClientProgram {
  readonly language: 'Python' | 'Go';
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

function hashOf(...paths: readonly string[]): string {
  const hash = createHash('sha256');
  for (const path of paths) {
    hash.update(path.slice(kRoot.length)).update(readFileSync(path));
  }
  return hash.digest('hex').slice(0, 16);
}

/** Runs make(folder) unless an earlier run with the same key came to its end; folders of other keys are removed. */
async function madeOnce(
  parent: string,
  prefix: string,
  key: string,
  make: (folder: string) => Promise<void>,
): Promise<string> {
  const folder = join(parent, `${prefix}${key}`);
  const stamp = join(folder, '.complete');
  if (!existsSync(stamp)) {
    mkdirSync(parent, { recursive: true });
    for (const old of readdirSync(parent).filter((name) => name.startsWith(prefix))) {
      rmSync(join(parent, old), { recursive: true, force: true });
    }
    mkdirSync(folder);
    await make(folder);
    writeFileSync(stamp, '');
  }
  return folder;
}

/** Python with grpcio and the tools that generate code; its own protoc serves Go as well. */
async function pythonEnvironment(): Promise<string> {
  const requirements = join(kHere, 'python/requirements.txt');
  const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'outrigger');
  const folder = await madeOnce(cache, 'python-', hashOf(requirements), async (target) => {
    await run('python3', ['-m', 'venv', target]);
    await run(join(target, 'bin/python'), [
      ...['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--requirement', requirements],
    ]);
  });
  return join(folder, 'bin/python');
}

export async function pythonClient(): Promise<ClientProgram> {
  const python = await pythonEnvironment();
  const key = hashOf(join(kProto, kMessagingProto), join(kHere, 'python/requirements.txt'));
  const stubs = await madeOnce(join(kRoot, 'build/clients'), 'python-stubs-', key, async (target) => {
    await run(python, [
      ...['-m', 'grpc_tools.protoc', '-I', kProto],
      ...[`--python_out=${target}`, `--grpc_python_out=${target}`, kMessagingProto],
    ]);
  });
  return {
    language: 'Python',
    command: python,
    args: [join(kHere, 'python/client.py')],
    env: { PYTHONPATH: stubs, PYTHONDONTWRITEBYTECODE: '1' },
  };
}

export async function goClient(): Promise<ClientProgram> {
  const python = await pythonEnvironment();
  const sources = ['go.mod', 'go.sum', 'main.go'].map((name) => join(kHere, 'go', name));
  const key = hashOf(...sources, join(kProto, kMessagingProto));
  const folder = await madeOnce(join(kRoot, 'build/clients'), 'go-', key, async (target) => {
    cpSync(join(kHere, 'go'), target, { recursive: true });
    const env = { ...process.env, GOBIN: join(target, 'bin') };
    await run('go', ['install', 'tool'], { cwd: target, env });
    const generated = ['go', 'go-grpc'].flatMap((name) => [
      `--plugin=protoc-gen-${name}=${join(target, 'bin', `protoc-gen-${name}`)}`,
      `--${name}_out=${target}`,
      `--${name}_opt=module=outrigger.dev`,
    ]);
    await run(python, ['-m', 'grpc_tools.protoc', '-I', kProto, ...generated, kMessagingProto]);
    await run('go', ['build', '-o', 'client', '.'], { cwd: target, env });
  });
  return { language: 'Go', command: join(folder, 'client'), args: [], env: {} };
}
