// SPDX-License-Identifier: Apache-2.0
// Interleaving: every contender once a round, round after round, so that whatever else the machine does falls on all of them. Medians of the rounds become
// cases. A contender that fails a run is named in the failures, never counted as slow.
import { type Case, type Metric, makeCase } from './results';

export type Values = Partial<Record<Metric, number>>;

export interface Entrant {
  name: string;
  measure: () => Promise<Values>;
}
export interface OurEntrant extends Entrant {
  suite: string;
  backend: string;
}
export interface PeerEntrant extends Entrant {
  peer: Case['peer'];
  peerTuning: string;
}

export interface Comparison {
  path: Case['path'];
  mtu: number;
  sizeBytes: number;
  lossPercent: number;
  rounds: number;
  ours: OurEntrant[];
  peers: PeerEntrant[];
}

export interface Outcome {
  cases: Case[];
  failures: string[];
}

export async function compare(what: Comparison, log: (text: string) => void): Promise<Outcome> {
  const failures: string[] = [];
  const values = new Map<string, Values[]>();
  const about = `${what.path} ${what.sizeBytes} B, MTU ${what.mtu}, loss ${what.lossPercent} %`;
  for (let round = 0; round < what.rounds; ++round) {
    for (const entrant of [...what.ours, ...what.peers]) {
      try {
        const measured = await entrant.measure();
        values.set(entrant.name, [...(values.get(entrant.name) ?? []), measured]);
        log(
          `${about}: ${entrant.name}: ${Object.entries(measured)
            .map(([metric, value]) => `${metric} ${value.toPrecision(4)}`)
            .join(', ')}`,
        );
      } catch (error) {
        failures.push(`${about}: ${entrant.name}: ${error instanceof Error ? error.message : String(error)}`);
        log(`FAILED ${failures.at(-1) ?? ''}`);
      }
    }
  }
  const column = (name: string, metric: Metric): number[] =>
    (values.get(name) ?? []).flatMap((one) => (one[metric] === undefined ? [] : [one[metric]]));
  const cases: Case[] = [];
  for (const our of what.ours) {
    const metrics = new Set((values.get(our.name) ?? []).flatMap((one) => Object.keys(one) as Metric[]));
    for (const metric of metrics) {
      for (const peer of what.peers) {
        const peerRuns = column(peer.name, metric);
        if (peerRuns.length === 0) continue;
        cases.push(
          makeCase(
            {
              suite: our.suite,
              path: what.path,
              backend: our.backend,
              mtu: what.mtu,
              sizeBytes: what.sizeBytes,
              lossPercent: what.lossPercent,
              peer: peer.peer,
              peerTuning: peer.peerTuning,
            },
            metric,
            column(our.name, metric),
            peerRuns,
          ),
        );
      }
    }
  }
  return { cases, failures };
}
