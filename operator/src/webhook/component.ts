// SPDX-License-Identifier: Apache-2.0
// The webhook as a part of the operator: it listens as soon as there is a certificate, and shows each new one.
import type { KeyPair } from '../ca/certificates';
import type { CertificateWatch } from '../ca/secret_store';
import type { Log } from '../kit/informer';
import type { Component } from '../process/component';
import type { ReviewContext } from './review';
import { startWebhook, type WebhookEvent, type WebhookServer } from './server';

export interface WebhookComponentOptions extends ReviewContext {
  readonly certificates: CertificateWatch;
  readonly listen: { readonly port: number; readonly host: string };
  readonly log: Log;
  readonly count: (event: WebhookEvent) => void;
}

/** Seconds: the API server has its own time-out, and a slower answer is worth a line. */
const kSlowSeconds = 1;

export class WebhookComponent implements Component {
  readonly name = 'webhook';
  private server: WebhookServer | undefined;
  private starting: Promise<void> | undefined;
  private problem = 'there is no certificate yet: the leader makes it';
  private stopped = false;

  constructor(private readonly options: WebhookComponentOptions) {}

  /** Port that it listens on, once it does. */
  get port(): number | undefined {
    return this.server?.port;
  }

  start(): Promise<void> {
    // The certificate may be long in coming: the leader makes it, and leads only when every replica's parts have begun.
    this.options.certificates.onState(({ serving }) => this.show(serving));
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.starting;
    await this.server?.close();
  }

  notReady(): readonly string[] {
    return this.server === undefined ? [`the webhook does not listen: ${this.problem}`] : [];
  }

  private show(keyPair: KeyPair): void {
    if (this.server !== undefined) {
      this.replace(this.server, keyPair);
    } else if (!this.stopped) {
      // What comes while it starts is shown after.
      this.starting = (this.starting ?? Promise.resolve()).then(() => this.listen(keyPair));
    }
  }

  private async listen(keyPair: KeyPair): Promise<void> {
    if (this.server !== undefined) {
      this.replace(this.server, keyPair);
      return;
    }
    const { log, listen, settings, profiles } = this.options;
    const onEvent = (event: WebhookEvent): void => this.report(event);
    try {
      this.server = await startWebhook({ keyPair, settings, profiles, onEvent }, listen);
      log.info({ port: this.server.port }, 'the webhook listens');
    } catch (error) {
      this.problem = (error as Error).message;
      log.error({ error: this.problem }, 'the webhook can not listen');
    }
  }

  private replace(server: WebhookServer, keyPair: KeyPair): void {
    try {
      server.setKeyPair(keyPair);
    } catch (error) {
      this.options.log.error(
        { error: (error as Error).message },
        'a stored certificate can not be used; the one before stays',
      );
    }
  }

  private report(event: WebhookEvent): void {
    const { count, log } = this.options;
    count(event);
    const { outcome, pod, message, seconds } = event;
    const fields = { outcome, pod, reason: message, seconds };
    if (outcome === 'error') {
      log.error(fields, 'a review failed');
    } else if (message !== undefined) {
      log.info(fields, 'refused');
    } else if (seconds > kSlowSeconds) {
      log.warn(fields, 'a review was slow');
    } else {
      log.debug(fields, 'reviewed');
    }
  }
}
