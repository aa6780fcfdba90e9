// SPDX-License-Identifier: Apache-2.0
// Bad input to an installation that works: tokens that are not for the directory, a flood, a topic that no one may open, two profiles that match.
// Each is told clearly to whom it concerns, and a stream of counted messages that runs meanwhile loses nothing.
// What else is bad input is in injection.test.ts (pods), crd_fields.test.ts (resources) and values.test.ts (the chart); an API server that throttles
// is in the unit tests of operator/src/kit and operator/src/controllers.
import {
  Client,
  credentials,
  Metadata,
  status,
  type ClientDuplexStream,
  type ServiceDefinition,
  type StatusObject,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { kDirectoryDefaults } from '../../operator/src/directory/directory';
import { kDirectoryProto } from '../../sidecar/src/directory/transport';
import { protoRoot } from '../../sidecar/src/grpc/proto_files';
import { apply, command, get, kubectl, until } from './kubectl';
import { makeNamespace, Pods, type PodObject } from './support/pods';
import { installProduct, kSystem, uninstallProduct } from './support/product';
import {
  expectUnbroken,
  expectWhole,
  Streams,
  type PublisherAccount,
  type SubscriberAccount,
} from './support/streams';

jest.setTimeout(240_000);

const kApi = 'outrigger.dev/v1alpha1';
const kNamespace = 'bad-input';
const kPort = 9444;
const pods = new Pods(kNamespace);
const streams = new Streams(pods, 'steady', 200);

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}

async function condition(kind: string, name: string, type: string): Promise<Condition | undefined> {
  const { status: found } = await get<{ status?: { conditions?: Condition[] } }>(
    kind,
    name,
    '-n',
    kNamespace,
  );
  return found?.conditions?.find((each) => each.type === type);
}

const kDefinition = loadSync(kDirectoryProto, {
  includeDirs: [protoRoot()],
  enums: String,
  defaults: true,
  oneofs: true,
})['outrigger.v1.DirectoryService'] as ServiceDefinition;
const kJoin = kDefinition['Join'] as ServiceDefinition[string];

interface Answer {
  readonly welcome?: { readonly pod: string };
  readonly topic?: object;
  readonly refusal?: { readonly reason: string };
}

/** A stream to the directory as a stranger's program would open it, from this process. */
class Stranger {
  readonly answers: Answer[] = [];
  end: StatusObject | undefined;
  private readonly client: Client;
  private readonly call: ClientDuplexStream<object, Answer>;

  constructor(address: string, ca: string, token: string | undefined) {
    this.client = new Client(`${address}:${kPort}`, credentials.createSsl(Buffer.from(ca)), {
      'grpc.ssl_target_name_override': `outrigger-directory.${kSystem}.svc`,
    });
    const metadata = new Metadata();
    if (token !== undefined) {
      metadata.set('authorization', `Bearer ${token}`);
    }
    this.call = this.client.makeBidiStreamRequest(
      kJoin.path,
      kJoin.requestSerialize,
      kJoin.responseDeserialize,
      metadata,
    ) as ClientDuplexStream<object, Answer>;
    this.call.on('data', (answer: Answer) => this.answers.push(answer));
    this.call.on('error', () => undefined); // the status says it
    this.call.on('status', (end: StatusObject) => (this.end = end));
  }

  send(request: object): void {
    this.call.write(request);
  }

  hello(address: string): void {
    const endpoints = [{ network: 'pod', address, port: 40_200, mtu: 1500 }];
    this.send({ hello: { instanceId: 'stranger', endpoints, version: 'test' } });
  }

  async ended(): Promise<StatusObject> {
    await until('the directory ends the stream', () => this.end !== undefined, 30_000);
    return this.end as StatusObject;
  }

  close(): void {
    this.call.cancel();
    this.client.close();
  }
}

let directoryAddress: string;
let ca: string;
let strangers: Stranger[] = [];

function stranger(token: string | undefined): Stranger {
  const made = new Stranger(directoryAddress, ca, token);
  strangers.push(made);
  return made;
}

/** A pod without a sidecar; its token is as good as another's. */
function bare(): PodObject {
  const idle = "process.once('SIGTERM', () => process.exit(0)); setInterval(() => {}, 1e9)";
  const pod = pods.app('bare', 'node1', [], { container: { command: ['/usr/bin/node', '-e', idle] } });
  return { ...pod, metadata: { ...pod.metadata, labels: { app: 'bare' } } };
}

async function tokenOf(pod: string, audience: string, ...more: readonly string[]): Promise<string> {
  const bound = ['--bound-object-kind', 'Pod', '--bound-object-name', pod, '--audience', audience];
  return (await kubectl(['create', 'token', 'default', '-n', kNamespace, ...bound, ...more])).trim();
}

beforeAll(async () => {
  await installProduct();
  await makeNamespace(kNamespace);
  const service = await get<{ spec: { clusterIP: string } }>('service', 'outrigger-directory', '-n', kSystem);
  directoryAddress = service.spec.clusterIP;
  // Goes on through everything below: what is bad for one disturbs nobody else.
  await streams.start({ speaker: 'node1' }, { listener: 'node2' });
  // Has no sidecar whose stream to the directory would take the place of ours.
  await pods.start(bare());
  ca =
    (await get<{ data: Record<string, string> }>('configmap', 'outrigger-ca', '-n', kNamespace)).data[
      'ca.crt'
    ] ?? '';
});

afterEach(() => {
  strangers.forEach((each) => each.close());
  strangers = [];
});

afterAll(async () => {
  await command('kubectl', ['delete', 'namespace', kNamespace, '--wait=false']);
  await uninstallProduct();
});

describe('the directory', () => {
  it.each([
    ['no token', () => Promise.resolve(undefined), /token/],
    ['a word', () => Promise.resolve('letmein'), /token/],
    ['a token for another audience', () => tokenOf('bare', 'vault'), /audience/],
    [
      'the token of an account and no pod',
      async () =>
        (
          await kubectl([
            'create',
            'token',
            'default',
            '-n',
            kNamespace,
            '--audience',
            kDirectoryDefaults.audience,
          ])
        ).trim(),
      /pod/,
    ],
    [
      'a token of another cluster',
      async () => {
        const token = await tokenOf('bare', kDirectoryDefaults.audience);
        const [head = '', body = '', signature = ''] = token.split('.');
        return [head, body, signature.split('').reverse().join('')].join('.');
      },
      /token/,
    ],
  ])('tells who comes with %s that it does not know them', async (_, token, words) => {
    const caller = stranger(await token());
    caller.hello('10.0.0.1');
    const { code, details } = await caller.ended();
    expect({ code, details }).toEqual({
      code: status.UNAUTHENTICATED,
      details: expect.stringMatching(words) as string,
    });
    expect(caller.answers).toEqual([]);
  });

  it('does not take a pod for another', async () => {
    const caller = stranger(await tokenOf('bare', kDirectoryDefaults.audience));
    caller.hello(await pods.addressOf('listener'));
    expect(await caller.ended()).toMatchObject({ code: status.PERMISSION_DENIED });
  });

  it('ends a pod that floods it with the limit that it passed', async () => {
    const caller = stranger(await tokenOf('bare', kDirectoryDefaults.audience));
    caller.hello(await pods.addressOf('bare'));
    await until('it is welcome', () => caller.answers.some(({ welcome }) => welcome !== undefined));
    for (let i = 0; i < 5000; i++) {
      caller.send({ register: { topic: `flood-${i}`, role: 'ROLE_PUBLISHER' } });
    }
    const { code, details } = await caller.ended();
    expect({ code, details }).toEqual({
      code: status.RESOURCE_EXHAUSTED,
      details: expect.stringMatching(/requests a second|registrations/) as string,
    });
  });
});

describe('a topic that no one may open', () => {
  it('says so in its condition, and to the app that tries', async () => {
    await apply({
      apiVersion: kApi,
      kind: 'Topic',
      metadata: { name: 'closed', namespace: kNamespace },
      spec: { allow: [] },
    });
    await until(
      'the topic was judged',
      async () => (await condition('topic', 'closed', 'Ready')) !== undefined,
    );
    expect(await condition('topic', 'closed', 'Ready')).toMatchObject({
      status: 'False',
      reason: 'NobodyAllowed',
    });
    await apply(pods.app('knocker', 'node1', ['pub', 'closed', '--count', '1']));
    expect(await pods.exitOf('knocker')).not.toBe(0);
    expect(await pods.logs('knocker')).toMatch(/may not be a publisher of topic "?[\w/-]*closed/);
  });
});

describe('two profiles that match', () => {
  it('are told by a warning at the pod, and by condition and event at the younger', async () => {
    const profile = (name: string): object => ({
      apiVersion: kApi,
      kind: 'SidecarProfile',
      metadata: { name, namespace: kNamespace },
      spec: { podSelector: { matchLabels: { app: 'torn' } } },
    });
    await apply(profile('first'));
    const made = (
      await get<{ metadata: { creationTimestamp: string } }>('sidecarprofile', 'first', '-n', kNamespace)
    ).metadata;
    // Ages count in whole seconds.
    await until('a second has passed', () => Date.now() >= Date.parse(made.creationTimestamp) + 1000);
    await apply(profile('second'));
    let warning = '';
    await until('both are known to the injector', async () => {
      const pod = pods.app('torn', 'node1', ['sub', 'steady']);
      const { ok, stderr } = await command('kubectl', ['create', '--dry-run=server', '-f', '-'], {
        input: JSON.stringify(pod),
      });
      warning = stderr;
      return ok && stderr.includes('second');
    });
    expect(warning).toMatch(/Warning: SidecarProfile first is taken since it is the oldest/);
    await apply(pods.app('torn', 'node1', ['sub', 'steady']));
    await until(
      'the younger is told',
      async () => (await condition('sidecarprofile', 'second', 'Ready'))?.status === 'False',
    );
    expect(await condition('sidecarprofile', 'second', 'Ready')).toMatchObject({ reason: 'Conflict' });
    expect((await condition('sidecarprofile', 'first', 'Ready'))?.status).toBe('True');
    await until('there is an event', async () =>
      (await kubectl(['get', 'events.events.k8s.io', '-n', kNamespace])).includes('sidecarprofile/second'),
    );
  });
});

describe('the stream that ran meanwhile', () => {
  it(
    'lost nothing, and none of its members',
    streams.telling(async () => {
      const said = await streams.end<PublisherAccount>('speaker');
      await streams.silent('listener');
      const heard = await streams.end<SubscriberAccount>('listener');
      expectUnbroken(heard);
      expectWhole(said, heard);
    }),
  );
});
