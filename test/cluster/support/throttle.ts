// SPDX-License-Identifier: Apache-2.0
// An API server that is too busy for some service accounts and for nobody else: a priority level without seats, and a FlowSchema that sends their
// requests into it. A server gives out one seat even there while nobody has it, so a client of the same level takes it and does not let go: it never
// ends the body of its request. The others are answered 429 with Retry-After, as under a flood.
import type { ClientRequest, IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { kubeconfigAuth } from '../../../operator/src/testing/test_cluster';
import { apply, command, until } from '../kubectl';

const kName = 'outrigger-test-throttle';
const kGroup = 'flowcontrol.apiserver.k8s.io';
/** Before every schema of Kubernetes but those of its administrators and probes (1 and 2). */
const kPrecedence = 3;

interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
}

/** Of no pod. */
const kHolder = 'outrigger-test-holder';
/** Length of a body of which only the first byte comes. */
const kBodyLength = 1000;
const kPauseMs = 50;
/** A seat that is free for a moment would let one of them through. */
const kRefusals = 5;

/** The answer comes to `onResponse`. @param path one that needs no right. */
async function asking(
  namespace: string,
  account: string,
  [method, path]: readonly [string, string],
  headers: Readonly<Record<string, string>>,
  onResponse: (response: IncomingMessage) => void,
): Promise<ClientRequest> {
  const auth = kubeconfigAuth(process.env['KUBECONFIG'] ?? '');
  const { headers: credentials, tls } = await auth.credentials();
  const who = {
    'impersonate-user': `system:serviceaccount:${namespace}:${account}`,
    'impersonate-group': 'system:authenticated',
  };
  const options = { ...tls, agent: false, method, headers: { ...credentials, ...who, ...headers } };
  return request(`${auth.server}${path}`, options, onResponse);
}

/** What the API server answers a service account that asks for its version. kubectl would wait and try again. */
export function answerTo(namespace: string, account: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    asking(namespace, account, ['GET', '/version'], {}, (response) => {
      response.resume();
      resolve({ status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'] });
    }).then((sent) => sent.on('error', reject).end(), reject);
  });
}

/** A client that has the one seat and keeps it; where the server takes it away, it comes back for it. */
class Holder {
  private sent: ClientRequest | undefined;
  private over = false;

  constructor(private readonly namespace: string) {
    this.take();
  }

  letGo(): void {
    this.over = true;
    this.sent?.destroy();
  }

  private take(): void {
    const review = ['POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews'] as const;
    const body = { 'content-type': 'application/json', 'content-length': `${kBodyLength}` };
    let ended = false;
    const again = (): void => {
      this.sent?.destroy();
      if (!this.over && !ended) {
        ended = true;
        setTimeout(() => this.take(), kPauseMs);
      }
    };
    asking(this.namespace, kHolder, review, body, (response) => response.resume().once('close', again)).then(
      (sent) => {
        this.sent = sent;
        sent.on('error', again).write('{');
        if (this.over) {
          sent.destroy();
        }
      },
      again,
    );
  }
}

let holder: Holder | undefined;

/** Resolves when the API server refuses each of them. */
export async function throttle(namespace: string, accounts: readonly string[]): Promise<void> {
  const limited = {
    nominalConcurrencyShares: 0,
    lendablePercent: 0,
    borrowingLimitPercent: 0,
    limitResponse: { type: 'Reject' },
  };
  const rules = {
    subjects: [...accounts, kHolder].map((name) => ({
      kind: 'ServiceAccount',
      serviceAccount: { namespace, name },
    })),
    resourceRules: [
      { verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*'], clusterScope: true },
    ],
    nonResourceRules: [{ verbs: ['*'], nonResourceURLs: ['*'] }],
  };
  await apply(
    {
      apiVersion: `${kGroup}/v1`,
      kind: 'PriorityLevelConfiguration',
      metadata: { name: kName },
      spec: { type: 'Limited', limited },
    },
    {
      apiVersion: `${kGroup}/v1`,
      kind: 'FlowSchema',
      metadata: { name: kName },
      spec: {
        priorityLevelConfiguration: { name: kName },
        matchingPrecedence: kPrecedence,
        rules: [rules],
      },
    },
  );
  holder = new Holder(namespace);
  let refusals = 0;
  await until('they are refused', async () => {
    for (const each of accounts) {
      refusals = (await answerTo(namespace, each)).status === 429 ? refusals + 1 : 0;
    }
    return refusals >= kRefusals;
  });
}

/** Resolves when it is over; also when it never began. */
export async function throttleNoMore(): Promise<void> {
  for (const kind of ['flowschema', 'prioritylevelconfiguration']) {
    await command('kubectl', ['delete', `${kind}.${kGroup}`, kName, '--ignore-not-found', '--wait=false']);
  }
  // Last: a seat that is free while others still want it lets some requests through and others not.
  holder?.letGo();
  holder = undefined;
}
