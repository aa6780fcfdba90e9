// SPDX-License-Identifier: Apache-2.0
// The directory as a part of the operator's process; none where it has no address to listen on.
import { randomBytes } from 'node:crypto';
import type { CertificateState } from '../ca/rotation';
import type { CertificateWatch } from '../ca/secret_store';
import type { Component } from '../process/component';
import type { OperatorContext } from '../process/operator';
import { directoryCluster, feed } from './cluster';
import { Directory, kDirectoryDefaults } from './directory';
import { directoryMetrics } from './metrics';
import { CertificateSource, DirectoryServer } from './server';

const kGraceMs = 2000;
/** A label's value holds no more. */
const kMaxLabelLength = 63;

/** Of this process: a container that is restarted in its pod is another replica, which must not take the members of the one before as gone. */
function replicaName(instance: string): string {
  const suffix = `-${randomBytes(4).toString('hex')}`;
  return `${instance.slice(0, kMaxLabelLength - suffix.length)}${suffix}`;
}

export function directoryComponent(
  { caches, config, instance, kit, metrics }: OperatorContext,
  certificates: CertificateWatch,
): Component | undefined {
  if (config.directoryListen === '') {
    return undefined;
  }
  const directory = new Directory(
    directoryCluster(kit, caches),
    { ...kDirectoryDefaults, replica: replicaName(instance), writesPerSecond: config.requestsPerSecond },
    kit.log,
  );
  directoryMetrics(metrics.registry, () => directory.stats);
  let server: DirectoryServer | undefined;
  let ended = false;
  let problem = 'the directory does not serve yet';
  const serve = async (): Promise<void> => {
    // What sidecars are told must be complete: members that are only not read yet would look gone.
    await Promise.all([caches.topics.synced, caches.slices.synced, caches.namespaces.synced]);
    const first = await new Promise<CertificateState>((resolve) => certificates.onState(resolve));
    // It may have been stopped while it waited.
    if (ended) {
      return;
    }
    const pair = ({ serving }: CertificateState): { certificate: Buffer; privateKey: Buffer } => ({
      certificate: Buffer.from(serving.certificate),
      privateKey: Buffer.from(serving.key),
    });
    const source = new CertificateSource(pair(first));
    certificates.onState((state) => source.update(pair(state)));
    feed(directory, caches);
    const starting = new DirectoryServer(directory, source, kit.log);
    await starting.start(config.directoryListen);
    server = starting;
  };
  return {
    name: 'directory',
    // In the background: the leader makes the first certificates, and it leads only after this has begun.
    start: () => {
      void serve().catch((error: unknown) => {
        problem = (error as Error).message;
        kit.log.error({ error: problem }, 'the directory can not serve');
      });
      return Promise.resolve();
    },
    stop: async () => {
      ended = true;
      await server?.stop(kGraceMs);
    },
    notReady: () => (server === undefined ? [problem] : []),
  };
}
