// SPDX-License-Identifier: Apache-2.0
// For tests: an API server in memory behind the directory's narrow interface, and a stream without a network between a sidecar and a directory.
import type { RpcError } from '../../../sidecar/src/grpc/rpc_error';
import type { OpenDirectoryStream } from '../../../sidecar/src/directory/transport';
import type { Topic, TopicEndpointSlice } from '../api';
import { ApiError } from '../kit/api_error';
import type { Directory, DirectoryCluster } from './directory';
import type { DirectorySession, JoinRequest } from './session';
import type { TokenReviewStatus } from './tokens';
import type { PodIdentity } from './types';

/** The token of a pod, as the fake API server knows it. */
export function tokenOf(
  pod: string,
  namespace = 'shop',
  serviceAccount = 'default',
  expiresMs = Date.now() + 3_600_000,
): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'none' })}.${part({ exp: Math.floor(expiresMs / 1000), pod, namespace, serviceAccount })}.x`;
}

export class FakeCluster implements DirectoryCluster {
  readonly slices = new Map<string, TopicEndpointSlice>();
  readonly addresses = new Map<string, readonly string[]>();
  readonly reviews: string[] = [];
  away = false;
  /** Reviews are not answered: those that wait so. */
  hangs = false;
  hanging = 0;
  /** What it answers while it is away. */
  failure: Error = new Error('connect ECONNREFUSED');
  /** Told of every change, as a watch would. */
  onSlice: ((slice: TopicEndpointSlice, deleted: boolean) => void) | undefined;

  readonly reviewToken = async (
    token: string,
    audience: string,
    signal: AbortSignal,
  ): Promise<TokenReviewStatus> => {
    this.reviews.push(token);
    if (this.hangs) {
      this.hanging++;
      await new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(new ApiError(0, '', 'POST /x: aborted')));
      }).finally(() => this.hanging--);
    }
    return this.answer(() => {
      const { pod, namespace, serviceAccount } = JSON.parse(
        Buffer.from(token.split('.')[1] as string, 'base64url').toString(),
      ) as Record<string, string>;
      return {
        authenticated: true,
        audiences: [audience],
        user: {
          username: `system:serviceaccount:${namespace}:${serviceAccount}`,
          extra: {
            'authentication.kubernetes.io/pod-name': [pod as string],
            'authentication.kubernetes.io/pod-uid': [`uid-${pod}`],
            'authentication.kubernetes.io/node-name': ['node1'],
          },
        },
      };
    });
  };

  podAddresses({ pod }: PodIdentity): Promise<readonly string[] | undefined> {
    return this.answer(() => this.addresses.get(pod));
  }

  applySlice(slice: TopicEndpointSlice): Promise<void> {
    return this.answer(() => {
      this.slices.set(slice.metadata.name as string, slice);
      this.onSlice?.(slice, false);
    });
  }

  deleteSlice(_namespace: string, name: string): Promise<void> {
    return this.answer(() => {
      const slice = this.slices.get(name);
      this.slices.delete(name);
      if (slice !== undefined) {
        this.onSlice?.(slice, true);
      }
    });
  }

  isFresh(): boolean {
    return !this.away;
  }

  private answer<T>(value: () => T): Promise<T> {
    return this.away ? Promise.reject(this.failure) : Promise.resolve(value());
  }
}

export function topicResource(
  name: string,
  namespace = 'shop',
  spec: Partial<Topic['spec']> = {},
  streamId = 1001,
): Topic {
  return {
    metadata: { namespace, name },
    spec: { delivery: 'Reliable', ...spec },
    status: { streamId },
  };
}

/** Streams of a sidecar that end in `directory()`; it throws when that is undefined, as a refused connection would. */
export function inProcess(directory: () => Directory | undefined, token: () => string): OpenDirectoryStream {
  return (handlers) => {
    const target = directory();
    if (target === undefined) {
      throw new Error('connect ECONNREFUSED');
    }
    let session: DirectorySession | undefined;
    let over = false;
    const early: JoinRequest[] = [];
    const end = (error: RpcError): void => {
      if (!over) {
        over = true;
        setImmediate(() => handlers.onEnd(error.code, error.message, error.details.retryAfterMs));
      }
    };
    const send = (response: object): boolean => {
      setImmediate(() => {
        if (!over) {
          handlers.onResponse(response);
        }
      });
      return true;
    };
    const gone = new AbortController();
    target.admit(token(), { send, end }, gone.signal).then((admitted) => {
      if (over) {
        target.left(admitted);
        return;
      }
      session = admitted;
      early.splice(0).forEach((request) => admitted.onRequest(request));
    }, end);
    const named = (request: object): JoinRequest =>
      ({ request: Object.keys(request)[0], ...request }) as unknown as JoinRequest;
    return {
      send: (request) => {
        if (session === undefined) {
          early.push(named(request));
        } else {
          session.onRequest(named(request));
        }
      },
      close: () => {
        over = true;
        gone.abort();
        if (session !== undefined) {
          target.left(session);
        }
      },
    };
  };
}
