// SPDX-License-Identifier: Apache-2.0
// The examples in Go and Python as their manifests say: both publish and both subscribe, on two nodes, until the publishers are told to stop.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { apply, command, kubectl, until } from '../kubectl';
import { imageOf, type Language } from '../support/images';
import { FollowedLog, type Pods } from '../support/pods';
import { kRoot, type NodeName } from '../support/product';

const kPatienceMs = 120_000;

interface Described {
  readonly kind: string;
  readonly metadata: { readonly name: string };
}

interface Deployment extends Described {
  readonly spec: {
    readonly template: {
      readonly spec: { readonly containers: readonly [{ readonly env: readonly object[] }] };
    };
  };
}

/** What a subscriber of the examples says of a publisher that is gone. */
interface Gone {
  readonly publisher: string;
  readonly first: number;
  readonly messages: number;
  readonly closing: number;
  readonly missing: number;
  readonly outOfOrder: number;
  readonly reason: string;
}

/** What a publisher says at its end. */
interface Done {
  readonly publisher: string;
  readonly accepted: number;
  readonly closing: number;
}

export interface ExamplesStory {
  readonly published: readonly Done[];
  /** By subscriber. */
  readonly received: ReadonlyMap<string, readonly Gone[]>;
}

export const kExamples = ['go', 'python'] as const satisfies readonly Language[];
type Example = (typeof kExamples)[number];

/** Each language publishes on one node and subscribes on the other, so that every pair of them crosses. */
const kPublisherNode: Readonly<Record<Example, NodeName>> = { go: 'node1', python: 'node2' };

/** A Deployment of examples/LANGUAGE/kubernetes.yaml; only where its image comes from and its node are of this cluster. */
function exampleDeployment(pods: Pods, language: Example, role: 'publisher' | 'subscriber'): object {
  const file = join(kRoot, 'examples', language, 'kubernetes.yaml');
  const documents = parseAllDocuments(readFileSync(file, 'utf8')).map((each) => each.toJS() as Described);
  const name = `quotes-${role}-${language}`;
  const found = documents.find((each) => each.metadata.name === name);
  if (found === undefined) {
    throw new Error(`${file} has no ${name}`);
  }
  const { spec, ...rest } = found as Deployment;
  const pod = spec.template.spec;
  const other = kPublisherNode[language] === 'node1' ? 'node2' : 'node1';
  const node = role === 'publisher' ? kPublisherNode[language] : other;
  return {
    ...rest,
    metadata: { name, namespace: pods.namespace },
    spec: {
      ...spec,
      template: {
        ...spec.template,
        spec: {
          ...pod,
          nodeSelector: { 'kubernetes.io/hostname': node },
          containers: pod.containers.map((each) => ({
            ...each,
            image: imageOf(language),
            imagePullPolicy: 'Never',
          })),
        },
      },
    },
  };
}

/** Starts both of a role and follows what they say, once each has opened the topic. */
async function startExamples(pods: Pods, role: 'publisher' | 'subscriber'): Promise<FollowedLog[]> {
  await apply(...kExamples.map((language) => exampleDeployment(pods, language, role)));
  return Promise.all(
    kExamples.map(async (language) => {
      const name = `deployment/quotes-${role}-${language}`;
      const wait = ['rollout', 'status', name, '-n', pods.namespace, `--timeout=${kPatienceMs}ms`];
      const { ok, stderr } = await command('kubectl', wait, { timeoutMs: kPatienceMs + 10_000 });
      if (!ok) {
        throw new Error(`${stderr}\n${await pods.storyOf(name, `app=quotes-${role}-${language}`)}`);
      }
      const log = new FollowedLog([name, '-n', pods.namespace, '-c', 'app']);
      await until(`${name} has opened its topic`, () => log.last('open') !== undefined, kPatienceMs);
      return log;
    }),
  );
}

export async function examplesStory(pods: Pods): Promise<ExamplesStory> {
  // Both subscribers from the first message on, so that each has to have all.
  await apply({
    apiVersion: 'outrigger.dev/v1alpha1',
    kind: 'Topic',
    metadata: { name: 'quotes', namespace: pods.namespace },
    spec: { flowControl: { strategy: 'Min', groupMinSize: 2 } },
  });
  const subscribers = await startExamples(pods, 'subscriber');
  const publishers = await startExamples(pods, 'publisher');
  const names = publishers.map((log) => String(log.last('open')?.['publisher']));
  const enough = (log: FollowedLog): boolean =>
    names.every((publisher) => Number(log.last('received', { publisher })?.['messages'] ?? 0) >= 2000);
  await until('every subscriber has much of every publisher', () => subscribers.every(enough), kPatienceMs);
  // SIGTERM; what they say after it they say until their very end.
  const deployments = kExamples.map((language) => `deployment/quotes-publisher-${language}`);
  await kubectl(['scale', ...deployments, '-n', pods.namespace, '--replicas=0']);
  await until('the publishers end', () => publishers.every((log) => log.ended), kPatienceMs);
  const gone = (log: FollowedLog): Gone[] =>
    names.flatMap((publisher) => {
      const line = log.last('publisher gone', { publisher });
      return line === undefined ? [] : [line as unknown as Gone];
    });
  const all = (log: FollowedLog): boolean => gone(log).length === names.length;
  await until('every subscriber sees them go', () => subscribers.every(all), kPatienceMs);
  subscribers.forEach((log) => log.stop());
  return {
    published: publishers.map((log) => log.last('done') as unknown as Done),
    received: new Map(subscribers.map((log, i) => [kExamples[i] ?? '', gone(log)])),
  };
}
