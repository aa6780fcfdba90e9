// SPDX-License-Identifier: Apache-2.0
// Puts the sidecar together and takes it apart: start, drain, close. The process around it is main.ts.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import pino from 'pino';
import type { Config } from './config/schema';
import { DirectoryClient } from './directory/directory_client';
import { parseEndpoint } from './directory/messages';
import { TopicCache } from './directory/topic_cache';
import { directoryTransport, type OpenDirectoryStream } from './directory/transport';
import { backendOf, watchBackend, type BackendInfo } from './driver/backend';
import { DriverLink } from './driver/driver_link';
import { adminMethods } from './grpc/admin_service';
import { GrpcServer, kAdminService, kMessagingService } from './grpc/grpc_server';
import { HealthState } from './grpc/health';
import { protoRoot } from './grpc/proto_files';
import { MessagingService } from './messaging/messaging_service';
import { HttpServer } from './metrics/http_server';
import { Metrics } from './metrics/metrics';
import { TopicTotals } from './metrics/topic_totals';
import type { Native } from './native/types';
import { DriverPolicy } from './policy/driver_policy';
import { TopicStore } from './topics/topic_store';

export interface SidecarParts {
  readonly native: Native;
  /** Default: JSON lines on standard output at the configured level. */
  readonly log?: Logger;
  /** Default: gRPC to directoryAddress. */
  readonly openDirectory?: OpenDirectoryStream;
}

export interface Sidecar {
  /** Path of the gRPC socket, when there is one. */
  readonly socket: string | undefined;
  /** host:port of gRPC over TCP, when it listens. */
  readonly grpcAddress: string | undefined;
  /** host:port of /metrics, when it listens. */
  readonly httpAddress: string | undefined;
  readonly link: DriverLink;
  /** Resolves when a drain, however it began, is over and all is closed. */
  readonly ended: Promise<void>;
  /** Ends all streams in order and closes everything, within the configured time. The same promise for every call. */
  drain(): Promise<void>;
}

export function sidecarVersion(): string {
  try {
    const file = JSON.parse(readFileSync(join(dirname(protoRoot()), 'package.json'), 'utf8')) as {
      version?: string;
    };
    return file.version ?? 'unknown';
  } catch {
    return 'unknown';
  }
}

const kLeavingReason = 'leaving: the sidecar was told that it will end';

const kSettleMs = 50; // HTTP/2 needs a moment to write the trailers of streams that just ended

class RunningSidecar implements Sidecar {
  readonly link: DriverLink;
  readonly ended: Promise<void>;
  private resolveEnded: () => void = () => undefined;
  private readonly topics: TopicStore;
  private readonly directory: DirectoryClient | undefined;
  private readonly policy: DriverPolicy | undefined;
  private readonly messaging: MessagingService;
  private readonly health = new HealthState(['', kMessagingService, kAdminService]);
  private readonly grpc: GrpcServer;
  private readonly http: HttpServer;
  private httpBound: string | undefined;
  private draining: Promise<void> | undefined;
  private backendWatch: { close(): void } | undefined;
  private leaving = false;

  constructor(
    private readonly config: Config,
    native: Native,
    private readonly log: Logger,
    openDirectory: OpenDirectoryStream | undefined,
  ) {
    this.ended = new Promise((resolve) => {
      this.resolveEnded = resolve;
    });
    const startedMs = Date.now();
    const version = sidecarVersion();
    const totals = new TopicTotals();
    this.topics = new TopicStore(config.topicsFile);
    this.link = new DriverLink({
      native,
      directory: config.driverDirectory,
      driverTimeoutMs: config.driverTimeout,
    });
    const open =
      openDirectory ??
      (config.directoryAddress === ''
        ? undefined
        : directoryTransport({
            address: config.directoryAddress,
            caFile: config.directoryCa,
            tokenFile: config.directoryToken,
          }));
    const endpoints = config.endpoints.map(parseEndpoint);
    this.directory =
      open &&
      new DirectoryClient(
        open,
        this.topics,
        new TopicCache(config.directoryCache, endpoints, (message) => log.warn(message)),
        { endpoints, version, answerTimeoutMs: config.openTimeout },
        log,
      );
    this.policy =
      config.policyFile === ''
        ? undefined
        : new DriverPolicy({ config, topics: this.topics, directory: this.directory, log });
    this.messaging = new MessagingService({
      config,
      topics: this.topics,
      link: this.link,
      totals,
      log,
      directory: this.directory,
      policy: this.policy,
    });
    const shared = {
      config,
      version,
      startedMs,
      link: this.link,
      topics: this.topics,
      directory: this.directory,
      policy: this.policy,
      messaging: this.messaging,
      totals,
      isDraining: () => this.draining !== undefined,
      backend: () => this.backend(),
    };
    const metrics = new Metrics(shared);
    this.grpc = new GrpcServer({
      config,
      messaging: this.messaging,
      health: this.health,
      admin: adminMethods({
        ...shared,
        isLeaving: () => this.leaving,
        leave: () => this.leave(),
        drain: () => void this.drain(),
      }),
    });
    this.http = new HttpServer({
      metrics: () => metrics.render(),
      metricsType: metrics.contentType,
      notReady: () => (this.leaving ? [kLeavingReason, ...this.notServing()] : this.notServing()),
    });
  }

  get socket(): string | undefined {
    return this.grpc.socket;
  }

  get grpcAddress(): string | undefined {
    return this.grpc.address;
  }

  get httpAddress(): string | undefined {
    return this.httpBound;
  }

  async start(): Promise<void> {
    const { config, log } = this;
    this.topics.on('loaded', (error) =>
      error === undefined
        ? log.info({ file: config.topicsFile, topics: this.topics.list().length }, 'topics loaded')
        : log.error({ file: config.topicsFile, error }, 'topics file refused; the topics before it stay'),
    );
    this.topics.on('change', (change) =>
      log.info(
        { topic: change.name, added: change.before === undefined, redefined: change.redefined },
        'topic changed',
      ),
    );
    this.link.on('up', (_client, again) => {
      log.info({ directory: config.driverDirectory, again }, 'driver connected');
      this.backendWatch?.close();
      this.backendWatch = watchBackend(config.driverDirectory, ({ from, to, reason }) =>
        log.warn({ from, to, reason }, 'network backend changed; streams go on'),
      );
      this.updateHealth();
    });
    this.link.on('down', (reason) => {
      log.error({ directory: config.driverDirectory, reason }, 'driver lost');
      this.updateHealth();
    });
    this.link.on('retry', (reason, retryMs) =>
      log.warn({ directory: config.driverDirectory, reason, retryMs }, 'no driver yet'),
    );
    this.health.set(kAdminService, 'SERVING');
    try {
      this.topics.start();
      this.policy?.refresh();
      await this.grpc.start();
      if (config.httpListen !== '') {
        await this.http.listen(config.httpListen);
        this.httpBound = this.http.address;
      }
    } catch (error) {
      await this.closeAll(0);
      throw error;
    }
    this.link.start();
    this.directory?.start();
    log.info(
      { socket: this.socket, grpc: this.grpcAddress, http: this.httpAddress, endpoints: config.endpoints },
      'sidecar serves',
    );
  }

  drain(): Promise<void> {
    this.draining ??= this.drainOnce();
    return this.draining;
  }

  /** Not ready from now on; everything else goes on until the drain, health over gRPC too: the apps beside us go by it. */
  private leave(): void {
    if (!this.leaving) {
      this.leaving = true;
      this.log.info('leaving: no longer ready; open streams go on');
    }
  }

  private async drainOnce(): Promise<void> {
    const deadline = performance.now() + this.config.drainTimeout;
    this.log.info(
      {
        timeoutMs: this.config.drainTimeout,
        publishers: this.messaging.publishers.size,
        subscribers: this.messaging.subscribers.size,
      },
      'drain begins',
    );
    await Promise.resolve(); // so that isDraining is true for what follows
    this.updateHealth();
    let timer: NodeJS.Timeout | undefined;
    const inTime = await Promise.race([
      this.messaging.drain().then(() => true),
      new Promise<boolean>((resolve) => {
        timer = setTimeout(() => resolve(false), this.config.drainTimeout);
      }),
    ]);
    clearTimeout(timer);
    if (inTime) {
      this.log.info('drain done');
    } else {
      this.log.error({ timeoutMs: this.config.drainTimeout }, 'drain not done in time; what is left is cut');
    }
    await this.closeAll(Math.max(deadline - performance.now(), kSettleMs));
    this.resolveEnded();
  }

  private async closeAll(graceMs: number): Promise<void> {
    this.backendWatch?.close();
    this.topics.close();
    this.directory?.close();
    this.health.set(kAdminService, 'NOT_SERVING');
    await this.grpc.stop(Math.min(graceMs, kSettleMs * 20));
    this.messaging.close();
    this.policy?.close();
    await this.link.close();
    if (this.httpBound !== undefined) {
      await this.http.close();
    }
  }

  private notServing(): readonly string[] {
    const reasons: string[] = [];
    if (this.draining !== undefined) {
      reasons.push('draining: the sidecar shuts down');
    }
    if (this.link.state !== 'up') {
      reasons.push(`driver in ${this.config.driverDirectory}: ${this.link.lastReason}`);
    }
    return reasons;
  }

  private updateHealth(): void {
    const status = this.notServing().length === 0 ? 'SERVING' : 'NOT_SERVING';
    this.health.set('', status);
    this.health.set(kMessagingService, status);
  }

  private backend(): BackendInfo {
    try {
      return backendOf(this.link.client?.counters() ?? []);
    } catch {
      return backendOf([]); // the driver went away this moment
    }
  }
}

/** Starts serving; the driver may come later. Rejects when an address is in use or the topics file is bad. */
export async function startSidecar(config: Config, parts: SidecarParts): Promise<Sidecar> {
  const log =
    parts.log ?? pino({ level: config.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime });
  const sidecar = new RunningSidecar(config, parts.native, log, parts.openDirectory);
  await sidecar.start();
  return sidecar;
}
