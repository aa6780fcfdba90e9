// SPDX-License-Identifier: Apache-2.0
// `outrigger explain pod`: one pod as the API server and its own sidecar see it, put into one answer. Text for people is in the command.
import type { V1PodSpec } from '@kubernetes/client-node';
import { z } from 'zod';
import {
  kApiVersion,
  kGroup,
  kInjectWebhook,
  leaseEndMs,
  nameOf,
  selectProfile,
  type Member,
  type SidecarProfile,
  type Topic,
  type TopicEndpointSlice,
} from '../api';
import type { Condition, List, Metadata } from '../check/cluster';
import { whyNotReady, type CheckedPod } from '../check/pod';
import { isStatus } from '../kit/api_error';
import { kAnnotationPrefix, kImagePaths, kInjectedAnnotation, kSidecarName } from '../webhook/layout';
import { absenceOf, ownerOf, type Cause, type InjectorConfiguration, type PodMetadata } from './absence';
import { coresProblem } from './cores';
import { nameOfRight, Questions, type ExplainCluster, type Right } from './rights';

const pathSchema = z.object({
  state: z.string().default('PATH_STATE_UNSPECIFIED'),
  reason: z.string().default(''),
});

const memberSchema = z.object({
  pod: z.string().default(''),
  node: z.string().default(''),
  publishes: z.boolean().default(false),
  subscribes: z.boolean().default(false),
  self: z.boolean().default(false),
  sameNode: z.boolean().default(false),
  network: z.string().default(''),
  address: z.string().default(''),
  port: z.number().default(0),
  mtu: z.number().default(0),
  to: pathSchema.nullish(),
  from: pathSchema.nullish(),
});

/** What `outrigger explain --sidecar --json` says inside the pod, as far as it is read here. */
export const sidecarReportSchema = z.looseObject({
  driver: z
    .looseObject({
      backend: z.string(),
      facts: z.record(z.string(), z.string()),
      threads: z.record(z.string(), z.string()),
      reason: z.string(),
      notBetter: z.array(z.object({ name: z.string(), reason: z.string() })),
      settings: z.record(z.string(), z.string()),
    })
    .nullable(),
  order: z.array(z.string()).default([]),
  sidecar: z.looseObject({
    error: z.string().default(''),
    status: z.record(z.string(), z.unknown()).default({}),
    topics: z
      .array(
        z.looseObject({
          name: z.string(),
          streamId: z.number().default(0),
          channel: z.string().default(''),
          publishStreams: z.number().default(0),
          subscribeStreams: z.number().default(0),
          members: z.array(memberSchema).default([]),
        }),
      )
      .default([]),
  }),
});

export type SidecarReport = z.infer<typeof sidecarReportSchema>;
export type ReportedMember = z.infer<typeof memberSchema>;

export interface MemberStory extends ReportedMember {
  /** Who knows of it: the pod's sidecar, the TopicEndpointSlices, or both. */
  readonly knownTo: 'both' | 'sidecar' | 'slices';
  /** Seconds until its lease ends, below 0 when it has; absent where no slice has it. */
  readonly leaseSeconds?: number;
}

export interface TopicStory {
  /** As the app named it. */
  readonly name: string;
  /** namespace/name of the resource; empty for a topic of a file. */
  readonly resource: string;
  readonly streamId: number;
  readonly publishStreams: number;
  readonly subscribeStreams: number;
  /** Why the Topic is not ready; empty when it is, or when it can't be told. */
  readonly notReady: string;
  readonly members: readonly MemberStory[];
}

export interface PodExplanation {
  readonly pod: {
    readonly namespace: string;
    readonly name: string;
    readonly node: string;
    readonly address: string;
    readonly phase: string;
    readonly owner: string;
  };
  /** null: it has none, and `absence` says why. */
  readonly sidecar: {
    readonly image: string;
    readonly ready: boolean;
    readonly restarts: number;
    /** Why it is not ready; empty when it is. */
    readonly notReady: string;
  } | null;
  readonly absence: Cause | null;
  readonly profile: {
    /** Empty: the defaults of every field. */
    readonly name: string;
    readonly why: string;
    readonly annotations: Readonly<Record<string, string>>;
    readonly problems: readonly string[];
  } | null;
  /** null: the sidecar could not be asked, and `unasked` says why. */
  readonly report: SidecarReport | null;
  readonly unasked: Cause | null;
  readonly topics: readonly TopicStory[];
  /** What is not as it should be, of pod, profile, topics and sidecar. */
  readonly conditions: readonly { readonly of: string; readonly message: string }[];
  /** Rights that the caller lacks, so that the answer is not whole. */
  readonly lacking: readonly string[];
}

interface ExplainedPod extends CheckedPod {
  readonly metadata: PodMetadata;
  readonly spec?: CheckedPod['spec'] & { readonly nodeName?: string };
}

interface EventObject {
  readonly message?: string;
  readonly involvedObject?: { readonly kind?: string; readonly name?: string };
}

/** There is no pod to explain. */
export class NoPod extends Error {}

/** The sidecar's own answer; it loads the driver's probe, so a busy node takes a while. */
const kCommand: readonly string[] = [kImagePaths.command, 'explain', '--sidecar', '--json'];
const kUsage = 64;

export class PodExplainer {
  private readonly questions: Questions;

  constructor(
    private readonly cluster: ExplainCluster,
    private readonly namespace: string,
    private readonly name: string,
    private readonly nowMs: number,
  ) {
    this.questions = new Questions(cluster);
  }

  async explain(): Promise<PodExplanation> {
    const pod = await this.pod();
    const { metadata, spec, status } = pod;
    const owner = ownerOf(metadata);
    const about = {
      pod: {
        namespace: this.namespace,
        name: this.name,
        node: spec?.nodeName ?? '',
        address: status?.podIP ?? '',
        phase: status?.phase ?? '',
        owner: owner === undefined ? '' : `${owner.kind} ${owner.name}`,
      },
    };
    const container = spec?.initContainers?.find((each) => each.name === kSidecarName);
    if (container === undefined) {
      const absence = await this.absence(pod);
      const nothing = {
        sidecar: null,
        profile: null,
        report: null,
        unasked: null,
        topics: [],
        conditions: [],
      };
      return { ...about, ...nothing, absence, lacking: this.lacking() };
    }
    const state = status?.initContainerStatuses?.find((each) => each.name === kSidecarName);
    const sidecar = {
      image: (container as { image?: string }).image ?? '',
      ready: state?.ready === true,
      restarts: state?.restartCount ?? 0,
      notReady: state?.ready === true ? '' : whyNotReady(state),
    };
    const { profile, condition, cores: profileCores } = await this.profile(metadata);
    const { report, unasked } = await this.ask();
    const topics = await this.topics(report);
    const conditions = [
      ...this.podConditions(status?.conditions ?? []),
      ...condition,
      ...topics
        .filter(({ notReady }) => notReady !== '')
        .map(({ resource, notReady }) => ({ of: `Topic ${resource}`, message: notReady })),
      ...this.coresCondition(pod, profile.name, profileCores, report),
      ...this.sidecarConditions(report),
    ];
    return {
      ...about,
      sidecar,
      absence: null,
      profile,
      report,
      unasked,
      topics,
      conditions,
      lacking: this.lacking(),
    };
  }

  private lacking(): readonly string[] {
    return this.questions.lacking.map(nameOfRight);
  }

  private right(
    verb: string,
    resource: string,
    group = '',
    namespace: string | null = this.namespace,
  ): Right {
    return { verb, resource, group, ...(namespace === null ? {} : { namespace }) };
  }

  private async pod(): Promise<ExplainedPod> {
    const right = this.right('get', 'pods');
    const pod = await this.questions.get<ExplainedPod>(
      right,
      `/api/v1/namespaces/${this.namespace}/pods/${this.name}`,
    );
    if (pod !== undefined) {
      return pod;
    }
    if (this.questions.lacking.length > 0) {
      throw new NoPod(
        `you may not ${nameOfRight(right)}; ask for a Role with that right, as docs/explain.md shows`,
      );
    }
    throw new NoPod(await this.whyNoPod());
  }

  /** A pod that was refused is told of by the events of what wanted to make it. */
  private async whyNoPod(): Promise<string> {
    const none = `namespace "${this.namespace}" has no pod "${this.name}"`;
    const events = await this.questions.get<List<EventObject>>(
      this.right('list', 'events'),
      `/api/v1/namespaces/${this.namespace}/events`,
      { fieldSelector: 'reason=FailedCreate' },
    );
    const told = (events?.items ?? []).findLast(({ involvedObject }) => {
      const by = involvedObject?.name ?? '';
      return (
        by !== '' && (by === this.name || by.startsWith(`${this.name}-`) || this.name.startsWith(`${by}-`))
      );
    });
    return told === undefined
      ? `${none}; kubectl get pods -n ${this.namespace} lists those that there are`
      : `${none}: ${told.involvedObject?.kind ?? ''} ${told.involvedObject?.name ?? ''} can't make one: ${told.message ?? 'no reason given'}`;
  }

  private async absence({ metadata }: ExplainedPod): Promise<Cause> {
    const namespace = await this.questions.get<{ metadata: Metadata }>(
      this.right('get', 'namespaces', '', null),
      `/api/v1/namespaces/${this.namespace}`,
    );
    const group = 'admissionregistration.k8s.io';
    const configurations = await this.questions.get<List<InjectorConfiguration>>(
      this.right('list', 'mutatingwebhookconfigurations', group, null),
      `/apis/${group}/v1/mutatingwebhookconfigurations`,
    );
    return absenceOf({
      namespace: this.namespace,
      name: this.name,
      metadata,
      namespaceLabels: namespace === undefined ? undefined : (namespace.metadata.labels ?? {}),
      injectors: configurations?.items.filter(({ webhooks }) =>
        webhooks?.some(({ name }) => name === kInjectWebhook),
      ),
    });
  }

  private async profile(metadata: PodMetadata): Promise<{
    readonly profile: NonNullable<PodExplanation['profile']>;
    readonly condition: PodExplanation['conditions'];
    /** What the profile says of them today. */
    readonly cores: number;
  }> {
    const annotations = Object.fromEntries(
      Object.entries(metadata.annotations ?? {}).filter(
        ([name]) => name.startsWith(kAnnotationPrefix) && name !== kInjectedAnnotation,
      ),
    );
    const { name, problem } = injectedProfile(metadata.annotations?.[kInjectedAnnotation]);
    const list = await this.questions.get<List<SidecarProfile>>(
      this.right('list', 'sidecarprofiles', kGroup),
      `/apis/${kApiVersion}/namespaces/${this.namespace}/sidecarprofiles`,
    );
    const problems = problem === '' ? [] : [problem];
    const made = { name, annotations };
    if (list === undefined) {
      return {
        profile: { ...made, why: 'the webhook took it when the pod was made', problems },
        condition: [],
        cores: 0,
      };
    }
    const choice = selectProfile({ labels: metadata.labels, annotations: metadata.annotations }, list.items);
    const now = choice.kind === 'profile' ? nameOf(choice.profile) : '';
    if (choice.kind === 'unknown') {
      problems.push(`SidecarProfile ${choice.name} is there no more; the pod keeps what it was made with`);
    } else if (now !== name && problem === '') {
      problems.push(
        `made anew it would take ${now === '' ? 'the defaults of every field' : `SidecarProfile ${now}`}: profiles or labels changed after it was made`,
      );
    }
    if (choice.kind === 'profile' && choice.over.length > 0) {
      problems.push(`${choice.over.map(nameOf).join(', ')} match too, and are younger`);
    }
    const profile = list.items.find((each) => nameOf(each) === name);
    const ready = profile === undefined ? undefined : readyOf(profile);
    return {
      profile: {
        ...made,
        why: now === name ? whyOf(choice) : 'the webhook took it when the pod was made',
        problems,
      },
      condition:
        ready?.status === 'False'
          ? [
              {
                of: `SidecarProfile ${name}`,
                message: `${ready.reason ?? 'not ready'}: ${ready.message ?? ''}`,
              },
            ]
          : [],
      // A profile that was made before a field was has none of it.
      cores: (profile?.spec as Partial<SidecarProfile['spec']> | undefined)?.cores ?? 0,
    };
  }

  private async ask(): Promise<{ report: SidecarReport | null; unasked: Cause | null }> {
    const target = { namespace: this.namespace, pod: this.name, container: kSidecarName };
    const unasked = (why: string, fix: string) => ({ report: null, unasked: { why, fix } });
    const logs = `kubectl logs -n ${this.namespace} ${this.name} -c ${kSidecarName}`;
    let answer: Awaited<ReturnType<ExplainCluster['exec']>>;
    try {
      answer = await this.cluster.exec(target, kCommand);
    } catch (error) {
      if (isStatus(error, 403)) {
        // From Kubernetes 1.35 on, exec over a WebSocket, which is a GET, needs create too.
        await this.questions.review([this.right('create', 'pods/exec'), this.right('get', 'pods/exec')]);
        return unasked(
          'you may not run a program in it',
          `ask for the rights that are listed as lacking, or have someone run kubectl exec -n ${this.namespace} ${this.name} -c ${kSidecarName} -- ${kCommand.join(' ')}`,
        );
      }
      return unasked((error as Error).message, logs);
    }
    if (answer.status === kUsage) {
      return unasked(
        'its sidecar is of a version that does not know explain --sidecar',
        'make the pod anew, so that it gets the sidecar of the operator that is there now',
      );
    }
    try {
      return { report: sidecarReportSchema.parse(JSON.parse(answer.stdout)), unasked: null };
    } catch {
      const said = (answer.stderr === '' ? answer.stdout : answer.stderr).trim().slice(0, 500);
      return unasked(`its sidecar answered with status ${answer.status}: ${said}`, logs);
    }
  }

  private async slicesOf(namespace: string): Promise<readonly TopicEndpointSlice[]> {
    const list = await this.questions.get<List<TopicEndpointSlice>>(
      this.right('list', 'topicendpointslices', kGroup, namespace),
      `/apis/${kApiVersion}/namespaces/${namespace}/topicendpointslices`,
    );
    return list?.items ?? [];
  }

  private async topics(report: SidecarReport | null): Promise<readonly TopicStory[]> {
    const open = report?.sidecar.topics ?? [];
    const keyOf = (name: string): string => (name.includes('/') ? name : `${this.namespace}/${name}`);
    const namespaces = new Set([
      this.namespace,
      ...open.map(({ name }) => keyOf(name).split('/')[0] as string),
    ]);
    const members = new Map<string, Member[]>();
    for (const namespace of namespaces) {
      for (const { spec } of await this.slicesOf(namespace)) {
        const key = `${namespace}/${spec.topic}`;
        members.set(key, [...(members.get(key) ?? []), ...spec.members]);
      }
    }
    const mine = [...members].filter(
      ([key, list]) => this.has(list) && !open.some(({ name }) => keyOf(name) === key),
    );
    const stories: TopicStory[] = [];
    for (const each of open) {
      const key = keyOf(each.name);
      // What names members by address alone comes from a file.
      const local = each.channel !== '' || each.members.some(({ pod }) => pod === '');
      stories.push({
        name: each.name,
        resource: local ? '' : key,
        streamId: each.streamId,
        publishStreams: each.publishStreams,
        subscribeStreams: each.subscribeStreams,
        notReady: local ? '' : await this.notReady(key),
        members: this.joined(each.members, local ? [] : (members.get(key) ?? [])),
      });
    }
    for (const [key, list] of mine) {
      stories.push({
        name: key.startsWith(`${this.namespace}/`) ? key.slice(this.namespace.length + 1) : key,
        resource: key,
        streamId: 0,
        publishStreams: 0,
        subscribeStreams: 0,
        notReady: await this.notReady(key),
        members: this.joined([], list),
      });
    }
    return stories;
  }

  private has(list: readonly Member[]): boolean {
    return list.some(({ namespace, pod }) => namespace === this.namespace && pod === this.name);
  }

  private async notReady(key: string): Promise<string> {
    const [namespace = '', name = ''] = key.split('/');
    const topic = await this.questions.get<Topic>(
      this.right('get', 'topics', kGroup, namespace),
      `/apis/${kApiVersion}/namespaces/${namespace}/topics/${name}`,
    );
    if (topic === undefined) {
      return this.questions.lacking.some(
        ({ resource, namespace: of }) => resource === 'topics' && of === namespace,
      )
        ? ''
        : 'there is no such Topic any more';
    }
    const ready = readyOf(topic);
    return ready?.status === 'False' ? `${ready.reason ?? 'not ready'}: ${ready.message ?? ''}` : '';
  }

  /** Members by pod: what the sidecar says of each, and what the slices do. A member has an entry for each role there. */
  private joined(reported: readonly ReportedMember[], stored: readonly Member[]): readonly MemberStory[] {
    const lease = (pod: string): { leaseSeconds?: number } => {
      const ends = stored
        .filter((each) => `${each.namespace}/${each.pod}` === pod)
        .map((each) => leaseEndMs(each.lease));
      return ends.length === 0 ? {} : { leaseSeconds: Math.round((Math.max(...ends) - this.nowMs) / 1000) };
    };
    const known = new Set(reported.map(({ pod }) => pod));
    const others = new Map<string, MemberStory>();
    for (const each of stored) {
      const pod = `${each.namespace}/${each.pod}`;
      if (known.has(pod)) {
        continue;
      }
      const before = others.get(pod);
      const point = each.endpoints[0];
      others.set(pod, {
        pod,
        node: each.node,
        publishes: each.role === 'Publisher' || before?.publishes === true,
        subscribes: each.role === 'Subscriber' || before?.subscribes === true,
        self: pod === `${this.namespace}/${this.name}`,
        sameNode: false,
        network: point?.network ?? '',
        address: point?.address ?? '',
        port: point?.port ?? 0,
        mtu: point?.mtu ?? 0,
        knownTo: 'slices',
        ...lease(pod),
      });
    }
    return [
      ...reported.map((each): MemberStory => {
        const stands = lease(each.pod);
        return { ...each, knownTo: stands.leaseSeconds === undefined ? 'sidecar' : 'both', ...stands };
      }),
      ...others.values(),
    ];
  }

  private podConditions(conditions: readonly Condition[]): PodExplanation['conditions'] {
    return conditions
      .filter(({ status }) => status === 'False')
      .map(({ type, reason, message }) => ({
        of: `pod, ${type}`,
        message: [reason, message].filter((each) => each !== undefined && each !== '').join(': '),
      }));
  }

  private coresCondition(
    { metadata, spec }: ExplainedPod,
    profile: string,
    profileCores: number,
    report: SidecarReport | null,
  ): PodExplanation['conditions'] {
    const cpus = report?.driver?.threads['cpus'] ?? '';
    const message = coresProblem({
      pod: { spec: spec as V1PodSpec }, // as the API server answered it, whatever of it is declared here
      annotations: metadata.annotations ?? {},
      profile,
      profileCores,
      cpus,
    });
    return message === undefined ? [] : [{ of: 'driver', message }];
  }

  private sidecarConditions(report: SidecarReport | null): PodExplanation['conditions'] {
    const { status = {}, error = '' } = report?.sidecar ?? {};
    const text = (key: string): string => (typeof status[key] === 'string' ? status[key] : '');
    const said: readonly [string, string][] = [
      ['sidecar', error],
      ['driver', text('driverError')],
      ['directory', text('directoryError')],
      ['topics file', text('topicsError')],
      ['sidecar', status['draining'] === true ? 'it drains: its pod ends' : ''],
      ['sidecar', status['leaving'] === true ? 'it was told that it will end: no longer ready' : ''],
    ];
    return said.filter(([, message]) => message !== '').map(([of, message]) => ({ of, message }));
  }
}

function readyOf({ status }: SidecarProfile | Topic): Condition | undefined {
  return status?.conditions?.find(({ type }) => type === 'Ready');
}

function injectedProfile(written: string | undefined): { readonly name: string; readonly problem: string } {
  if (written === undefined) {
    return {
      name: '',
      problem: `it has no annotation ${kInjectedAnnotation}: its sidecar was not made by the webhook`,
    };
  }
  try {
    return { name: z.object({ profile: z.string() }).parse(JSON.parse(written)).profile, problem: '' };
  } catch {
    return {
      name: '',
      problem: `its annotation ${kInjectedAnnotation} is not what the webhook writes: ${written}`,
    };
  }
}

function whyOf(choice: ReturnType<typeof selectProfile>): string {
  if (choice.kind !== 'profile') {
    return 'no SidecarProfile selects the pod and none is the default';
  }
  switch (choice.by) {
    case 'annotation':
      return `the pod names it with ${kAnnotationPrefix}profile`;
    case 'selector':
      return 'its podSelector matches the pod';
    case 'default':
      return 'it is the default of the namespace, and none selects the pod';
  }
}
