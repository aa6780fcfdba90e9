// SPDX-License-Identifier: Apache-2.0
// AdmissionReviews that are not just a pod to inject: opted out, mistyped, about something else, broken.
import type { V1Pod } from '@kubernetes/client-node';
import { sidecarProfileSpecSchema } from '../api/sidecar_profile';
import { MalformedReview, review, type ReviewContext } from './review';
import { applied, decoded, kSettings, reviewOf, reviewText } from './testing';

const kContext: ReviewContext = { settings: () => kSettings, profiles: () => [] };

function pod(labels: Record<string, string>, annotations: Record<string, string> = {}): V1Pod {
  return { metadata: { name: 'p', labels, annotations }, spec: { containers: [{ name: 'app' }] } };
}

const kOptedIn = { 'outrigger.dev/inject': 'true' };

describe('a review', () => {
  test.each([
    ['without the label', pod({ app: 'x' })],
    ['that opted out', pod({ 'outrigger.dev/inject': 'false' })],
    ['that mirrors a static pod', pod(kOptedIn, { 'kubernetes.io/config.mirror': 'x' })],
  ])('of a pod %s is allowed and changes nothing', (_, each) => {
    expect(reviewOf(each, [])).toEqual({ uid: 'request-1', allowed: true });
  });

  test.each(['True', 'yes', '', 'enabled'])(
    'of a pod whose label is %j names the label and what is allowed',
    (value) => {
      const answer = reviewOf(pod({ 'outrigger.dev/inject': value }), []);
      expect(answer).toMatchObject({ allowed: false, status: { code: 400 } });
      expect(answer.status?.message).toBe(
        `label outrigger.dev/inject: ${JSON.stringify(value)} is not allowed; allowed: true, false`,
      );
    },
  );

  test('while the profiles are not read yet is refused, and says to try again', () => {
    const result = review(reviewText(pod(kOptedIn)), { ...kContext, profiles: () => undefined });
    expect(result.outcome).toBe('not_ready');
    expect(decoded(result.answer).status).toMatchObject({
      code: 503,
      message: expect.stringContaining('try again'),
    });
  });

  test('asks for the profiles of the namespace of the request, not of the pod', () => {
    const asked: string[] = [];
    review(reviewText({ ...pod(kOptedIn), metadata: { namespace: 'other', labels: kOptedIn } }), {
      ...kContext,
      profiles: (namespace) => (asked.push(namespace), []),
    });
    expect(asked).toEqual(['shop']);
  });

  test.each([
    ['UPDATE', { operation: 'UPDATE' }, 'UPDATE of Pod'],
    [
      'a Deployment',
      { kind: { group: 'apps', version: 'v1', kind: 'Deployment' } },
      'CREATE of apps/Deployment',
    ],
    ['a subresource', { subResource: 'ephemeralcontainers' }, 'CREATE of Pod/ephemeralcontainers'],
  ])('about %s is refused with what to correct', (_, request, what) => {
    const { message } =
      decoded(review(reviewText(pod(kOptedIn), 'u', request), kContext).answer).status ?? {};
    expect(message).toContain(what);
    expect(message).toContain('MutatingWebhookConfiguration');
  });

  test.each([
    ['no spec', {}],
    ['no containers', { spec: { containers: [] } }],
    ['containers without names', { spec: { containers: [{}] } }],
    [
      'annotations that are no texts',
      { metadata: { annotations: { x: 1 } }, spec: { containers: [{ name: 'a' }] } },
    ],
    ['nothing at all', null],
  ])('of a pod with %s is refused and says where', (_, object) => {
    const answer = decoded(review(reviewText(object), kContext).answer);
    expect(answer).toMatchObject({ uid: 'request-1', allowed: false });
    expect(answer.status?.message).toMatch(/^the pod can't be read: /);
  });

  test.each([
    ['', 'not JSON'],
    ['{', 'not JSON'],
    ['[]', 'no AdmissionReview'],
    ['{}', 'apiVersion'],
    [reviewText({}).replace('"uid":"request-1",', ''), 'request.uid'],
    [reviewText({}).replace('k8s.io/v1', 'k8s.io/v1beta1'), 'apiVersion'],
  ])('whose body is %j is malformed, with a reason', (body, reason) => {
    expect(() => review(body, kContext)).toThrow(MalformedReview);
    expect(() => review(body, kContext)).toThrow(reason);
  });

  test('bears what Go writes as null', () => {
    const object = {
      metadata: { name: 'p', creationTimestamp: null, labels: kOptedIn, annotations: null },
      spec: { containers: [{ name: 'app', env: null }], initContainers: null, volumes: null },
    };
    const answer = decoded(review(reviewText(object), kContext).answer);
    const result = applied<unknown>(object, answer.patch) as V1Pod;
    expect(result.spec?.initContainers?.[0]?.name).toBe('outrigger');
    expect(result.spec?.containers[0]?.env).toHaveLength(1);
  });

  test('takes IPv6 for listening and for the endpoint where the cluster has it', () => {
    const object = pod(kOptedIn);
    const answer = reviewOf(object, [], 'u', { ...kSettings, ipv6: true });
    const env = applied(object, answer.patch).spec?.initContainers?.[0]?.env ?? [];
    const value = (name: string) => env.find((each) => each.name === name)?.value;
    expect(value('OUTRIGGER_HTTP_LISTEN')).toBe('[::]:9464');
    expect(value('OUTRIGGER_ENDPOINTS')).toBe('[$(POD_IP)]:40200');
    expect(env[0]?.name).toBe('POD_IP'); // it must stand before what refers to it
  });

  test('without a directory mounts neither a token nor a CA', () => {
    const object = pod(kOptedIn);
    const { directory, ...settings } = kSettings;
    expect(directory).toBeDefined();
    const result = applied(object, reviewOf(object, [], 'u', settings).patch);
    expect(result.spec?.volumes?.filter(({ projected }) => projected !== undefined)).toEqual([]);
    const names = result.spec?.initContainers?.[0]?.env?.map(({ name }) => name) ?? [];
    expect(names.filter((name) => name.includes('DIRECTORY'))).toEqual([]);
  });

  test.each([
    ['Istio', ['istio-init', 'istio-proxy']],
    ['Linkerd', ['linkerd-init', 'linkerd-proxy']],
    ['Kuma', ['kuma-init', 'kuma-sidecar']],
    ['Consul', ['consul-connect-inject-init', 'consul-dataplane']],
  ])('puts the sidecar behind the containers of %s that stand first, and before all others', (_, mesh) => {
    const initContainers = [...mesh, 'migrate'].map((name) => ({ name }));
    const object: V1Pod = { ...pod(kOptedIn), spec: { initContainers, containers: [{ name: 'app' }] } };
    const result = applied(object, reviewOf(object, []).patch);
    const names = result.spec?.initContainers?.map(({ name }) => name);
    expect(names).toEqual([...mesh, 'outrigger', 'migrate']);
  });

  test("of pods on the node's network spreads them over the ports of the profile", () => {
    const object: V1Pod = { ...pod(kOptedIn), spec: { hostNetwork: true, containers: [{ name: 'app' }] } };
    const spec = sidecarProfileSpecSchema.parse({ default: true, udpPorts: { first: 50_000, last: 50_003 } });
    const ports = Array.from({ length: 40 }, (_, i) => {
      const answer = reviewOf(object, [{ metadata: { name: 'd' }, spec }], `request-${i}`);
      return applied(object, answer.patch).spec?.initContainers?.[0]?.ports?.[1]?.hostPort;
    });
    expect([...new Set(ports)].sort()).toEqual([50_000, 50_001, 50_002, 50_003]);
  });
});
