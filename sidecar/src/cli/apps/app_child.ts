// SPDX-License-Identifier: Apache-2.0
// An app of demo or bench as its command sees it: how to start it, and what it reports.
import type { ChildOptions } from '../child';
import { script } from '../installation';

type Done<Report> = Extract<Report, { readonly type: 'done' }>;

export interface AppChild<Report> {
  readonly options: ChildOptions;
  readonly ready: Promise<void>;
  readonly done: Promise<Done<Report>>;
}

export function appChild<Report extends { readonly type: string }>(
  name: 'publisher' | 'subscriber',
  config: object,
  onReport: (report: Report) => void = () => undefined,
): AppChild<Report> {
  let ready: () => void = () => undefined;
  let done: (report: Done<Report>) => void = () => undefined;
  return {
    ready: new Promise<void>((resolve) => (ready = resolve)),
    done: new Promise<Done<Report>>((resolve) => (done = resolve)),
    options: {
      name: `app ${name}`,
      command: process.execPath,
      args: [script('apps', `${name}_app.js`), JSON.stringify(config)],
      onLine: (line) => {
        if (!line.startsWith('{')) {
          return;
        }
        const report = JSON.parse(line) as Report;
        if (report.type === 'ready') {
          ready();
        } else if (report.type === 'done') {
          done(report as Done<Report>);
        }
        onReport(report);
      },
    },
  };
}
