// SPDX-License-Identifier: Apache-2.0
// The schema of status.conditions (metav1.Condition). How they are set is in kit/conditions.ts.
import { z } from 'zod';
import { mapList, time } from './schema';

export const conditionSchema = z.strictObject({
  type: z.string().min(1).max(316).describe('What is judged, for example Ready.'),
  status: z.enum(['True', 'False', 'Unknown']).describe('The judgement.'),
  observedGeneration: z
    .int()
    .min(0)
    .meta({ format: 'int64', description: 'The metadata.generation that was judged.' })
    .optional(),
  lastTransitionTime: time('When status changed last.'),
  reason: z
    .string()
    .min(1)
    .max(1024)
    .regex(/^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/)
    .describe('One word for programs.'),
  message: z.string().max(32768).describe('A sentence for people, with the fix.'),
});

export type Condition = z.output<typeof conditionSchema>;

export const conditionsSchema = mapList(conditionSchema, ['type'], 8).describe('How the resource stands.');
