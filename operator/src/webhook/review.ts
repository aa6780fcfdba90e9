// SPDX-License-Identifier: Apache-2.0
// One AdmissionReview (admission.k8s.io/v1): from the request's bytes to the answer. What HTTP has to say is server.ts.
import type { V1Pod } from '@kubernetes/client-node';
import { z } from 'zod';
import type { SidecarProfile } from '../api/sidecar_profile';
import { kInjectLabel } from '../api/names';
import { inject, type InjectionSettings } from './inject';
import { diff, type Json } from './json_patch';

/** Where the profiles of a namespace come from: a cache, so that an answer waits for nothing. Undefined while it is not filled yet. */
export type ProfileSource = (namespace: string) => readonly SidecarProfile[] | undefined;

export interface ReviewContext {
  /** Of a namespace. */
  readonly settings: (namespace: string) => InjectionSettings;
  readonly profiles: ProfileSource;
}

/** What came of a request; the names are values of a metric's label. */
export type Outcome = 'injected' | 'unchanged' | 'not_opted_in' | 'refused' | 'not_ready' | 'error';

export interface Reviewed {
  readonly outcome: Outcome;
  /** The AdmissionReview to send. */
  readonly answer: Json;
  /** For the log. */
  readonly pod: string;
  readonly message?: string;
}

/** The body is no AdmissionReview that can be answered: there is no uid to answer to. */
export class MalformedReview extends Error {}

const requestSchema = z.object({
  apiVersion: z.literal('admission.k8s.io/v1'),
  kind: z.literal('AdmissionReview'),
  request: z.object({
    uid: z.string().min(1),
    namespace: z.string().default(''),
    name: z.string().default(''),
    operation: z.string(),
    subResource: z.string().default(''),
    kind: z.object({ group: z.string(), version: z.string(), kind: z.string() }),
    object: z.unknown(),
  }),
});

type ReviewRequest = z.output<typeof requestSchema>['request'];

/** As much of a pod as injection leans on; what else may be wrong with it the API server says. Go writes null for some absent things. */
const podSchema = z.looseObject({
  metadata: z
    .looseObject({
      name: z.string().optional(),
      generateName: z.string().optional(),
      labels: z.record(z.string(), z.string()).nullish(),
      annotations: z.record(z.string(), z.string()).nullish(),
    })
    .optional(),
  spec: z.looseObject({
    containers: z.array(z.looseObject({ name: z.string() })).min(1),
    initContainers: z.array(z.looseObject({ name: z.string() })).nullish(),
    volumes: z.array(z.looseObject({ name: z.string() })).nullish(),
  }),
});

function parse(body: string): ReviewRequest {
  let document: unknown;
  try {
    document = JSON.parse(body);
  } catch (error) {
    throw new MalformedReview(`the body is not JSON: ${(error as Error).message}`);
  }
  const parsed = requestSchema.safeParse(document);
  if (!parsed.success) {
    const issues = parsed.error.issues.map(
      ({ path, message }) => `${path.join('.') || 'the body'}: ${message}`,
    );
    throw new MalformedReview(`the body is no AdmissionReview of admission.k8s.io/v1: ${issues.join('; ')}`);
  }
  return parsed.data.request;
}

function answerOf(request: ReviewRequest, response: Readonly<Record<string, Json>>): Json {
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    response: { uid: request.uid, ...response },
  };
}

function refusal(request: ReviewRequest, code: number, reason: string, message: string): Json {
  return answerOf(request, { allowed: false, status: { status: 'Failure', code, reason, message } });
}

/** A mirror pod tells of a static pod that runs already: changing it would change nothing on the node. */
const kMirrorAnnotation = 'kubernetes.io/config.mirror';

export function review(body: string, context: ReviewContext): Reviewed {
  const request = parse(body);
  const { kind, operation, subResource } = request;
  if (kind.group !== '' || kind.kind !== 'Pod' || operation !== 'CREATE' || subResource !== '') {
    const what = `${operation} of ${kind.group === '' ? '' : `${kind.group}/`}${kind.kind}${subResource === '' ? '' : `/${subResource}`}`;
    const message = `this webhook answers to CREATE of Pod only, and was asked about ${what}; correct the rules of its MutatingWebhookConfiguration`;
    return { outcome: 'error', answer: refusal(request, 400, 'BadRequest', message), pod: '', message };
  }
  const shape = podSchema.safeParse(request.object);
  if (!shape.success) {
    const issues = shape.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    const message = `the pod can't be read: ${issues.join('; ')}`;
    return { outcome: 'refused', answer: refusal(request, 400, 'BadRequest', message), pod: '', message };
  }
  const pod = request.object as V1Pod;
  const name = pod.metadata?.name ?? `${pod.metadata?.generateName ?? ''}?`;
  return reviewPod(request, pod, `${request.namespace}/${name}`, context);
}

function reviewPod(request: ReviewRequest, pod: V1Pod, name: string, context: ReviewContext): Reviewed {
  const label = pod.metadata?.labels?.[kInjectLabel];
  if (
    label === undefined ||
    label === 'false' ||
    pod.metadata?.annotations?.[kMirrorAnnotation] !== undefined
  ) {
    return { outcome: 'not_opted_in', answer: answerOf(request, { allowed: true }), pod: name };
  }
  if (label !== 'true') {
    const message = `label ${kInjectLabel}: ${JSON.stringify(label)} is not allowed; allowed: true, false`;
    return { outcome: 'refused', answer: refusal(request, 400, 'BadRequest', message), pod: name, message };
  }
  const profiles = context.profiles(request.namespace);
  if (profiles === undefined) {
    const message = 'the injector has not read the SidecarProfiles yet; try again in a moment';
    return {
      outcome: 'not_ready',
      answer: refusal(request, 503, 'ServiceUnavailable', message),
      pod: name,
      message,
    };
  }
  const injection = inject({
    pod,
    profiles,
    settings: context.settings(request.namespace),
    seed: request.uid,
  });
  if ('problems' in injection) {
    const message = injection.problems.join('; ');
    return { outcome: 'refused', answer: refusal(request, 400, 'BadRequest', message), pod: name, message };
  }
  const patch = diff(request.object as Json, injection.pod as unknown as Json);
  const warnings = injection.warnings.length === 0 ? {} : { warnings: injection.warnings.map(shortened) };
  if (patch.length === 0) {
    return { outcome: 'unchanged', answer: answerOf(request, { allowed: true, ...warnings }), pod: name };
  }
  const encoded = Buffer.from(JSON.stringify(patch)).toString('base64');
  return {
    outcome: 'injected',
    answer: answerOf(request, { allowed: true, patchType: 'JSONPatch', patch: encoded, ...warnings }),
    pod: name,
  };
}

/** Kubernetes: "Dynamic Admission Control" cuts warnings after 256 characters in some clients, and asks for short ones. */
function shortened(warning: string): string {
  return warning.length <= 256 ? warning : `${warning.slice(0, 253)}...`;
}
