// SPDX-License-Identifier: Apache-2.0
// Manifests as people write them, each with the text that must come out: the lines that were there, and ours.
import { parseAllDocuments } from 'yaml';
import { annotate, type AnnotateRequest, type Annotated } from './annotate';

const kLabel = 'outrigger.dev/inject: "true"';

function request(set: Readonly<Record<string, string>> = {}): AnnotateRequest {
  return { set, remove: false };
}

function run(text: string, set: Readonly<Record<string, string>> = {}): Annotated {
  return annotate(text, request(set), 'in.yaml');
}

function textOf(result: Annotated): string {
  if ('problems' in result) {
    throw new Error(result.problems.join('; '));
  }
  return result.text;
}

function removed(text: string): string {
  return textOf(annotate(text, { set: {}, remove: true }, 'in.yaml'));
}

/** What stands in `after` and not in `before`, line by line; all lines of `before` must be there, in order. */
function added(before: string, after: string): string[] {
  const rest = before.split('\n');
  const fresh = after.split('\n').filter((line) => {
    if (line === rest[0]) {
      rest.shift();
      return false;
    }
    return true;
  });
  expect(rest).toEqual([]);
  return fresh;
}

const kDeployment = `# The till.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: till   # as on the door
  namespace: shop
  labels: {app: till}
spec:
  selector:
    matchLabels:
      app: till
  template:
    metadata:
      labels:
        # Selects.
        app: till  # same as above
    spec:
      containers:
      - name: app
        image: "till:1"
        args: ['--flag',   "x"]
`;

describe('annotate', () => {
  it('adds lines to the pod template, and changes no other byte', () => {
    const result = run(kDeployment, {
      'outrigger.dev/profile': 'market-data',
      'outrigger.dev/backends': 'uring,mmsg',
    });
    expect(added(kDeployment, textOf(result))).toEqual([
      `        ${kLabel}`,
      '      annotations:',
      '        outrigger.dev/profile: "market-data"',
      '        outrigger.dev/backends: "uring,mmsg"',
    ]);
    expect('changes' in result && result.changes).toEqual([
      {
        object: 'Deployment shop/till',
        outcome: 'changed',
        notes: [
          `label ${kLabel}`,
          'annotation outrigger.dev/profile: "market-data"',
          'annotation outrigger.dev/backends: "uring,mmsg"',
        ],
      },
    ]);
  });

  it("says what a pod on the node's network needs to find the directory", () => {
    const onNode = kDeployment.replace(
      '    spec:\n      containers',
      '    spec:\n      hostNetwork: true\n      containers',
    );
    const notes = (text: string): readonly string[] => {
      const result = run(text);
      return 'changes' in result ? (result.changes[0]?.notes ?? []) : [];
    };
    expect(notes(onNode)).toContainEqual(expect.stringContaining('set dnsPolicy: ClusterFirstWithHostNet'));
    const named = onNode.replace(
      'hostNetwork: true',
      'hostNetwork: true\n      dnsPolicy: ClusterFirstWithHostNet',
    );
    expect(notes(named)).toEqual([`label ${kLabel}`]);
  });

  it('changes nothing the second time', () => {
    const once = textOf(run(kDeployment, { 'outrigger.dev/cores': '1' }));
    const twice = run(once, { 'outrigger.dev/cores': '1' });
    expect(textOf(twice)).toBe(once);
    expect('changes' in twice && twice.changes[0]?.outcome).toBe('unchanged');
  });

  it('sets what was set otherwise', () => {
    const once = textOf(run(kDeployment, { 'outrigger.dev/cores': '1' })).replace(
      kLabel,
      kLabel.replace('true', 'false'),
    );
    const twice = textOf(run(once, { 'outrigger.dev/cores': '2' }));
    expect(twice).toContain('outrigger.dev/cores: "2"');
    expect(twice).toContain(kLabel);
    expect(twice).not.toContain('"1"');
  });

  it.each([
    ['Pod', 'v1', ''],
    ['Deployment', 'apps/v1', 'spec.template'],
    ['StatefulSet', 'apps/v1', 'spec.template'],
    ['DaemonSet', 'apps/v1', 'spec.template'],
    ['ReplicaSet', 'apps/v1', 'spec.template'],
    ['Job', 'batch/v1', 'spec.template'],
    ['CronJob', 'batch/v1', 'spec.jobTemplate.spec.template'],
  ])('finds the pod template of a %s', (kind, apiVersion, path) => {
    const steps = path === '' ? [] : path.split('.');
    const pod = { metadata: { name: 'x' }, spec: { containers: [{ name: 'app', image: 'x' }] } };
    const body = steps.reduceRight<object>((inner, step) => ({ [step]: inner }), pod);
    const text = JSON.stringify({ apiVersion, kind, metadata: { name: 'x' }, ...body }, null, 2);
    const made = JSON.parse(textOf(run(text))) as Record<string, unknown>; // JSON stays JSON
    const template = steps.reduce<unknown>((at, step) => (at as Record<string, unknown>)[step], made);
    expect(template).toEqual({
      ...(steps.length === 0 ? { apiVersion, kind } : {}),
      ...pod,
      metadata: { name: 'x', labels: { 'outrigger.dev/inject': 'true' } },
    });
  });

  it('leaves what makes no pods as it is, a Job of others too', () => {
    const text = `apiVersion: v1
kind: Service
metadata: {name: s}
---
apiVersion: batch.volcano.sh/v1alpha1
kind: Job
metadata: {name: j}
---
# nothing
`;
    const result = run(text);
    expect(textOf(result)).toBe(text);
    expect('changes' in result && result.changes.map(({ object, outcome }) => [object, outcome])).toEqual([
      ['Service s', 'untouched'],
      ['Job j', 'untouched'],
    ]);
  });

  it('goes into Lists and through several documents', () => {
    const text = `---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata:
    name: a
  spec: {containers: [{name: app, image: x}]}
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: c}
---
apiVersion: v1
kind: PodList
items:
  - metadata: {name: b}
    apiVersion: v1
    kind: Pod
    spec: {containers: []}
...
`;
    const made = textOf(run(text));
    expect(added(text.replace('{name: b}', ''), made.replace(/metadata: \{.*b.*\}$/m, 'metadata: '))).toEqual(
      ['    labels:', `      ${kLabel}`],
    );
    expect(made).toContain(`{name: b, labels: { ${kLabel} }}`);
  });

  it.each([
    ['no metadata', 'spec: {}', 'metadata:\n        labels:'],
    ['empty metadata', 'metadata:\n      spec: {}', 'metadata: { labels:'],
    ['empty braces', 'metadata: {}\n      spec: {}', 'metadata: { labels:'],
    [
      'null labels',
      'metadata:\n        labels: ~  # none yet\n      spec: {}',
      'labels: { outrigger.dev/inject: "true" }  # none yet',
    ],
    [
      'labels without a value',
      'metadata:\n        labels:\n      spec: {}',
      'labels: { outrigger.dev/inject: "true" }\n',
    ],
    [
      'a text over several lines',
      'metadata:\n        labels:\n          note: |\n            two\n            lines\n      spec: {}',
      `            lines\n          ${kLabel}\n`,
    ],
    [
      'a merge',
      'metadata:\n        labels:\n          <<: {a: b}\n          c: d\n      spec: {}',
      `c: d\n          ${kLabel}\n`,
    ],
    [
      'a comment behind',
      'metadata:\n        labels:\n          a: b\n        # about the spec\n      spec: {}',
      `a: b\n          ${kLabel}\n        # about`,
    ],
  ])('writes into a template with %s', (_, template, expected) => {
    const text = `apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec:\n    template:\n      ${template}\n`;
    const made = textOf(run(text));
    expect(made).toContain(expected);
    const [document] = parseAllDocuments(made);
    expect(document?.toJS()).toMatchObject({
      spec: { template: { metadata: { labels: { 'outrigger.dev/inject': 'true' } }, spec: {} } },
    });
  });

  it('ends lines as the file does, also the last one that has no end', () => {
    const text = 'apiVersion: v1\r\nkind: Pod\r\nmetadata:\r\n  name: x';
    expect(textOf(run(text))).toBe(`${text}\r\n  labels:\r\n    ${kLabel}`);
  });

  it('refuses to change what an anchor would change elsewhere', () => {
    const text = kDeployment
      .replace('matchLabels:\n      app: till', 'matchLabels: *labels')
      .replace('      labels:\n        # Selects.', '      labels: &labels\n        # Selects.');
    // An alias must stand behind its anchor.
    const head = text.slice(0, text.indexOf('  selector:'));
    const tail = text.slice(text.indexOf('  template:'));
    const turned = `${head}${tail}  selector:\n    matchLabels: *labels\n`;
    expect(run(turned)).toEqual({
      problems: [
        'in.yaml: Deployment shop/till: labels carries the anchor &labels, and what refers to it would change too; write labels out where it is used',
      ],
    });
    const alias = kDeployment
      .replace('labels: {app: till}', 'labels: &labels {app: till}')
      .replace(
        '      labels:\n        # Selects.\n        app: till  # same as above',
        '      labels: *labels',
      );
    expect(run(alias)).toEqual({
      problems: [expect.stringContaining('labels is *labels, a map that stands elsewhere')],
    });
  });

  it('says what is wrong as the webhook would: the nearest name, what is allowed, and of which object', () => {
    expect(run(kDeployment, { 'outrigger.dev/profil': 'x', 'outrigger.dev/cores': '9' })).toEqual({
      problems: [
        'in.yaml: Deployment shop/till: annotation outrigger.dev/cores: "9" is not allowed; allowed: a whole number from 0 to 3',
        'in.yaml: Deployment shop/till: annotation outrigger.dev/profil: unknown; did you mean outrigger.dev/profile?',
      ],
    });
    // What stood there before is looked at too: the pod would be refused for it.
    const annotated = kDeployment.replace(
      '      labels:\n        # S',
      '      annotations: {outrigger.dev/mtu: "9"}\n      labels:\n        # S',
    );
    expect(run(annotated)).toEqual({
      problems: [expect.stringContaining('outrigger.dev/mtu: "9" is not allowed')],
    });
  });

  it('names the place of what is no YAML, and the object without a template', () => {
    expect(run('a: [1')).toEqual({ problems: [expect.stringMatching(/^in.yaml: .* at line 1/)] });
    expect(run('apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n')).toEqual({
      problems: ['in.yaml: Deployment x: has no spec.template; a pod template belongs there'],
    });
  });

  it('warns where no pod ever gets a sidecar', () => {
    const result = run(kDeployment.replace('namespace: shop', 'namespace: kube-system'));
    expect('changes' in result && result.changes[0]?.notes.at(-1)).toContain(
      'no pod of namespace kube-system',
    );
  });
});

describe('annotate --remove', () => {
  it.each([
    ['block maps', kDeployment],
    [
      'block maps without other labels',
      kDeployment
        .replace('        # Selects.\n        app: till  # same as above\n', '')
        .replace('      labels:\n    spec', '      creationTimestamp: null\n    spec'),
    ],
    ['braces', 'apiVersion: v1\nkind: Pod\nmetadata: { name: x, labels: { a: b } }\nspec: {}\n'],
    ['JSON', '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{}}'],
    ['no metadata', 'apiVersion: batch/v1\nkind: Job\nspec:\n  template:\n    spec: {}\n'],
  ])('undoes what was added to %s', (_, text) => {
    const made = textOf(run(text, { 'outrigger.dev/scrape': 'true', 'outrigger.dev/log-level': 'warn' }));
    expect(made).not.toBe(text);
    expect(removed(made)).toBe(text);
  });

  it('takes mistyped ones away too, leaves what the webhook wrote, and says what it took', () => {
    const text = `apiVersion: v1
kind: Pod
metadata:
  name: x
  labels: {outrigger.dev/inject: "true", app: x}
  annotations:
    # mine
    outrigger.dev/profil: x # mistyped
    outrigger.dev/injected: '{}'
    other: stays
`;
    const result = annotate(text, { set: {}, remove: true }, 'in.yaml');
    expect(textOf(result)).toBe(
      text
        .replace('outrigger.dev/inject: "true", ', '')
        .replace('    outrigger.dev/profil: x # mistyped\n', ''),
    );
    expect('changes' in result && result.changes[0]?.notes).toEqual([
      'label outrigger.dev/inject removed',
      'annotation outrigger.dev/profil removed',
    ]);
  });
});
