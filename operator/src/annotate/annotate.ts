// SPDX-License-Identifier: Apache-2.0
// `outrigger annotate`: manifests in, the same manifests with the opt-in label and annotations of the pod template out. Values are held against
// the one annotation schema, so that what the webhook would refuse is refused here. No files, no terminal.
import { isMap, isSeq, parseAllDocuments, type Document, type YAMLMap } from 'yaml';
import { kInjectLabel } from '../api/names';
import { kSystemNamespaces } from '../webhook/registration';
import { parseAnnotations } from '../webhook/annotations';
import { dnsAdvice } from '../webhook/dns';
import { kAnnotationPrefix, kInjectedAnnotation } from '../webhook/layout';
import { SharedMap, YamlEdit, type Patch } from './yaml_edit';

export interface AnnotateRequest {
  /** By full name. */
  readonly set: Readonly<Record<string, string>>;
  /** Takes label and annotations away instead. */
  readonly remove: boolean;
}

export interface Change {
  /** "Deployment shop/web", or "Deployment web" where the namespace is not said. */
  readonly object: string;
  /** untouched: not a thing that makes pods. */
  readonly outcome: 'changed' | 'unchanged' | 'untouched';
  readonly notes: readonly string[];
}

export type Annotated =
  | { readonly text: string; readonly objects: readonly unknown[]; readonly changes: readonly Change[] }
  /** A sentence for each reason why nothing is written. */
  | { readonly problems: readonly string[] };

/** Where the pod template of a kind is; group/Kind. */
const kTemplates: Readonly<Record<string, readonly string[]>> = {
  '/Pod': [],
  '/PodTemplate': ['template'],
  '/ReplicationController': ['spec', 'template'],
  'apps/Deployment': ['spec', 'template'],
  'apps/StatefulSet': ['spec', 'template'],
  'apps/DaemonSet': ['spec', 'template'],
  'apps/ReplicaSet': ['spec', 'template'],
  'batch/Job': ['spec', 'template'],
  'batch/CronJob': ['spec', 'jobTemplate', 'spec', 'template'],
};

/** A value as --set takes it: "key=value" or "outrigger.dev/key=value". */
export function readSetting(text: string): { readonly name: string; readonly value: string } | undefined {
  const equals = text.indexOf('=');
  if (equals <= 0) {
    return undefined;
  }
  const key = text.slice(0, equals).trim();
  return {
    name: key.startsWith(kAnnotationPrefix) ? key : kAnnotationPrefix + key,
    value: text.slice(equals + 1),
  };
}

/** What the webhook would say to these annotations; empty when nothing. */
export function annotationProblems(annotations: Readonly<Record<string, unknown>>): readonly string[] {
  const parsed = parseAnnotations(annotations);
  return 'problems' in parsed ? parsed.problems : [];
}

function textAt(map: YAMLMap, ...path: readonly string[]): string {
  const value: unknown = map.getIn(path);
  return typeof value === 'string' ? value : '';
}

function nameOf(map: YAMLMap): string {
  const namespace = textAt(map, 'metadata', 'namespace');
  const name = textAt(map, 'metadata', 'name') || `${textAt(map, 'metadata', 'generateName')}?`;
  return `${textAt(map, 'kind')} ${namespace === '' ? '' : `${namespace}/`}${name}`;
}

function kindOf(map: YAMLMap): string {
  const version = textAt(map, 'apiVersion');
  const slash = version.indexOf('/');
  return `${slash < 0 ? '' : version.slice(0, slash)}/${textAt(map, 'kind')}`;
}

/** Objects of a document: itself, or those of a List, whatever lists it has. */
function objectsOf(node: unknown): YAMLMap[] {
  if (!isMap(node)) {
    return [];
  }
  const items: unknown = node.get('items');
  return textAt(node, 'kind').endsWith('List') && isSeq(items) ? items.items.flatMap(objectsOf) : [node];
}

function asRecord(node: unknown, document: Document): Record<string, unknown> {
  return isMap(node) ? (node.toJS(document) as Record<string, unknown>) : {};
}

class Annotator {
  readonly problems: string[] = [];
  readonly changes: Change[] = [];

  constructor(
    private readonly edit: YamlEdit,
    private readonly request: AnnotateRequest,
  ) {}

  object(document: Document, map: YAMLMap): void {
    const object = nameOf(map);
    const path = kTemplates[kindOf(map)];
    if (path === undefined) {
      this.changes.push({ object, outcome: 'untouched', notes: ['it makes no pods'] });
      return;
    }
    const template: unknown = path.length === 0 ? map : map.getIn(path);
    if (!isMap(template)) {
      this.problems.push(`${object}: has no ${path.join('.')}; a pod template belongs there`);
      return;
    }
    try {
      if (this.request.remove) {
        this.takeOut(document, object, template);
      } else {
        this.putIn(document, object, template, textAt(map, 'metadata', 'namespace'));
      }
    } catch (error) {
      if (!(error instanceof SharedMap)) {
        throw error;
      }
      this.problems.push(`${object}: ${error.message}`);
    }
  }

  private putIn(document: Document, object: string, template: YAMLMap, namespace: string): void {
    const labels = asRecord(template.getIn(['metadata', 'labels']), document);
    const present = asRecord(template.getIn(['metadata', 'annotations']), document);
    const wanted = this.request.set;
    const problems = annotationProblems({ ...present, ...wanted });
    if (problems.length > 0) {
      this.problems.push(...problems.map((each) => `${object}: ${each}`));
      return;
    }
    const annotations = Object.fromEntries(
      Object.entries(wanted).filter(([name, value]) => present[name] !== value),
    );
    const metadata: Record<string, Patch> = {};
    const notes: string[] = [];
    if (labels[kInjectLabel] !== 'true') {
      metadata['labels'] = { [kInjectLabel]: 'true' };
      notes.push(`label ${kInjectLabel}: "true"`);
    }
    if (Object.keys(annotations).length > 0) {
      metadata['annotations'] = annotations;
      notes.push(
        ...Object.entries(annotations).map(([name, value]) => `annotation ${name}: ${JSON.stringify(value)}`),
      );
    }
    if (kSystemNamespaces.includes(namespace)) {
      notes.push(`no pod of namespace ${namespace} ever gets a sidecar; use another namespace`);
    }
    const advice = dnsAdvice(asRecord(template.get('spec'), document));
    if (advice !== undefined) {
      notes.push(advice);
    }
    const changed = Object.keys(metadata).length > 0;
    if (changed) {
      this.edit.merge(document, template, { metadata });
    }
    this.changes.push({ object, outcome: changed ? 'changed' : 'unchanged', notes });
  }

  private takeOut(document: Document, object: string, template: YAMLMap): void {
    const notes: string[] = [];
    const metadata: unknown = template.get('metadata');
    const emptied = new Set<string>();
    for (const key of ['labels', 'annotations']) {
      const map: unknown = isMap(metadata) ? metadata.get(key) : undefined;
      const names = Object.keys(asRecord(map, document));
      // What the webhook wrote tells of a sidecar that stands in the pod.
      const ours = names.filter((name) =>
        key === 'labels'
          ? name === kInjectLabel
          : name.startsWith(kAnnotationPrefix) && name !== kInjectedAnnotation,
      );
      if (ours.length === 0 || !isMap(map) || !isMap(metadata)) {
        continue;
      }
      notes.push(...ours.map((name) => `${key.slice(0, -1)} ${name} removed`));
      if (ours.length === names.length && map.anchor === undefined) {
        emptied.add(key);
      } else {
        this.edit.remove(map, new Set(ours));
      }
    }
    if (emptied.size > 0 && isMap(metadata)) {
      if (metadata.items.length > emptied.size) {
        this.edit.remove(metadata, emptied);
      } else {
        this.edit.remove(template, new Set(['metadata'])); // nothing else is left in it
      }
    }
    this.changes.push({ object, outcome: notes.length > 0 ? 'changed' : 'unchanged', notes });
  }
}

interface Pass {
  readonly text: string;
  readonly problems: readonly string[];
  readonly changes: readonly Change[];
  readonly objects: readonly unknown[];
}

function pass(text: string, request: AnnotateRequest): Pass {
  const documents = parseAllDocuments(text) as Document[];
  const errors = documents.flatMap((document) => document.errors.map(({ message }) => message.trim()));
  if (errors.length > 0) {
    return { text, problems: errors, changes: [], objects: [] };
  }
  const edit = new YamlEdit(text);
  const annotator = new Annotator(edit, request);
  const objects: unknown[] = [];
  for (const document of documents) {
    for (const each of objectsOf(document.contents)) {
      annotator.object(document, each);
      objects.push(each.toJS(document));
    }
  }
  return { text: edit.result(), problems: annotator.problems, changes: annotator.changes, objects };
}

/** @param source what problems are said of: a file's name. */
export function annotate(text: string, request: AnnotateRequest, source: string): Annotated {
  const { text: edited, problems, changes } = pass(text, request);
  if (problems.length > 0) {
    return { problems: problems.map((each) => `${source}: ${each}`) };
  }
  // What was written is read again: nothing may be left to do, or the text did not become what was meant.
  const again = pass(edited, request);
  if (again.text !== edited || again.problems.length > 0) {
    throw new Error(`${source}: the edited text does not say what it should: ${again.problems.join('; ')}`);
  }
  return { text: edited, objects: again.objects, changes };
}
