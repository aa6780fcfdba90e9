// SPDX-License-Identifier: Apache-2.0
// From a resource's definition to its CustomResourceDefinition with a structural schema. No files here: scripts/crds.mts writes them.
import { z } from 'zod';
import type { ResourceDefinition } from './resources';

/** A node of a structural schema (OpenAPI v3 as the API server takes it). */
export interface StructuralSchema {
  type?: string;
  description?: string;
  default?: unknown;
  properties?: Record<string, StructuralSchema>;
  additionalProperties?: StructuralSchema;
  items?: StructuralSchema;
  required?: string[];
  enum?: unknown[];
  format?: string;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  'x-kubernetes-validations'?: { rule: string; message: string; messageExpression?: string }[];
  'x-kubernetes-list-type'?: string;
  'x-kubernetes-list-map-keys'?: string[];
  'x-kubernetes-int-or-string'?: boolean;
}

/** What zod's JSON schema says and a structural schema must not. */
function structural(node: Record<string, unknown>): StructuralSchema {
  const { properties, additionalProperties, items, anyOf, ...rest } = node;
  const schema = rest as StructuralSchema;
  delete (schema as { id?: unknown }).id;
  if (anyOf !== undefined) {
    if (schema['x-kubernetes-int-or-string'] !== true) {
      throw new Error(`a union that is no int-or-string has no structural schema: ${JSON.stringify(node)}`);
    }
    return schema; // "x-kubernetes-int-or-string: true" implies the anyOf of both types
  }
  if (properties !== undefined) {
    schema.properties = Object.fromEntries(
      Object.entries(properties as Record<string, Record<string, unknown>>).map(([name, property]) => [
        name,
        structural(property),
      ]),
    );
  } else if (typeof additionalProperties === 'object' && additionalProperties !== null) {
    schema.additionalProperties = structural(additionalProperties as Record<string, unknown>);
  }
  if (items !== undefined) {
    schema.items = structural(items as Record<string, unknown>);
  }
  // zod writes the bounds of what a double holds exactly; as bounds of a field they say nothing.
  if (schema.minimum === Number.MIN_SAFE_INTEGER) {
    delete schema.minimum;
  }
  if (schema.maximum === Number.MAX_SAFE_INTEGER) {
    delete schema.maximum;
  }
  return schema;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A default with the defaults of what it leaves out: the API server holds its rules against the default as it is written. */
function complete(schema: StructuralSchema, value: unknown): unknown {
  if (!isObject(value) || schema.properties === undefined) {
    return value;
  }
  const filled: Record<string, unknown> = { ...value };
  for (const [name, property] of Object.entries(schema.properties)) {
    const given = filled[name] ?? property.default;
    if (given !== undefined) {
      filled[name] = complete(property, given);
    }
  }
  return filled;
}

function completeDefaults(schema: StructuralSchema): StructuralSchema {
  Object.values(schema.properties ?? {}).forEach(completeDefaults);
  if (schema.items !== undefined) {
    completeDefaults(schema.items);
  }
  if (schema.default !== undefined) {
    schema.default = complete(schema, schema.default);
  }
  return schema;
}

export function structuralSchema(schema: z.ZodType): StructuralSchema {
  return completeDefaults(
    structural(z.toJSONSchema(schema, { io: 'input', target: 'openapi-3.0', reused: 'inline' })),
  );
}

function rootSchema(resource: ResourceDefinition): StructuralSchema {
  const spec = structuralSchema(resource.spec);
  if (resource.specOptional) {
    spec.default = complete(spec, {});
  }
  return {
    type: 'object',
    description: resource.meaning,
    properties: {
      apiVersion: { type: 'string', description: `${resource.group}/${resource.version}` },
      kind: { type: 'string', description: resource.kind },
      metadata: { type: 'object' },
      spec: { ...spec, description: 'What is wanted.' },
      ...(resource.status === undefined
        ? {}
        : {
            status: {
              ...structuralSchema(resource.status),
              description: 'What is, written by the operator.',
            },
          }),
    },
    required: resource.specOptional ? [] : ['spec'],
  };
}

/** The CustomResourceDefinition as an object. */
export function customResourceDefinition(resource: ResourceDefinition): Record<string, unknown> {
  const schema = rootSchema(resource);
  if (schema.required?.length === 0) {
    delete schema.required;
  }
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${resource.plural}.${resource.group}` },
    spec: {
      group: resource.group,
      scope: resource.scope,
      names: {
        kind: resource.kind,
        listKind: `${resource.kind}List`,
        plural: resource.plural,
        singular: resource.singular,
        shortNames: [...resource.shortNames],
        categories: ['outrigger'],
      },
      versions: [
        {
          name: resource.version,
          served: true,
          storage: true,
          ...(resource.status === undefined ? {} : { subresources: { status: {} } }),
          additionalPrinterColumns: resource.columns.map((column) => ({ ...column })),
          ...(resource.selectableFields === undefined
            ? {}
            : { selectableFields: resource.selectableFields.map((jsonPath) => ({ jsonPath })) }),
          schema: { openAPIV3Schema: schema },
        },
      ],
    },
  };
}
