// SPDX-License-Identifier: Apache-2.0
// A program run in a container of a pod, over the API server. WebSockets, credentials and the framing of streams are the work of
// @kubernetes/client-node; bounds are ours.
import { Writable } from 'node:stream';
import type { V1Status } from '@kubernetes/client-node';
import { ApiError } from './api_error';

export interface ExecTarget {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
}

export interface ExecResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ExecOptions {
  readonly timeoutMs: number;
  /** Of each of the two outputs. */
  readonly maxBytes: number;
}

/** What is used of a WebSocket; client-node hands out that of `ws`, which comes without types. */
interface ExecSocket {
  close(): void;
  /** Without the other end's word for it, which one that still writes may never give. */
  terminate(): void;
  onclose: (() => void) | null;
}

class Collector extends Writable {
  private readonly chunks: Buffer[] = [];
  private length = 0;

  constructor(
    private readonly maxBytes: number,
    private readonly tooLong: () => void,
  ) {
    super();
  }

  override _write(chunk: Buffer | string, encoding: BufferEncoding, done: () => void): void {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk;
    this.length += bytes.length;
    if (this.length > this.maxBytes) {
      this.tooLong();
    } else {
      this.chunks.push(Buffer.from(bytes)); // the socket may use its buffer again
    }
    done();
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString('utf8');
  }
}

/** Exit status of the program, from the metav1.Status that ends the stream: NonZeroExit has it as the cause "ExitCode". */
function exitStatus(status: V1Status): number | undefined {
  if (status.status === 'Success') {
    return 0;
  }
  const code = status.details?.causes?.find(({ reason }) => reason === 'ExitCode')?.message;
  return code === undefined ? undefined : Number(code);
}

/** "Unexpected server response: 403": all that a refused upgrade leaves. */
function refusalOf(error: unknown, what: string): ApiError {
  const { message = 'the connection broke' } = error as { message?: string };
  const status = /server response: (\d{3})/.exec(message)?.[1];
  return new ApiError(status === undefined ? 0 : Number(status), '', `${what}: ${message}`);
}

/** Resolves with the outputs when the program ended. Rejects with ApiError: 403 without the right, 0 without an answer. */
export async function execIn(
  target: ExecTarget,
  command: readonly string[],
  options: ExecOptions,
): Promise<ExecResult> {
  const { Exec, KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  config.loadFromDefault();
  const what = `exec in ${target.namespace}/${target.pod}`;
  return new Promise((resolve, reject) => {
    let over = false;
    let socket: ExecSocket | undefined;
    const finish = (action: () => void): void => {
      over = true;
      clearTimeout(timer);
      action();
    };
    const fail = (message: string): void => {
      finish(() => reject(new ApiError(0, '', `${what}: ${message}`)));
      socket?.terminate();
    };
    const timer = setTimeout(() => fail(`no end within ${options.timeoutMs} ms`), options.timeoutMs);
    const tooLong = (): void => fail(`it wrote more than ${options.maxBytes} bytes`);
    const stdout = new Collector(options.maxBytes, tooLong);
    const stderr = new Collector(options.maxBytes, tooLong);
    const ended = (status: V1Status): void => {
      const code = exitStatus(status);
      if (code === undefined) {
        fail(status.message ?? 'it could not be started');
      } else {
        finish(() => resolve({ status: code, stdout: stdout.text, stderr: stderr.text }));
        socket?.close();
      }
    };
    new Exec(config)
      .exec(target.namespace, target.pod, target.container, [...command], stdout, stderr, null, false, ended)
      .then(
        (opened: unknown) => {
          socket = opened as ExecSocket;
          if (over) {
            socket.terminate(); // it opened when nobody waited for it any more
            return;
          }
          socket.onclose = () => fail('the connection ended before the program did');
        },
        (error: unknown) => finish(() => reject(refusalOf(error, what))),
      );
  });
}
