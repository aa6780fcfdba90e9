// SPDX-License-Identifier: Apache-2.0
// /metrics, /livez and /readyz over plain HTTP. What they say comes from the caller.
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostToBind } from '../base/any_address';

export interface HttpSources {
  readonly metrics: () => Promise<string>;
  readonly metricsType: string;
  /** Why the sidecar is not ready; empty when it is. */
  readonly notReady: () => readonly string[];
}

function answer(
  response: ServerResponse,
  status: number,
  body: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
  response.end(body);
}

export class HttpServer {
  private readonly server: Server;

  constructor(private readonly sources: HttpSources) {
    this.server = createServer((request, response) => {
      const path = (request.url ?? '/').split('?', 1)[0];
      if (request.method !== 'GET' && request.method !== 'HEAD') {
        answer(response, 405, `${request.method}: only GET\n`);
      } else if (path === '/metrics') {
        void this.metrics(response);
      } else if (path === '/livez') {
        answer(response, 200, 'ok\n');
      } else if (path === '/readyz') {
        const reasons = this.sources.notReady();
        answer(
          response,
          reasons.length === 0 ? 200 : 503,
          reasons.length === 0 ? 'ready\n' : `not ready\n${reasons.map((each) => `- ${each}\n`).join('')}`,
        );
      } else {
        answer(response, 404, `${path}: not here; /metrics, /livez and /readyz are\n`);
      }
    });
    this.server.requestTimeout = 10_000;
  }

  /** host:port that is bound. */
  get address(): string {
    const bound = this.server.address() as AddressInfo;
    return bound.family === 'IPv6' ? `[${bound.address}]:${bound.port}` : `${bound.address}:${bound.port}`;
  }

  async listen(hostPort: string): Promise<void> {
    const colon = hostPort.lastIndexOf(':');
    const host = await hostToBind(hostPort.slice(0, colon).replace(/^\[|\]$/g, ''));
    return new Promise((resolve, reject) => {
      this.server.once('error', (error) =>
        reject(
          new Error(
            `httpListen ${hostPort}: ${error.message}; choose an address that is free and that this process may bind`,
          ),
        ),
      );
      this.server.listen(Number(hostPort.slice(colon + 1)), host, resolve);
    });
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
  }

  private async metrics(response: ServerResponse): Promise<void> {
    try {
      answer(response, 200, await this.sources.metrics(), this.sources.metricsType);
    } catch (error) {
      answer(response, 500, `metrics could not be read: ${(error as Error).message}\n`);
    }
  }
}
