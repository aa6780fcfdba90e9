// SPDX-License-Identifier: Apache-2.0
// Every pod of testdata/, with the profiles in the same file, against its .golden: the pod after injection or the reason why not. With
// UPDATE_GOLDEN=1 the goldens are written anew. What must hold for all of them is checked for all of them.
import { existsSync, globSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { V1Container, V1Pod } from '@kubernetes/client-node';
import { parseAllDocuments, stringify } from 'yaml';
import { sidecarProfileSpecSchema, type SidecarProfile } from '../api/sidecar_profile';
import { kSidecarName } from './layout';
import { isGuaranteed } from './resources';
import { applied, reviewOf, type Answer } from './testing';

interface Case {
  readonly name: string;
  readonly pod: V1Pod;
  readonly profiles: readonly SidecarProfile[];
}

const kFolder = join(__dirname, 'testdata');

function load(file: string): Case {
  const [pod, ...profiles] = parseAllDocuments(readFileSync(file, 'utf8')).map(
    (each) => each.toJS() as unknown,
  );
  return {
    name: basename(file, '.yaml'),
    pod: pod as V1Pod,
    profiles: (profiles as SidecarProfile[]).map((each) => ({
      ...each,
      // As the API server fills in the defaults.
      spec: sidecarProfileSpecSchema.parse(each.spec),
    })),
  };
}

const kCases = globSync(join(kFolder, '*.yaml'))
  .filter((file) => !file.endsWith('.golden.yaml'))
  .toSorted()
  .map(load);

function injected({ pod, profiles }: Case): { pod: V1Pod; answer: Answer } {
  const answer = reviewOf(pod, profiles);
  return { pod: applied(pod, answer.patch), answer };
}

function golden(each: Case): string {
  const { pod, answer } = injected(each);
  const warnings = answer.warnings === undefined ? {} : { warnings: answer.warnings };
  const result = answer.allowed
    ? { ...warnings, pod }
    : { refused: answer.status?.message.split(/; (?=annotation |container |volume )/) };
  return stringify(result, { lineWidth: 140, aliasDuplicateObjects: false });
}

const kInjected = kCases.filter((each) => injected(each).answer.allowed);

describe('pods of every shape', () => {
  test('are at least thirty, and some are refused', () => {
    expect(kCases.length).toBeGreaterThanOrEqual(30);
    expect(kCases.length - kInjected.length).toBeGreaterThan(5);
  });

  test.each(kCases)('$name becomes what its golden file says', (each) => {
    const file = join(kFolder, `${each.name}.golden.yaml`);
    const now = golden(each);
    if (process.env['UPDATE_GOLDEN'] === '1') {
      writeFileSync(file, now);
    }
    expect(
      existsSync(file) ? readFileSync(file, 'utf8') : 'no golden file: run again with UPDATE_GOLDEN=1',
    ).toBe(now);
  });

  test('no golden file is left over from a case that went', () => {
    const names = new Set(kCases.map(({ name }) => name));
    const left = globSync(join(kFolder, '*.golden.yaml')).filter(
      (file) => !names.has(basename(file, '.golden.yaml')),
    );
    expect(left).toEqual([]);
  });
});

describe('every injected pod', () => {
  test.each(kInjected)('$name: a second pass yields no patch', (each) => {
    const { pod } = injected(each);
    expect(reviewOf(pod, each.profiles, 'another-request').patch).toBeUndefined();
    expect(reviewOf(withDefaults(pod), each.profiles, 'another-request').patch).toBeUndefined();
  });

  test.each(kInjected)(
    '$name: a container that another webhook adds between passes is connected, and nothing else changes',
    (each) => {
      if (each.pod.metadata?.annotations?.['outrigger.dev/containers'] !== undefined) {
        return; // only the named ones are
      }
      const { pod } = injected(each);
      const added = structuredClone(pod);
      added.spec?.containers.push({ name: 'added', image: 'example/added:1' });
      const again = applied(added, reviewOf(added, each.profiles, 'another-request').patch);
      const last = again.spec?.containers.at(-1);
      expect(last?.env?.map(({ name }) => name)).toContain('OUTRIGGER_ADDRESS');
      expect(last?.volumeMounts?.map(({ mountPath }) => mountPath)).toContain('/run/outrigger');
      again.spec?.containers.pop();
      expect(again).toEqual(pod);
    },
  );

  test.each(kInjected)('$name: what was there stays, in its order', (each) => {
    const { pod } = injected(each);
    const names = (containers: readonly V1Container[] | undefined) =>
      (containers ?? []).map(({ name }) => name);
    const without = names(pod.spec?.initContainers).filter((name) => name !== kSidecarName);
    expect(without).toEqual(names(each.pod.spec?.initContainers));
    expect(names(pod.spec?.containers)).toEqual(names(each.pod.spec?.containers));
    expect(pod.metadata?.annotations).toMatchObject(each.pod.metadata?.annotations ?? {});
    expect(pod.metadata?.labels).toEqual(each.pod.metadata?.labels);
  });

  test.each(kInjected)('$name: keeps its QoS class', (each) => {
    const { pod } = injected(each);
    const all = structuredClone(pod);
    // The sidecar under another name, so that it counts.
    all.spec?.initContainers?.forEach((container) => {
      container.name = container.name === kSidecarName ? 'counted' : container.name;
    });
    expect(isGuaranteed(all)).toBe(isGuaranteed(each.pod));
  });

  test.each(kInjected)(
    '$name: the sidecar passes Pod Security "restricted" and has a read-only root',
    (each) => {
      const { pod } = injected(each);
      const sidecar = pod.spec?.initContainers?.find(({ name }) => name === kSidecarName);
      expect(sidecar?.securityContext).toMatchObject({
        runAsNonRoot: true,
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      expect(sidecar?.securityContext?.capabilities?.add).toBeUndefined();
      expect(['RuntimeDefault', 'Localhost']).toContain(sidecar?.securityContext?.seccompProfile?.type);
      expect(sidecar?.securityContext?.privileged).toBeUndefined();
      for (const volume of pod.spec?.volumes ?? []) {
        if (volume.name.startsWith('outrigger-')) {
          expect(volume.emptyDir ?? volume.configMap ?? volume.projected).toBeDefined();
        }
      }
      if (pod.spec?.hostNetwork !== true) {
        expect(sidecar?.ports?.some(({ hostPort }) => hostPort !== undefined)).toBe(false);
      }
    },
  );

  test.each(kInjected)('$name: the patch only adds, and touches nothing twice', (each) => {
    const { answer } = injected(each);
    const operations = answer.patch ?? [];
    const replaced = operations.filter(
      ({ op, path }) => op !== 'add' && !path.startsWith('/spec/resources/'),
    );
    expect(replaced).toEqual([]);
    expect(new Set(operations.map(({ path }) => path)).size).toBe(operations.length);
  });
});

/** Some of what the API server fills in between two passes. */
function withDefaults(pod: V1Pod): V1Pod {
  const filled = structuredClone(pod);
  for (const container of [...(filled.spec?.initContainers ?? []), ...(filled.spec?.containers ?? [])]) {
    container.terminationMessagePath ??= '/dev/termination-log';
    container.terminationMessagePolicy ??= 'File';
    container.imagePullPolicy ??= 'IfNotPresent';
    for (const probe of [container.startupProbe, container.readinessProbe, container.livenessProbe]) {
      if (probe !== undefined) {
        probe.successThreshold ??= 1;
      }
    }
    for (const { valueFrom } of container.env ?? []) {
      if (valueFrom?.fieldRef !== undefined) {
        valueFrom.fieldRef.apiVersion ??= 'v1';
      }
    }
    container.volumeMounts?.push({
      name: 'kube-api-access-x',
      mountPath: '/var/run/secrets/kubernetes.io/serviceaccount',
      readOnly: true,
    });
  }
  filled.spec?.volumes?.push({ name: 'kube-api-access-x', projected: { sources: [] } });
  return filled;
}
