// SPDX-License-Identifier: Apache-2.0
// A subscriber as an app would be one: checks number and checksum of every message, and how long it took from when it was due.
import { OutriggerClient, type MessageBatch, type Subscription } from '../../../../clients/typescript/src';
import { Latencies } from '../latency';
import { intendedNsOf, isIntact, monotonicNs, sequenceOf } from '../payload';
import { SequenceCheck } from '../sequence_check';
import { kProgressMs, report, runApp, type Commands, type SubscriberAppConfig } from './protocol';

const kPatienceMs = 10_000; // after the last message was sent, for what is still under way

class Receiver {
  readonly check = new SequenceCheck();
  readonly latencies = new Latencies();
  recent = new Latencies();
  bytes = 0;
  corrupt = 0;
  private firstDueNs = 0;
  private firstNs = 0;
  private lastNs = 0;

  constructor(private readonly warmupNs: number) {}

  take(batch: MessageBatch): void {
    const now = monotonicNs();
    this.firstNs ||= now;
    this.lastNs = now;
    for (const payload of batch.messages) {
      this.bytes += payload.length;
      if (!isIntact(payload)) {
        this.corrupt++;
        continue;
      }
      this.check.take(sequenceOf(payload));
      const dueNs = intendedNsOf(payload);
      this.firstDueNs ||= dueNs;
      if (dueNs - this.firstDueNs >= this.warmupNs) {
        this.latencies.record(now - dueNs);
        this.recent.record(now - dueNs);
      }
    }
  }

  get seconds(): number {
    return (this.lastNs - this.firstNs) / 1e9;
  }
}

function endWhenComplete(subscription: Subscription, receiver: Receiver, commands: Commands): () => void {
  let expected = Infinity;
  let patience: NodeJS.Timeout | undefined;
  const close = (): void => subscription.close();
  commands.stop.addEventListener('abort', close);
  commands.onAllSent = (sent) => {
    expected = sent;
    patience = setTimeout(close, kPatienceMs);
    complete();
  };
  const complete = (): void => {
    if (receiver.check.received + receiver.corrupt >= expected) {
      clearTimeout(patience);
      close();
    }
  };
  return complete;
}

async function subscribe(config: SubscriberAppConfig, commands: Commands): Promise<void> {
  const client = new OutriggerClient({ address: config.address });
  const subscription = client.subscribe(config.target);
  const receiver = new Receiver(config.warmupMs * 1e6);
  const complete = endWhenComplete(subscription, receiver, commands);
  await subscription.ready();
  report({ type: 'ready' });
  const timer = setInterval(() => {
    const { bytes, check, recent } = receiver;
    receiver.recent = new Latencies();
    report({ type: 'progress', received: check.received, bytes, latencyUs: recent.summary() });
  }, kProgressMs);
  for await (const batch of subscription.batches()) {
    receiver.take(batch);
    complete();
  }
  clearInterval(timer);
  const { check } = receiver;
  report({
    type: 'done',
    received: check.received,
    bytes: receiver.bytes,
    holes: check.lost(),
    duplicated: check.duplicated,
    outOfOrder: check.outOfOrder,
    corrupt: receiver.corrupt,
    gaps: subscription.stats.gaps,
    batches: subscription.stats.batches,
    seconds: receiver.seconds,
    latencyUs: receiver.latencies.summary(),
  });
  await client.close();
}

runApp(subscribe);
