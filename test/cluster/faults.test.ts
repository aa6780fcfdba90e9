// SPDX-License-Identifier: Apache-2.0
// What happens to a cluster in use: parts of the product are killed and upgraded, certificates change, a node is drained. All the while
// publishers and subscribers on both nodes go on; at the end every message is accounted for. See faults_outage.test.ts for the API server.
import { X509Certificate } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { splitBundle } from '../../operator/src/ca/certificates';
import { apply, command, get, kubectl, until } from './kubectl';
import { AdmissionLoop } from './support/admissions';
import { containerOf, signalContainer } from './support/nodes';
import {
  kMetricsPort,
  leader,
  metricOf,
  noneEnding,
  partsAvailable,
  podsOf,
  replicasOf,
  shownCertificates,
  type RunningPod,
} from './support/parts';
import { FollowedLog, makeNamespace, Pods, summaryIn } from './support/pods';
import { installProduct, kChart, kSystem, uninstallProduct } from './support/product';
import {
  expectUnbroken,
  expectWhole,
  linesIn,
  liveSessions,
  Streams,
  type PublisherAccount,
  type SubscriberAccount,
} from './support/streams';

const kNamespace = 'faults';
const kTopic = 'ticks';
/** Settings of the chart that do not change: API server and kubelets of two nodes read a bundle within seconds. */
const kValues = { 'certificates.settle': '10s' };

jest.setTimeout(240_000);

const pods = new Pods(kNamespace);
const streams = new Streams(pods, kTopic, 200);

/** Newcomers must find the publishers by the name of the topic. Awaited at the end, since what comes next may begin. */
const newcomers: string[] = [];

async function startNewcomer(name: string): Promise<void> {
  await apply(pods.subscriber(name, 'node1', kTopic, 200));
  newcomers.push(name);
}

/** Bundle of the webhook's registration, as the API server goes by it. */
async function caBundle(): Promise<string> {
  const { webhooks } = await get<{ webhooks: { clientConfig: { caBundle: string } }[] }>(
    'mutatingwebhookconfiguration',
    'outrigger-injector',
  );
  return Buffer.from(webhooks[0]?.clientConfig.caBundle ?? '', 'base64').toString('utf8');
}

/** The pod of a deployment that is not ending, once its containers run. */
async function moverOf(name: string): Promise<{ pod: string; node: string }> {
  let found: RunningPod | undefined;
  await until(`a pod of ${name} runs`, async () => {
    const all = await podsOf(kNamespace, `app=${name}`);
    found = all.find(({ status }) => status.phase === 'Running');
    return found !== undefined;
  });
  return { pod: found?.metadata.name ?? '', node: found?.spec.nodeName ?? '' };
}

describe('a cluster in use', () => {
  let admissions: AdmissionLoop;
  /** Publishers that ended before the others, for the account at the end. */
  const ended: PublisherAccount[] = [];

  beforeAll(async () => {
    await Promise.all([installProduct(kValues), makeNamespace(kNamespace)]);
    await streams.start({ p1: 'node1', p2: 'node2' }, { s1: 'node1', s2: 'node2' });
    admissions = new AdmissionLoop(pods.app('asks', 'node1', ['sub', kTopic]));
    await admissions.admits(3);
  });

  afterAll(async () => {
    await admissions.stop();
    await command('kubectl', ['uncordon', 'node1', 'node2']);
    await command('kubectl', ['delete', 'namespace', kNamespace, '--wait=false']);
    await uninstallProduct();
  });

  it(
    'gets a new leader when the leader is killed, and its directory back when all of that is',
    streams.telling(async () => {
      admissions.phase = 'killed';
      const before = await leader();
      const operator = await containerOf(kSystem, before.pod, 'operator');
      const directories = await Promise.all(
        (await replicasOf('directory')).map(({ metadata }) =>
          containerOf(kSystem, metadata.name, 'directory'),
        ),
      );
      directories.forEach((each) => signalContainer(each, 'SIGKILL'));
      signalContainer(operator, 'SIGKILL');
      await kubectl(['delete', 'pod', before.pod, '-n', kSystem, '--grace-period=0', '--force']);
      await until('another replica leads', async () => {
        const now = await leader();
        return now.pod !== before.pod && now.pod !== '' && now.transitions > before.transitions;
      });
      await partsAvailable();
      await admissions.admits(5);
      await startNewcomer('after-kill');
    }),
  );

  it(
    'goes on while operator, directory and definitions are upgraded',
    streams.telling(async () => {
      admissions.phase = 'upgraded';
      const before = await leader();
      const chart = mkdtempSync(join(tmpdir(), 'outrigger-chart-'));
      try {
        cpSync(kChart, chart, { recursive: true });
        const topics = join(chart, 'templates/crds/topics.yaml');
        const changed = readFileSync(topics, 'utf8').replace('- ot\n', '- ot\n      - ots\n');
        writeFileSync(topics, changed);
        await installProduct(
          {
            ...kValues,
            'operator.podAnnotations.edition': 'second',
            'directory.podAnnotations.edition': 'second',
          },
          chart,
        );
      } finally {
        rmSync(chart, { recursive: true });
      }
      await until('a replica of the new edition leads', async () => {
        const { pod, transitions } = await leader();
        const replicas = await replicasOf('operator');
        return transitions > before.transitions && replicas.some(({ metadata }) => metadata.name === pod);
      });
      await until('the new short name is served', async () => {
        const { ok, stdout } = await command('kubectl', ['get', 'ots', '-n', kNamespace, '-o', 'name']);
        return ok && stdout.includes(kTopic);
      });
      await startNewcomer('after-upgrade');
      expect(admissions.problemsIn('upgraded')).toEqual([]);
    }),
  );

  it(
    'changes its CA and all certificates without refusing a pod or losing a sidecar',
    streams.telling(async () => {
      admissions.phase = 'rotated';
      await noneEnding('directory');
      const kExpiry = 'outrigger_operator_certificate_expiry_timestamp_seconds';
      const operatorAddress = `${(await replicasOf('operator'))[0]?.status.podIP}:${kMetricsPort}`;
      const sidecar = `${await pods.addressOf('s1')}:9464`;
      const [bundle, certificates, expiry, losses] = await Promise.all([
        caBundle(),
        shownCertificates(),
        metricOf(operatorAddress, kExpiry),
        metricOf(sidecar, 'outrigger_directory_losses_total'),
      ]);
      expect(splitBundle(bundle)).toHaveLength(1);
      expect(new Set(certificates).size).toBe(1);

      await kubectl(['delete', 'secret', 'outrigger-certificates', '-n', kSystem]);
      await until('both CAs are announced', async () => splitBundle(await caBundle()).length === 2);
      await until('the old CA is gone', async () => {
        const now = await caBundle();
        return splitBundle(now).length === 1 && now !== bundle;
      });
      const now = await shownCertificates();
      expect(now).toHaveLength(4);
      expect(new Set(now).size).toBe(1);
      expect(now).not.toContain(certificates[0]);
      const { data } = await get<{ data: Record<string, string> }>(
        'secret',
        'outrigger-certificates',
        '-n',
        kSystem,
      );
      const stored = (name: string): string => Buffer.from(data[name] ?? '', 'base64').toString('utf8');
      expect(await caBundle()).toBe(stored('ca.crt'));
      expect(new X509Certificate(stored('tls.crt')).fingerprint256).toBe(now[0]);
      const later = await metricOf(operatorAddress, kExpiry);
      for (const which of ['{certificate="authority"}', '{certificate="serving"}']) {
        expect(later[which]).toBeGreaterThan(expiry[which] as number);
      }
      await startNewcomer('after-rotation');
      // Its stream to the directory outlived it all.
      expect(await metricOf(sidecar, 'outrigger_directory_losses_total')).toEqual(losses);
      expect(Object.values(await metricOf(sidecar, 'outrigger_directory_up'))).toEqual([1]);
      expect(admissions.problemsIn('rotated')).toEqual([]);
    }),
  );

  it(
    'lets a member that is drained off its node find the others again, one replica of the operator at a time',
    streams.telling(async () => {
      admissions.phase = 'drained';
      const joined = new Set([...streams.joinedBy('s1'), ...streams.joinedBy('s2')]);
      const followed: FollowedLog[] = [];
      try {
        await kubectl(['cordon', 'node1']);
        await apply(
          pods.deployment('mover-sub', ['sub', kTopic, '--check', '--format', 'none', '--json']),
          pods.deployment('mover-pub', [
            'pub',
            kTopic,
            '--exclusive',
            '--wait',
            '60s',
            '--json',
            '--rate',
            '200',
          ]),
        );
        const subscriber = await moverOf('mover-sub');
        const publisher = await moverOf('mover-pub');
        await kubectl(['uncordon', 'node1']);
        expect([subscriber.node, publisher.node]).toEqual(['node2', 'node2']);
        const follow = (pod: string): FollowedLog => {
          const log = new FollowedLog(['-n', kNamespace, pod, '-c', 'app']);
          followed.push(log);
          return log;
        };
        const [received, published] = [follow(subscriber.pod), follow(publisher.pod)];
        const all = (log: FollowedLog): boolean => liveSessions(linesIn(log.text)).size === 3;
        await until('the subscriber has found all publishers', () => all(received));

        // One replica is being evicted, so the other must stay.
        const [first, second] = await replicasOf('operator');
        const evict = (pod: string, ...more: readonly string[]) =>
          command(
            'kubectl',
            [
              'create',
              '--raw',
              `/api/v1/namespaces/${kSystem}/pods/${pod}/eviction${more.join('')}`,
              '-f',
              '-',
            ],
            {
              input: JSON.stringify({
                apiVersion: 'policy/v1',
                kind: 'Eviction',
                metadata: { name: pod, namespace: kSystem },
              }),
            },
          );
        expect(await evict(first?.metadata.name ?? '')).toMatchObject({ ok: true });
        expect(await evict(second?.metadata.name ?? '', '?dryRun=All')).toMatchObject({
          ok: false,
          stderr: expect.stringContaining('disruption budget') as string,
        });

        // All but those that stay on for the whole file.
        const selector = 'app notin (p1,p2,s1,s2)';
        const drain = [
          'drain',
          'node2',
          '--delete-emptydir-data',
          '--timeout=120s',
          '--pod-selector',
          selector,
        ];
        await kubectl(drain, { timeoutMs: 130_000 });
        await until('the drained apps have had their last words', () => followed.every((each) => each.ended));
        expectUnbroken(summaryIn<SubscriberAccount>(received.text));
        ended.push(summaryIn<PublisherAccount>(published.text));

        const [nextSubscriber, nextPublisher] = [await moverOf('mover-sub'), await moverOf('mover-pub')];
        expect([nextSubscriber.node, nextPublisher.node]).toEqual(['node1', 'node1']);
        const [receivedNext, publishedNext] = [follow(nextSubscriber.pod), follow(nextPublisher.pod)];
        await until('the replacement has found all publishers', () => all(receivedNext));
        for (const name of ['s1', 's2']) {
          await until(`${name} has joined both lives of the publisher`, () => {
            const fresh = [...streams.joinedBy(name)].filter((each) => !joined.has(each));
            return fresh.length === 2;
          });
        }
        await kubectl(['delete', 'deployment', 'mover-sub', 'mover-pub', '-n', kNamespace]);
        await until('their apps have had their last words', () => followed.every((each) => each.ended));
        expectUnbroken(summaryIn<SubscriberAccount>(receivedNext.text));
        ended.push(summaryIn<PublisherAccount>(publishedNext.text));
      } finally {
        followed.forEach((each) => each.stop());
      }
      await kubectl(['uncordon', 'node2']);
      await partsAvailable();
      expect(admissions.problemsIn('drained')).toEqual([]);
    }),
  );

  it(
    'has lost no message that it promised, and let everybody join who came later',
    streams.telling(async () => {
      await pods.expectToEndWell(...newcomers);
      const publishers = [
        await streams.end<PublisherAccount>('p1'),
        await streams.end<PublisherAccount>('p2'),
        ...ended,
      ];
      await streams.silent('s1', 's2');
      for (const name of ['s1', 's2']) {
        const account = await streams.end<SubscriberAccount>(name);
        expectUnbroken(account);
        publishers.forEach((each) => expectWhole(each, account));
      }
    }),
  );
});
