// SPDX-License-Identifier: Apache-2.0
// An image's file system, run as a kubelet runs the container of an injected pod. Needs root, for namespaces.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { defaultProfileSpec } from '../../operator/src/api/sidecar_profile';
import { kPodPaths, kSidecarId } from '../../operator/src/webhook/layout';
import { sidecarResources } from '../../operator/src/webhook/resources';
import { sidecarContainer } from '../../operator/src/webhook/sidecar_container';
import { environmentOf } from '../../operator/src/webhook/testing';
import type { TarEntry } from './archive';

/** In namespaces of its own. */
export class Container {
  /** The socket's folder, shared with what would be the app. */
  readonly socketFolder: string;
  readonly exited: Promise<number | null>;
  output = '';
  private readonly child: ChildProcess;

  constructor(
    readonly root: string,
    folder: string,
  ) {
    this.socketFolder = join(folder, 'socket');
    mkdirSync(this.socketFolder, { recursive: true });
    // As the kubelet makes an emptyDir with an fsGroup.
    execFileSync('chown', [`0:${kSidecarId}`, this.socketFolder]);
    chmodSync(this.socketFolder, 0o2777);
    const spec = defaultProfileSpec();
    const container = sidecarContainer({
      spec,
      image: 'localhost/outrigger:test',
      resources: sidecarResources(spec, true),
      ipv6: false,
      hostNetwork: false,
      udpPort: spec.udpPorts.first,
      hasTopics: true,
      guaranteed: true,
      graceSeconds: 30,
    });
    const env = { ...environmentOf(container, '127.0.0.1'), PATH: '/usr/bin' };
    const script = `
      set -e
      ip link set lo up
      mount --bind "$1" "$1"
      mount -t proc proc "$1/proc"
      mount --bind "$2" "$1${kPodPaths.socketDirectory}"
      mount -t tmpfs -o size=129m,mode=2777,gid=${kSidecarId} tmpfs "$1${kPodPaths.memory}"
      mount -t tmpfs -o size=64m,mode=2777,gid=${kSidecarId} tmpfs "$1${kPodPaths.own}"
      mount -o remount,bind,ro "$1"
      root=$1; shift 2
      exec /usr/bin/env -i "$@"`;
    const command = [
      ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
      ...['/usr/bin/setpriv', '--no-new-privs', '--pdeathsig', 'KILL'],
      ...['/usr/sbin/chroot', `--userspec=${kSidecarId}:${kSidecarId}`, `--groups=${kSidecarId}`, root],
      ...(container.command ?? []),
      ...(container.args ?? []),
    ];
    this.child = spawn(
      'unshare',
      [
        ...['--mount', '--pid', '--net', '--fork', '--kill-child', '--propagation', 'private'],
        ...['bash', '-c', script, 'container', root, this.socketFolder, ...command],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on('data', (data: Buffer) => (this.output += data.toString()));
    }
    this.exited = once(this.child, 'close').then(([code]) => code as number | null);
  }

  /** PID 1 of the container, as we see it. */
  get init(): number {
    const pid = this.child.pid ?? 0;
    const init = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim());
    if (!(init > 0)) throw new Error('the container has no process yet');
    return init;
  }

  get processes(): readonly number[] {
    const children = (pid: number): number[] =>
      readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
    const all = (pid: number): number[] => [pid, ...children(pid).flatMap(all)];
    return all(this.init);
  }

  /** Runs a command in it, as `kubectl exec` and a preStop hook do. */
  exec(...command: readonly string[]): string {
    const inside = ['nsenter', '-t', `${this.init}`, '-m', '-n', '-p', '--'];
    const user = ['chroot', `--userspec=${kSidecarId}:${kSidecarId}`, '--groups=', this.root];
    const [program = '', ...args] = [...inside, ...user, ...command];
    return execFileSync(program, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    });
  }

  terminate(): void {
    process.kill(this.init, 'SIGTERM');
  }

  async end(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      try {
        // First the container itself: it gave up its parent-death signal with its user, would go on alone and hold our pipes open.
        process.kill(this.init, 'SIGKILL');
      } catch {
        // It has not begun, or is gone.
      }
      this.child.kill('SIGKILL');
      await this.exited;
    }
  }
}

/** Later layers come later in `entries`. */
export function unpack(entries: readonly TarEntry[], root: string): void {
  mkdirSync(root, { mode: 0o755 });
  for (const { path, type, mode, target, data } of entries) {
    const to = join(root, path);
    if (type === '5') {
      mkdirSync(to, { recursive: true });
      chmodSync(to, mode);
    } else if (type === '2') {
      symlinkSync(target, to);
    } else {
      mkdirSync(dirname(to), { recursive: true });
      writeFileSync(to, data);
      chmodSync(to, mode);
    }
  }
}
