// SPDX-License-Identifier: Apache-2.0
// Label selectors: their schema, and which labels they match (Kubernetes: "Labels and Selectors").
import { z } from 'zod';
import { described, listOf, withRules } from './schema';

const kMaxRequirements = 16;

/** True when values are there exactly where the operator compares with them; as Kubernetes has it for selectors of its own. */
function isComplete({ operator, values }: { readonly operator: string; readonly values?: unknown }): boolean {
  return ['In', 'NotIn'].includes(operator) === (Array.isArray(values) && values.length > 0);
}

const requirementSchema = withRules(
  z.strictObject({
    key: z.string().min(1).max(317).describe('Label key.'), // prefix 253, slash, name 63
    operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']).describe('How the label relates to values.'),
    values: listOf(z.string().max(63), 0, 64)
      .optional()
      .describe('For In and NotIn: at least one value. Empty for the others.'),
  }),
  [
    {
      // NotIn nothing would match everything.
      rule: "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
      check: isComplete,
      message:
        'values goes with operators In and NotIn, which need at least one; add one, or use Exists or DoesNotExist without values',
      refused: [
        { operator: 'NotIn' },
        { operator: 'NotIn', values: [] },
        { operator: 'In' },
        { operator: 'Exists', values: ['a'] },
        { operator: 'DoesNotExist', values: ['a'] },
      ],
    },
  ],
);

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

/** A selector as an API server may have it from before a rule existed. */
export interface StoredSelector {
  readonly matchLabels?: Labels | undefined;
  readonly matchExpressions?:
    | readonly {
        readonly key: string;
        readonly operator: string;
        readonly values?: readonly string[] | undefined;
      }[]
    | undefined;
}

/** True when the labels meet every requirement; an empty selector matches all. A requirement that can't be understood is met by nothing. */
export function matches(selector: StoredSelector, labels: Labels = {}): boolean {
  const equal = Object.entries(selector.matchLabels ?? {}).every(([key, value]) => labels[key] === value);
  return (
    equal &&
    (selector.matchExpressions ?? []).every((requirement) => {
      const { key, operator, values = [] } = requirement;
      const value = labels[key];
      if (!isComplete(requirement)) {
        return false;
      }
      switch (operator) {
        case 'In':
          return value !== undefined && values.includes(value);
        case 'NotIn':
          return value === undefined || !values.includes(value);
        case 'Exists':
          return value !== undefined;
        case 'DoesNotExist':
          return value === undefined;
        default:
          return false;
      }
    })
  );
}
