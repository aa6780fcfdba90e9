// SPDX-License-Identifier: Apache-2.0
// How a client proves who it is: kubeconfig, in-cluster tokens, exec plug-ins are the work of @kubernetes/client-node, and so is reading files anew
// when they change (certificates for each request, tokens after a minute). Connections are kept by api_client.ts.
import type { RequestOptions } from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import { given } from '../base/given';

export interface TlsOptions {
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  readonly passphrase?: string;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
}

export interface Credentials {
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: TlsOptions;
  /** Address of a proxy: http, https or socks5 (proxy-url of a kubeconfig). */
  readonly proxy?: string | undefined;
}

export interface ClusterAuth {
  /** Address of the API server, such as https://10.96.0.1:443. */
  readonly server: string;
  /** Namespace of this pod or context. */
  readonly namespace: string;
  /** Credentials of this moment; cheap enough to be asked for each request. */
  readonly credentials: () => Promise<Credentials>;
  /** The server refused them (401): read them anew. */
  readonly refresh: () => void;
}

/** From KUBECONFIG, ~/.kube/config or the pod's service account, in that order; or from what `fill` takes. */
export async function defaultAuth(
  fill: (config: KubeConfig) => void = (config) => config.loadFromDefault(),
): Promise<ClusterAuth> {
  const { KubeConfig: Config } = await import('@kubernetes/client-node');
  const load = (): KubeConfig => {
    const config = new Config();
    fill(config);
    return config;
  };
  let config = load();
  const cluster = config.getCurrentCluster();
  if (cluster === null) {
    throw new Error(
      'no cluster: set KUBECONFIG to a kubeconfig file with a current context, or run in a pod with a service account',
    );
  }
  return {
    server: cluster.server.replace(/\/$/, ''),
    namespace: config.getContextObject(config.getCurrentContext())?.namespace ?? 'default',
    credentials: async () => {
      const options: RequestOptions = {};
      await config.applyToHTTPSOptions(options);
      const basic =
        typeof options.auth === 'string'
          ? `Basic ${Buffer.from(options.auth).toString('base64')}`
          : undefined;
      return {
        headers: {
          ...(options.headers as Record<string, string> | undefined),
          ...(basic === undefined ? {} : { Authorization: basic }),
        },
        tls: tlsOf(options),
        proxy: config.getCurrentCluster()?.proxyUrl,
      };
    },
    refresh: () => {
      config = load(); // also forgets the token that client-node keeps for a minute
    },
  };
}

function tlsOf(options: RequestOptions): TlsOptions {
  const { ca, cert, key, passphrase, servername, rejectUnauthorized } = options;
  return given({ ca, cert, key, passphrase, servername, rejectUnauthorized }) as TlsOptions;
}
