// SPDX-License-Identifier: Apache-2.0
// The state of the certificates in a Secret: the leader writes it, every replica watches it.
import { kSystemClock } from '../base/clock';
import { isConflict, isNotFound } from '../kit/api_error';
import { Informer, type KitContext } from '../kit/informer';
import { ResourceClient, type ObjectName } from '../kit/resource';
import type { Component } from '../process/component';
import type { CertificateStore } from './manager';
import { kSecrets, type Secret } from './resources';
import type { CertificateState } from './rotation';
import { kSecretType, secretData, stateOf } from './secret';

export function secretStore({ api }: KitContext, name: ObjectName): CertificateStore {
  const client = new ResourceClient<Secret>(api, kSecrets);
  return {
    load: async (signal) => {
      try {
        const { metadata, data } = await client.get(name, signal);
        return { state: stateOf(data), version: metadata.resourceVersion };
      } catch (error) {
        if (isNotFound(error)) {
          return { state: undefined, version: undefined };
        }
        throw error;
      }
    },
    save: async (state, version, signal) => {
      const metadata = { namespace: name.namespace ?? '', name: name.name };
      const secret: Secret = { metadata, type: kSecretType, data: secretData(state) };
      try {
        await (version === undefined
          ? client.create(secret, signal)
          : client.update({ ...secret, metadata: { ...metadata, resourceVersion: version } }, signal));
        return true;
      } catch (error) {
        // Already there, or another version by now.
        if (isConflict(error)) {
          return false;
        }
        throw error;
      }
    },
  };
}

/** What the Secret holds now, for the servers of this replica. */
export class CertificateWatch implements Component {
  readonly name = 'certificates';
  readonly informer: Informer<Secret>;
  private readonly listeners: ((state: CertificateState) => void)[] = [];
  private latest: CertificateState | undefined;

  constructor(kit: KitContext, { namespace, name }: ObjectName) {
    const selection = { namespace, fieldSelector: `metadata.name=${name}` };
    this.informer = new Informer<Secret>({ clock: kSystemClock, ...kit }, kSecrets, {}, selection);
    this.informer.store.onChange((change) => {
      // A Secret that goes is made anew; until then the servers go on with what they have.
      if (change.kind !== 'deleted') {
        this.adopt(stateOf(change.after.data));
      }
    });
  }

  /** As stored last; undefined while there was none. */
  get state(): CertificateState | undefined {
    return this.latest;
  }

  /** Called with the state of now, if there is one, and with each later one. */
  onState(listener: (state: CertificateState) => void): void {
    this.listeners.push(listener);
    if (this.latest !== undefined) {
      listener(this.latest);
    }
  }

  start(): Promise<void> {
    this.informer.start();
    return Promise.resolve();
  }

  stop(): Promise<void> {
    return this.informer.stop();
  }

  private adopt(state: CertificateState | undefined): void {
    if (state !== undefined) {
      this.latest = state;
      this.listeners.forEach((listener) => listener(state));
    }
  }
}
