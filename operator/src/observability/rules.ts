// SPDX-License-Identifier: Apache-2.0
// Alerts as a Prometheus rule file and as runbook pages.
import { kAlertGroups, type Alert, type AlertGroup } from './alerts';

/** Where a runbook is: the anchor that a heading of its name gets. */
export function runbookUrl(base: string, alert: Alert): string {
  return `${base}#${alert.name.toLowerCase()}`;
}

/** `groups:` of a rule file. @param runbookBase address of the runbooks page. */
export function ruleGroups(groups: readonly AlertGroup[], runbookBase: string): object {
  return {
    groups: groups.map(({ name, alerts }) => ({
      name,
      rules: alerts.map((alert) => ({
        alert: alert.name,
        expr: alert.expr,
        for: alert.for,
        labels: { severity: alert.severity },
        annotations: {
          summary: alert.summary,
          description: `${alert.meaning} ${alert.impact}`,
          runbook_url: runbookUrl(runbookBase, alert),
        },
      })),
    })),
  };
}

export function renderRunbooks(groups: readonly AlertGroup[]): string {
  const lines: string[] = [];
  for (const { alerts } of groups) {
    for (const { name, severity, expr, for: duration, meaning, impact, steps } of alerts) {
      lines.push(
        `## ${name}`,
        '',
        `Severity: ${severity}. Fires when this holds for ${duration}:`,
        '',
        '```',
        expr,
        '```',
        '',
        `${meaning} ${impact}`,
        '',
        ...steps.map((step, index) => `${index + 1}. ${step}`),
        '',
      );
    }
  }
  return lines.join('\n').trimEnd();
}

/** The generated part of docs/runbooks.md. */
export function renderAllRunbooks(): string {
  return renderRunbooks(kAlertGroups);
}
