// SPDX-License-Identifier: Apache-2.0
// An API server for tests, over real HTTP: list in pages, watch with bookmarks and resume, create, replace, merge patch, server-side apply, delete.
// It is honest; what goes wrong on the way is chaos_proxy.ts.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { kResources, type ResourceDefinition } from '../api';
import { ObjectStorage, Refusal, type Json, type Stored } from './object_storage';

interface Target {
  readonly collection: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

const kAdmissionVersion = 'admissionregistration.k8s.io/v1';
const kAdmission = `/apis/${kAdmissionVersion}`;

/** Kubernetes' own kinds that the operator uses. */
const kBuiltin = [
  ['/api/v1/pods', 'v1', 'Pod', true],
  ['/api/v1/namespaces', 'v1', 'Namespace', true],
  ['/api/v1/secrets', 'v1', 'Secret', false],
  ['/api/v1/configmaps', 'v1', 'ConfigMap', false],
  ['/apis/discovery.k8s.io/v1/endpointslices', 'discovery.k8s.io/v1', 'EndpointSlice', false],
  [`${kAdmission}/mutatingwebhookconfigurations`, kAdmissionVersion, 'MutatingWebhookConfiguration', false],
  [`${kAdmission}/validatingadmissionpolicies`, kAdmissionVersion, 'ValidatingAdmissionPolicy', false],
  [
    `${kAdmission}/validatingadmissionpolicybindings`,
    kAdmissionVersion,
    'ValidatingAdmissionPolicyBinding',
    false,
  ],
  ['/apis/coordination.k8s.io/v1/leases', 'coordination.k8s.io/v1', 'Lease', false],
  ['/apis/events.k8s.io/v1/events', 'events.k8s.io/v1', 'Event', false],
] as const;

/** Often, so that tests see them. */
const kBookmarkMs = 100;

export class FakeApiServer {
  readonly storage = new ObjectStorage();
  /** Requests as "METHOD path", in order. */
  readonly requests: string[] = [];
  /** What an admission plugin says to a request, as "METHOD path"; undefined: nothing against it. */
  refuse: (request: string) => Refusal | undefined = () => undefined;
  private readonly server: Server;
  private readonly pages = new Map<string, { version: number; rest: Stored[] }>();
  private nextPage = 0;

  constructor() {
    for (const [collection, apiVersion, kind, hasStatus] of kBuiltin) {
      this.storage.register(collection, {
        apiVersion,
        kind,
        hasStatus,
        ...(kind === 'Event' ? { admit: admitEvent } : {}),
      });
    }
    for (const each of kResources) {
      this.storage.register(collectionOf(each), {
        apiVersion: `${each.group}/${each.version}`,
        kind: each.kind,
        hasStatus: each.status !== undefined,
        admit: (object) => admit(each, object),
      });
    }
    this.server = createServer((request, response) => void this.handle(request, response));
    this.server.keepAliveTimeout = 60_000;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  start(): Promise<void> {
    return new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    const method = request.method ?? 'GET';
    this.requests.push(`${method} ${url.pathname}`);
    try {
      const target = targetOf(url.pathname);
      const text = await textOf(request);
      const refusal = this.refuse(`${method} ${url.pathname}`);
      if (refusal !== undefined) {
        throw refusal;
      }
      if (method === 'GET' && target.name === undefined && url.searchParams.get('watch') === 'true') {
        this.watch(target, url.searchParams, response);
        return;
      }
      const body = text === '' ? {} : (JSON.parse(text) as Json);
      const result = this.answer(
        method,
        target,
        url.searchParams,
        request.headers['content-type'] ?? '',
        body,
      );
      send(response, method === 'POST' ? 201 : 200, result);
    } catch (error) {
      const refusal =
        error instanceof Refusal ? error : new Refusal(500, 'InternalError', (error as Error).message);
      send(response, refusal.code, statusOf(refusal));
    }
  }

  private answer(
    method: string,
    target: Target,
    query: URLSearchParams,
    contentType: string,
    body: Json,
  ): Json {
    const { storage } = this;
    const { collection, namespace, name, subresource } = target;
    if (name === undefined) {
      return method === 'GET' ? this.list(target, query) : storage.create(collection, namespace, body);
    }
    switch (method) {
      case 'GET':
        return storage.get(collection, namespace, name);
      case 'PUT':
        if ((body['metadata'] as Json | undefined)?.['resourceVersion'] === undefined) {
          throw new Refusal(422, 'Invalid', 'metadata.resourceVersion: must be specified for an update');
        }
        return storage.replace(collection, namespace, name, body, subresource);
      case 'PATCH':
        return contentType.startsWith('application/apply-patch')
          ? storage.apply(collection, namespace, name, body, managerOf(query), subresource)
          : storage.mergePatch(collection, namespace, name, body, subresource);
      case 'DELETE':
        return storage.delete(collection, namespace, name, body['preconditions'] ?? {});
      default:
        throw new Refusal(405, 'MethodNotAllowed', `${method} is not allowed`);
    }
  }

  private list({ collection, namespace }: Target, query: URLSearchParams): Json {
    const limit = Number(query.get('limit') ?? 0);
    const token = query.get('continue');
    let version = this.storage.resourceVersion;
    let items = this.storage.list(collection, namespace).filter((object) => isSelected(object, query));
    if (token !== null) {
      const page = this.pages.get(token);
      this.pages.delete(token);
      if (page === undefined || page.version < this.storage.oldestVersion) {
        throw new Refusal(
          410,
          'Expired',
          'The provided continue parameter is too old to display a consistent list result.',
        );
      }
      ({ version, rest: items } = page);
    }
    const isLong = limit > 0 && items.length > limit;
    const next = isLong ? `page-${this.nextPage++}` : '';
    if (isLong) {
      this.pages.set(next, { version, rest: items.slice(limit) });
    }
    const kind = this.storage.kindOf(collection);
    return {
      apiVersion: kind.apiVersion,
      kind: `${kind.kind}List`,
      metadata: { resourceVersion: String(version), ...(isLong ? { continue: next } : {}) },
      items: isLong ? items.slice(0, limit) : items,
    };
  }

  private watch({ collection, namespace }: Target, query: URLSearchParams, response: ServerResponse): void {
    const { storage } = this;
    const kind = storage.kindOf(collection);
    let from = Number(query.get('resourceVersion') ?? 0);
    if (from < storage.oldestVersion) {
      throw new Refusal(410, 'Expired', `too old resource version: ${from} (${storage.oldestVersion})`);
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    const write = (event: object): void => void response.write(`${JSON.stringify(event)}\n`);
    const inScope = (object: Stored): boolean =>
      namespace === undefined || object.metadata.namespace === namespace;
    const deliver = (): void => {
      // By history and not by what onEvent says, so that nothing is lost between resume and live.
      for (const { type, version, object } of storage.since(from, collection)) {
        from = version;
        if (inScope(object) && isSelected(object, query)) write({ type, object });
      }
    };
    deliver();
    const stopListening = storage.onEvent((event) => {
      if (event.collection === collection) deliver();
    });
    const bookmarks =
      query.get('allowWatchBookmarks') === 'true'
        ? setInterval(() => {
            from = Math.max(from, storage.resourceVersion);
            const metadata = { resourceVersion: String(from) };
            write({ type: 'BOOKMARK', object: { kind: kind.kind, apiVersion: kind.apiVersion, metadata } });
          }, kBookmarkMs)
        : undefined;
    const seconds = Number(query.get('timeoutSeconds') ?? 1800);
    const limit = setTimeout(() => response.end(), seconds * 1000);
    response.once('close', () => {
      stopListening();
      clearInterval(bookmarks);
      clearTimeout(limit);
    });
  }
}

export function collectionOf({
  group,
  version,
  plural,
}: Pick<ResourceDefinition, 'group' | 'version' | 'plural'>): string {
  return group === '' ? `/api/${version}/${plural}` : `/apis/${group}/${version}/${plural}`;
}

/** The limit that a real server has, in bytes. */
function admitEvent(object: Json): Json {
  const { note } = object;
  if (typeof note === 'string' && Buffer.byteLength(note) > 1024) {
    throw new Refusal(422, 'Invalid', 'note: Invalid value: can have at most 1024 bytes');
  }
  return {};
}

function admit(resource: ResourceDefinition, object: Json): Json {
  const result = resource.spec.safeParse(object['spec'] ?? (resource.specOptional ? {} : undefined));
  if (!result.success) {
    const problems = result.error.issues.map(
      ({ path, message }) => `spec${path.map((each) => `.${String(each)}`).join('')}: ${message}`,
    );
    throw new Refusal(422, 'Invalid', `${resource.kind} is invalid: ${problems.join('; ')}`);
  }
  return { spec: result.data };
}

function targetOf(path: string): Target {
  const match =
    /^(\/api\/v1|\/apis\/[^/]+\/[^/]+)(?:\/namespaces\/([^/]+))?\/([^/]+)(?:\/([^/]+))?(?:\/(status))?$/.exec(
      path,
    ) ?? /^(\/api\/v1)()\/(namespaces)(?:\/([^/]+))?(?:\/(status))?$/.exec(path);
  if (match === null) {
    throw new Refusal(404, 'NotFound', `the server could not find the requested resource ${path}`);
  }
  const [, root = '', namespace, plural = '', name, subresource] = match;
  return {
    collection: `${root}/${plural}`,
    namespace: namespace === '' ? undefined : namespace,
    name,
    subresource,
  };
}

function managerOf(query: URLSearchParams): string {
  const manager = query.get('fieldManager') ?? '';
  if (manager === '') {
    throw new Refusal(422, 'Invalid', 'fieldManager: Required value: is required for apply patch');
  }
  return manager;
}

/** Equality of labels and of metadata.name: all that tests select by. */
function isSelected(object: Stored, query: URLSearchParams): boolean {
  const labels = (query.get('labelSelector') ?? '').split(',').filter((each) => each !== '');
  const fields = (query.get('fieldSelector') ?? '').split(',').filter((each) => each !== '');
  return (
    labels.every((each) => {
      const [key = '', value] = each.split('=');
      return value === undefined
        ? object.metadata.labels?.[key] !== undefined
        : object.metadata.labels?.[key] === value;
    }) && fields.every((each) => each === `metadata.name=${object.metadata.name}`)
  );
}

function statusOf({ code, reason, message }: Refusal): Json {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code };
}

function send(response: ServerResponse, code: number, body: Json): void {
  const text = JSON.stringify(body);
  response.writeHead(code, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}
