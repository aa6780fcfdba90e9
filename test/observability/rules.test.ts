// SPDX-License-Identifier: Apache-2.0
// Every alert of the chart fires on the series that it is for, and not on those beside it: evaluated by Prometheus' own promtool.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { kAlertGroups } from '../../operator/src/observability/alerts';
import { ruleGroups } from '../../operator/src/observability/rules';

const kRules = ruleGroups(kAlertGroups, 'https://example.test/runbooks');

interface Series {
  readonly series: string;
  /** As promtool expands it: "0+1x10" is 0, 1, 2, ... 10. */
  readonly values: string;
}

interface Case {
  readonly alert: string;
  readonly fires: readonly Series[];
  readonly silent: readonly Series[];
  /** When it must have fired, by samples one minute apart. */
  readonly at: string;
}

const kLabels = 'namespace="shop",pod="till-1"';
const kTopicLabels = `${kLabels},topic="orders"`;

function series(metric: string, values: string, labels = kLabels): Series {
  return { series: `${metric}{${labels}}`, values };
}

const kCases: readonly Case[] = [
  {
    alert: 'OutriggerDriverDown',
    fires: [series('outrigger_driver_up', '1 0x5')],
    silent: [series('outrigger_driver_up', '1 0 1x5')],
    at: '4m',
  },
  {
    alert: 'OutriggerDriverRestarts',
    fires: [series('outrigger_driver_losses_total', '0+1x10')],
    silent: [series('outrigger_driver_losses_total', '0x5 1x10')],
    at: '10m',
  },
  {
    alert: 'OutriggerMemoryVolumeFull',
    fires: [series('outrigger_driver_storage_waits_total', '0x5 7x5')],
    silent: [series('outrigger_driver_storage_waits_total', '7x10')],
    at: '7m',
  },
  {
    alert: 'OutriggerGaps',
    fires: [series('outrigger_gaps_total', '0x5 1x5', kTopicLabels)],
    silent: [series('outrigger_gaps_total', '1x10', kTopicLabels)],
    at: '7m',
  },
  {
    alert: 'OutriggerMessagesDropped',
    fires: [series('outrigger_publish_dropped_messages_total', '0+5x10', kTopicLabels)],
    silent: [series('outrigger_publish_dropped_messages_total', '5x10', kTopicLabels)],
    at: '7m',
  },
  {
    alert: 'OutriggerPublishRefused',
    fires: [
      series('outrigger_published_messages_total', '0+900x20', kTopicLabels),
      series('outrigger_publish_refused_messages_total', '0+100x20', kTopicLabels),
    ],
    silent: [
      series('outrigger_published_messages_total', '0+980x20', kTopicLabels),
      series('outrigger_publish_refused_messages_total', '0+20x20', kTopicLabels),
    ],
    at: '18m',
  },
  {
    alert: 'OutriggerSlowSubscriber',
    fires: [
      series('outrigger_slow_disconnects_total', '0x20', kTopicLabels),
      series('outrigger_skipped_messages_total', '0x5 40x15', kTopicLabels),
    ],
    silent: [
      series('outrigger_slow_disconnects_total', '3x20', kTopicLabels),
      series('outrigger_skipped_messages_total', '40x20', kTopicLabels),
    ],
    at: '8m',
  },
  {
    alert: 'OutriggerReceiveQueueDrops',
    fires: [series('outrigger_driver_receive_queue_drops_total', '0+1200x15')],
    silent: [series('outrigger_driver_receive_queue_drops_total', '0+300x15')],
    at: '12m',
  },
  {
    alert: 'OutriggerRetransmits',
    fires: [
      series('outrigger_driver_bytes_sent_total', '0+1000000x20'),
      series('outrigger_driver_retransmitted_bytes_total', '0+80000x20'),
    ],
    silent: [
      series('outrigger_driver_bytes_sent_total', '0+1000000x20'),
      series('outrigger_driver_retransmitted_bytes_total', '0+20000x20'),
    ],
    at: '18m',
  },
  {
    alert: 'OutriggerSetupsRefused',
    fires: [series('outrigger_driver_setups_refused_total', '0x5 1x10')],
    silent: [series('outrigger_driver_setups_refused_total', '1x15')],
    at: '8m',
  },
  {
    alert: 'OutriggerSourcesRefused',
    fires: [series('outrigger_driver_sources_refused_total', '0+600x20')],
    silent: [series('outrigger_driver_sources_refused_total', '0x5 10x15')],
    at: '15m',
  },
  {
    alert: 'OutriggerDriverErrors',
    fires: [series('outrigger_driver_errors_total', '0x5 1x10')],
    silent: [series('outrigger_driver_errors_total', '1x15')],
    at: '8m',
  },
  {
    alert: 'OutriggerTopicsStale',
    fires: [series('outrigger_topics_stale', '0 1x8')],
    silent: [series('outrigger_topics_stale', '0 1 0x8')],
    at: '6m',
  },
  {
    alert: 'OutriggerDirectoryLost',
    fires: [series('outrigger_directory_up', '1 0x10')],
    silent: [series('outrigger_directory_up', '1 0x3 1x10')],
    at: '9m',
  },
  {
    alert: 'OutriggerStreamsRejected',
    fires: [
      series('outrigger_grpc_streams_rejected_total', '0x5 3x10'),
      series('outrigger_draining', '0x15'),
    ],
    // A drain refuses new streams by design.
    silent: [
      series('outrigger_grpc_streams_rejected_total', '0x5 3x10'),
      series('outrigger_draining', '0x5 1x10'),
    ],
    at: '8m',
  },
  {
    alert: 'OutriggerNoLeader',
    fires: [series('outrigger_operator_leader', '0x6')],
    silent: [
      series('outrigger_operator_leader', '0x6'),
      series('outrigger_operator_leader', '1x6', 'namespace="shop",pod="b"'),
    ],
    at: '4m',
  },
  {
    alert: 'OutriggerOperatorStale',
    fires: [series('outrigger_operator_watch_last_event_age_seconds', '0+60x12')],
    silent: [series('outrigger_operator_watch_last_event_age_seconds', '50x12')],
    at: '10m',
  },
  {
    alert: 'OutriggerApiThrottled',
    fires: [
      series('outrigger_operator_api_requests_total', '0+12x20', `${kLabels},method="GET",status="429"`),
    ],
    silent: [
      series('outrigger_operator_api_requests_total', '0+12x20', `${kLabels},method="GET",status="200"`),
      series('outrigger_operator_api_requests_total', '0+3x20', `${kLabels},method="GET",status="429"`),
    ],
    at: '15m',
  },
  {
    alert: 'OutriggerReconcileFailures',
    fires: [
      series(
        'outrigger_operator_reconciles_total',
        '0+12x25',
        `${kLabels},controller="topic",result="failed"`,
      ),
    ],
    silent: [
      series('outrigger_operator_reconciles_total', '0+12x25', `${kLabels},controller="topic",result="ok"`),
    ],
    at: '23m',
  },
  {
    alert: 'OutriggerInjectionErrors',
    fires: [series('outrigger_operator_injection_reviews_total', '0x5 1x5', `${kLabels},outcome="error"`)],
    silent: [series('outrigger_operator_injection_reviews_total', '0+1x10', `${kLabels},outcome="refused"`)],
    at: '7m',
  },
  {
    alert: 'OutriggerAuthorityRefused',
    fires: [series('outrigger_operator_ca_refusing_namespaces', '0 2x10')],
    silent: [series('outrigger_operator_ca_refusing_namespaces', '0 2x4 0x10')],
    at: '8m',
  },
  {
    alert: 'OutriggerCertificateExpires',
    fires: [
      series(
        'outrigger_operator_certificate_expiry_timestamp_seconds',
        '1000000x70',
        `${kLabels},certificate="serving"`,
      ),
    ],
    silent: [
      series(
        'outrigger_operator_certificate_expiry_timestamp_seconds',
        '5000000x70',
        `${kLabels},certificate="serving"`,
      ),
    ],
    at: '65m',
  },
  {
    alert: 'OutriggerDirectoryTokensRefused',
    fires: [
      series(
        'outrigger_operator_directory_tokens_refused_total',
        '0+9x25',
        `${kLabels},reason="TOKEN_EXPIRED"`,
      ),
      series('outrigger_operator_directory_tokens_refused_total', '0+9x25', `${kLabels},reason="NOT_A_POD"`),
    ],
    silent: [
      series(
        'outrigger_operator_directory_tokens_refused_total',
        '0+3x25',
        `${kLabels},reason="TOKEN_EXPIRED"`,
      ),
    ],
    at: '23m',
  },
  {
    alert: 'OutriggerDirectoryWriteFailures',
    fires: [series('outrigger_operator_directory_slice_failures_total', '0+2x20')],
    silent: [series('outrigger_operator_directory_slice_failures_total', '0x5 3x15')],
    at: '15m',
  },
];

describe('the alert rules', () => {
  let folder = '';

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'outrigger-rules-'));
    writeFileSync(join(folder, 'rules.yaml'), stringify(kRules));
  });

  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  function promtool(...args: string[]): { readonly ok: boolean; readonly output: string } {
    try {
      return {
        ok: true,
        output: execFileSync('promtool', args, {
          cwd: folder,
          encoding: 'utf8',
          stdio: 'pipe',
          timeout: 60_000,
        }),
      };
    } catch (error) {
      const { stdout, stderr } = error as { stdout?: string; stderr?: string };
      return { ok: false, output: `${stdout ?? ''}${stderr ?? ''}${(error as Error).message}` };
    }
  }

  /** True when the alert fires at `at`; throws when promtool could not tell. */
  function fires(alert: string, input: readonly Series[], at: string): boolean {
    const test = (expected: boolean): object => ({
      rule_files: ['rules.yaml'],
      evaluation_interval: '1m',
      tests: [
        {
          interval: '1m',
          input_series: input,
          // The number of alerts of that name that fire: without their texts, which are none of this test's business.
          promql_expr_test: [
            {
              expr: `count(ALERTS{alertname="${alert}",alertstate="firing"}) or vector(0)`,
              eval_time: at,
              exp_samples: [{ labels: '{}', value: expected ? 1 : 0 }],
            },
          ],
        },
      ],
    });
    const outcome = [true, false].map((expected) => {
      writeFileSync(join(folder, 'test.yaml'), stringify(test(expected)));
      return promtool('test', 'rules', 'test.yaml');
    });
    if (outcome[0]?.ok === outcome[1]?.ok) {
      throw new Error(outcome.map(({ output }) => output).join('\n'));
    }
    return outcome[0]?.ok === true;
  }

  it('are valid, as promtool checks them', () => {
    const { ok, output } = promtool('check', 'rules', 'rules.yaml');
    expect({ ok, output }).toMatchObject({ ok: true });
  });

  it('have a case each here', () => {
    const names = kAlertGroups.flatMap((each) => each.alerts.map(({ name }) => name));
    expect(kCases.map(({ alert }) => alert).sort()).toEqual(names.sort());
  });

  it.each(kCases)(
    '$alert fires on what it is for, and on nothing less',
    ({ alert, fires: bad, silent, at }) => {
      expect(fires(alert, bad, at)).toBe(true);
      expect(fires(alert, silent, at)).toBe(false);
    },
  );
});
