// SPDX-License-Identifier: Apache-2.0
// Label selectors: their schema, and which labels they match (Kubernetes: "Labels and Selectors").
import { z } from 'zod';
import { described, listOf } from './schema';

const kMaxRequirements = 16;

const requirementSchema = z.strictObject({
  key: z.string().min(1).max(317).describe('Label key.'), // prefix 253, slash, name 63
  operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']).describe('How the label relates to values.'),
  values: listOf(z.string().max(63), 0, 64)
    .optional()
    .describe('For In and NotIn: at least one value. Empty for the others.'),
});

export const labelSelectorSchema = z.strictObject({
  matchLabels: z
    .record(z.string(), z.string().max(63))
    .optional()
    .describe('Labels that must be there with these values.'),
  matchExpressions: listOf(requirementSchema, 0, kMaxRequirements)
    .optional()
    .describe('Further requirements, all of which must hold.'),
});

export type LabelSelector = z.output<typeof labelSelectorSchema>;
export type Labels = Readonly<Record<string, string>>;

export function labelSelector(meaning: string) {
  return described(meaning, labelSelectorSchema);
}

/** True when the labels meet every requirement; an empty selector matches all. */
export function matches(selector: LabelSelector, labels: Labels = {}): boolean {
  const equal = Object.entries(selector.matchLabels ?? {}).every(([key, value]) => labels[key] === value);
  return (
    equal &&
    (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
      const value = labels[key];
      switch (operator) {
        case 'In':
          return value !== undefined && values.includes(value);
        case 'NotIn':
          return value === undefined || !values.includes(value);
        case 'Exists':
          return value !== undefined;
        case 'DoesNotExist':
          return value === undefined;
      }
    })
  );
}
