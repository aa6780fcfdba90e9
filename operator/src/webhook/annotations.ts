// SPDX-License-Identifier: Apache-2.0
// The annotations that tune one pod's sidecar, in one table: most override a field of the SidecarProfile and take its range, so a value means
// and allows the same in both places. Parsing, errors and the documentation come from here.
import { z } from 'zod';
import { nearest } from '../../../sidecar/src/base/nearest';
import { kInjectLabel } from '../api/names';
import { kDnsLabel, kDnsName } from '../api/schema';
import { sidecarProfileSpecSchema, type SidecarProfileSpec } from '../api/sidecar_profile';
import { kAnnotationPrefix, kInjectedAnnotation } from './layout';

/** How the text of an annotation becomes a value. */
type Form = 'text' | 'integer' | 'boolean' | 'list';

interface Annotation {
  readonly form: Form;
  /** What the value must be. */
  readonly schema: z.ZodType;
  /** Field of the profile's spec that it overrides; absent for what only injection knows. */
  readonly field?: readonly string[];
  readonly meaning: string;
  readonly allowed: string;
  readonly byDefault: string;
}

interface JsonSchema {
  readonly enum?: readonly string[];
  readonly items?: JsonSchema;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly 'x-kubernetes-validations'?: readonly { readonly message: string }[];
}

function unwrapped(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional
    ? unwrapped(schema.unwrap() as z.ZodType)
    : schema;
}

function fieldSchema(path: readonly string[]): z.ZodType {
  let schema: z.ZodType = sidecarProfileSpecSchema;
  for (const key of path) {
    schema = (unwrapped(schema) as z.ZodObject).shape[key] as z.ZodType;
  }
  return schema;
}

/** Words are there on the field, or on what it wraps. */
function meaningOf(schema: z.ZodType): string {
  const { description } = schema.meta() ?? {};
  const inner = unwrapped(schema);
  return description ?? (inner === schema ? '' : meaningOf(inner));
}

function allowedOf(schema: z.ZodType): string {
  const json = z.toJSONSchema(unwrapped(schema), { unrepresentable: 'any' }) as JsonSchema;
  const rule = json['x-kubernetes-validations']?.[0]?.message.split('allowed: ')[1];
  if (rule !== undefined) {
    return rule;
  }
  if (json.enum !== undefined) {
    return json.enum.join(', ');
  }
  return json.items?.enum !== undefined
    ? `${json.items.enum.join(', ')}; several with commas between`
    : `a whole number from ${json.minimum} to ${json.maximum}`;
}

function ofProfile(form: Form, ...field: string[]): Annotation {
  const schema = fieldSchema(field);
  return {
    form,
    schema: unwrapped(schema),
    field,
    meaning: meaningOf(schema),
    allowed: allowedOf(schema),
    byDefault: `\`${field.join('.')}\` of the profile`,
  };
}

const kTable = {
  profile: {
    form: 'text',
    schema: z.string().max(253).regex(kDnsName),
    meaning: "Name of the SidecarProfile in the pod's namespace.",
    allowed: 'the name of a SidecarProfile',
    byDefault: 'the profile that selects the pod, else the default one, else built-in values',
  },
  backends: ofProfile('list', 'backends'),
  threading: ofProfile('text', 'threading'),
  cores: ofProfile('integer', 'cores'),
  memory: ofProfile('text', 'memory'),
  'term-length': ofProfile('text', 'buffers', 'termLength'),
  'receiver-window': ofProfile('text', 'buffers', 'receiverWindow'),
  mtu: ofProfile('integer', 'buffers', 'mtu'),
  'packet-mode': ofProfile('text', 'packet', 'mode'),
  hugepages: ofProfile('text', 'hugepages', 'mode'),
  'hugepages-amount': ofProfile('text', 'hugepages', 'amount'),
  'metrics-port': ofProfile('integer', 'metricsPort'),
  'drain-timeout': ofProfile('text', 'timeouts', 'drain'),
  'log-level': ofProfile('text', 'logging', 'level'),
  'cpu-request': ofProfile('text', 'resources', 'requests', 'cpu'),
  'cpu-limit': ofProfile('text', 'resources', 'limits', 'cpu'),
  'memory-request': ofProfile('text', 'resources', 'requests', 'memory'),
  'memory-limit': ofProfile('text', 'resources', 'limits', 'memory'),
  'udp-port': {
    form: 'integer',
    schema: z.int().min(1024).max(65_535),
    meaning: 'UDP port that the sidecar receives on.',
    allowed: 'a whole number from 1024 to 65535',
    byDefault: '`udpPorts.first` of the profile; with hostNetwork one of `udpPorts`, another for each pod',
  },
  'shared-memory': {
    form: 'boolean',
    schema: z.boolean(),
    meaning:
      "Mount the driver's memory into the app containers and set AERON_DIR, for Aeron clients. They read and write every stream that is open there; which they may open, driverPolicy of the profile says.",
    allowed: 'true, false',
    byDefault: 'true where `sharedMemory` of the profile is Always, else false',
  },
  containers: {
    form: 'list',
    schema: z.array(z.string().regex(kDnsLabel)).min(1),
    meaning: 'Containers that use the sidecar: only these get its mounts and variables.',
    allowed: 'names of containers of the pod; several with commas between',
    byDefault: 'all but those of a service mesh',
  },
  'topics-config-map': {
    form: 'text',
    schema: z.string().max(253).regex(kDnsName),
    meaning: "ConfigMap in the pod's namespace whose key topics.yaml lists topics, as in a topics file.",
    allowed: 'the name of a ConfigMap',
    byDefault: 'none',
  },
  scrape: {
    form: 'boolean',
    schema: z.boolean(),
    meaning:
      'Annotate the pod with prometheus.io/scrape, port and path, unless it has annotations of prometheus.io already.',
    allowed: 'true, false',
    byDefault: 'false',
  },
} as const satisfies Record<string, Annotation>;

export type AnnotationKey = keyof typeof kTable;

const kKeys = Object.keys(kTable) as AnnotationKey[];

/** Values of the annotations that are no fields of a profile. */
export interface PodTuning {
  readonly profile?: string;
  readonly udpPort?: number;
  readonly sharedMemory?: boolean;
  readonly containers?: readonly string[];
  readonly topicsConfigMap?: string;
  readonly scrape?: boolean;
}

export interface ParsedAnnotations {
  readonly tuning: PodTuning;
  /** Fields of a profile's spec that the pod overrides, each with the annotation that did. */
  readonly overrides: readonly {
    readonly field: readonly string[];
    readonly value: unknown;
    readonly by: string;
  }[];
}

export type Parsed<T> = { readonly value: T } | { readonly problems: readonly string[] };

function readText(form: Form, text: string): unknown {
  switch (form) {
    case 'text':
      return text;
    case 'integer':
      return /^\d{1,15}$/.test(text) ? Number(text) : text;
    case 'boolean':
      return text === 'true' ? true : text === 'false' ? false : text;
    case 'list':
      return text
        .split(',')
        .map((item) => item.trim())
        .filter((item) => item !== '');
  }
}

function unknownProblem(name: string): string {
  if (name === kInjectLabel) {
    return `annotation ${name}: is a label, not an annotation; set it under metadata.labels`;
  }
  const known = kKeys.map((key) => kAnnotationPrefix + key);
  return `annotation ${name}: unknown; did you mean ${nearest(name, known)}?`;
}

function camelCase(key: string): string {
  return key.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** The annotations of a pod that are ours, or a sentence for each that can't be used. */
export function parseAnnotations(annotations: Readonly<Record<string, unknown>>): Parsed<ParsedAnnotations> {
  const problems: string[] = [];
  const tuning: Record<string, unknown> = {};
  const overrides: { field: readonly string[]; value: unknown; by: string }[] = [];
  // In one order: the API server's maps have none, and the same mistake must read the same.
  for (const [name, text] of Object.entries(annotations).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    if (!name.startsWith(kAnnotationPrefix) || name === kInjectedAnnotation) {
      continue;
    }
    const key = name.slice(kAnnotationPrefix.length);
    if (!(kKeys as string[]).includes(key)) {
      problems.push(unknownProblem(name));
      continue;
    }
    const annotation: Annotation = kTable[key as AnnotationKey];
    const value = typeof text === 'string' ? readText(annotation.form, text) : text;
    if (!annotation.schema.safeParse(value).success) {
      problems.push(
        `annotation ${name}: ${JSON.stringify(text)} is not allowed; allowed: ${annotation.allowed}`,
      );
    } else if (annotation.field === undefined) {
      tuning[camelCase(key)] = value;
    } else {
      overrides.push({ field: annotation.field, value, by: name });
    }
  }
  return problems.length > 0 ? { problems } : { value: { tuning, overrides } };
}

/** A spec with the pod's overrides in it. They may not go together: then a sentence says which. */
export function withOverrides(
  spec: SidecarProfileSpec,
  overrides: ParsedAnnotations['overrides'],
): Parsed<SidecarProfileSpec> {
  // An object from before a field existed lacks its default.
  const whole = sidecarProfileSpecSchema.safeParse(spec);
  if (!whole.success) {
    return {
      problems: whole.error.issues.map(({ path, message }) => `profile: ${path.join('.')} ${message}`),
    };
  }
  const changed = structuredClone(whole.data) as Record<string, unknown>;
  for (const { field, value } of overrides) {
    let at = changed;
    for (const key of field.slice(0, -1)) {
      at = at[key] as Record<string, unknown>;
    }
    at[field.at(-1) as string] = value;
  }
  const parsed = sidecarProfileSpecSchema.safeParse(changed);
  if (parsed.success) {
    return { value: parsed.data };
  }
  const blamed = overrides.map(({ by }) => by).join(', ');
  return {
    problems: parsed.error.issues.map((issue) => {
      const path = issue.path.join('.');
      return `${blamed === '' ? 'profile' : `profile with ${blamed}`}: ${path === '' ? '' : `${path} `}${issue.message}`;
    }),
  };
}

/** A Markdown table for the documentation. */
export function renderAnnotationTable(): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|');
  const rows = kKeys.map((key) => {
    const { meaning, allowed, byDefault }: Annotation = kTable[key];
    return `| \`${kAnnotationPrefix}${key}\` | ${[meaning, allowed, byDefault].map(cell).join(' | ')} |`;
  });
  return ['| annotation | meaning | allowed | default |', '|---|---|---|---|', ...rows].join('\n') + '\n';
}
