// SPDX-License-Identifier: Apache-2.0
// `outrigger explain pod` as a process, against a server that speaks as much of Kubernetes as it asks for: what becomes of an exec that is refused,
// cut, endless, or answered. A real API server has it in test/cluster. Needs `make build`.
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, STATUS_CODES, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { PodExplanation } from '../../operator/src/explain/explain_pod';

jest.setTimeout(120_000);

const kCommand = resolve(__dirname, '../../bin/outrigger');
const kNode = resolve(__dirname, '../../node_modules/.bin/node');
/** RFC 6455, section 1.3. */
const kWebSocketGuid = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** Streams of the remote command protocol (k8s.io/apimachinery, remotecommand). */
const kStdout = 1;
const kStderr = 2;
const kStatus = 3;

const kPod = {
  metadata: { annotations: { 'outrigger.dev/injected': '{"profile":""}' } },
  spec: { nodeName: 'n', initContainers: [{ name: 'outrigger', image: 'i' }] },
  status: { phase: 'Running', initContainerStatuses: [{ name: 'outrigger', ready: true, restartCount: 0 }] },
};

/** A binary message of RFC 6455, section 5.2, not masked, as servers send them. */
function message(stream: number, text: string): Buffer {
  const payload = Buffer.concat([Buffer.from([stream]), Buffer.from(text)]);
  const head = payload.length < 126 ? Buffer.from([0x82, payload.length]) : Buffer.alloc(4);
  if (payload.length >= 126) {
    head.writeUInt16BE(0x827e, 0);
    head.writeUInt16BE(payload.length, 2);
  }
  return Buffer.concat([head, payload]);
}

let server: Server;
let folder: string;
/** What an exec meets. */
let onExec: (socket: Socket, request: IncomingMessage) => void;
let allowedVerbs: string[];
const sockets = new Set<Socket>();

beforeEach(async () => {
  allowedVerbs = ['create', 'get'];
  folder = mkdtempSync(join(tmpdir(), 'outrigger-explain-pod-'));
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const path = new URL(request.url ?? '', 'http://x').pathname;
      const body = Buffer.concat(chunks).toString();
      const answer = path.endsWith('/selfsubjectaccessreviews')
        ? {
            status: {
              allowed: allowedVerbs.includes(
                (JSON.parse(body) as { spec: { resourceAttributes: { verb: string } } }).spec
                  .resourceAttributes.verb,
              ),
            },
          }
        : path.endsWith('/pods/till')
          ? kPod
          : { items: [] };
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer));
    });
  });
  server.on('upgrade', (request, socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined); // the other end may go first
    onExec(socket, request);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  writeFileSync(
    join(folder, 'kubeconfig'),
    JSON.stringify({
      clusters: [{ name: 'c', cluster: { server: address, 'insecure-skip-tls-verify': true } }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u', namespace: 'shop' } }],
      users: [{ name: 'u', user: { token: 't' } }],
      'current-context': 'x',
    }),
  );
});

afterEach(() => {
  sockets.forEach((each) => each.destroy());
  sockets.clear();
  server.closeAllConnections();
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

function accept(socket: Socket, request: IncomingMessage): void {
  const key = createHash('sha1')
    .update(`${request.headers['sec-websocket-key'] ?? ''}${kWebSocketGuid}`)
    .digest('base64');
  const protocol = (request.headers['sec-websocket-protocol'] ?? '').split(',')[0]?.trim() ?? '';
  socket.write(
    [
      'HTTP/1.1 101 Switching Protocols',
      'Upgrade: websocket',
      'Connection: Upgrade',
      `Sec-WebSocket-Accept: ${key}`,
      ...(protocol === '' ? [] : [`Sec-WebSocket-Protocol: ${protocol}`]),
      '\r\n',
    ].join('\r\n'),
  );
}

function answerWith(stdout: string, stderr: string, status: object): typeof onExec {
  return (socket, request) => {
    accept(socket, request);
    // In two parts, as it comes over a network.
    socket.write(message(kStdout, stdout.slice(0, 50)));
    socket.write(message(kStdout, stdout.slice(50)));
    socket.write(message(kStderr, stderr));
    socket.write(message(kStatus, JSON.stringify(status)));
  };
}

function refuseWith(code: number): typeof onExec {
  return (socket) => {
    socket.end(
      `HTTP/1.1 ${code} ${STATUS_CODES[code] ?? ''}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`,
    );
  };
}

function explained(): Promise<{ readonly code: number; readonly story: PodExplanation }> {
  return new Promise((done, fail) => {
    const env = { ...process.env, KUBECONFIG: join(folder, 'kubeconfig') };
    execFile(kCommand, ['explain', 'pod', 'till', '--json'], { env }, (error, stdout, stderr) => {
      try {
        done({ code: error === null ? 0 : Number(error.code), story: JSON.parse(stdout) as PodExplanation });
      } catch {
        fail(new Error(`${error?.code ?? 0} ${stderr}`));
      }
    });
  });
}

const kReport = JSON.stringify({
  driver: null,
  order: ['mmsg'],
  sidecar: {
    error: '',
    status: { version: '1' },
    topics: [{ name: 'local', streamId: 7, channel: 'aeron:ipc' }],
  },
});

describe('the exec of outrigger explain pod', () => {
  it('carries the answer of the sidecar', async () => {
    let path = '';
    const answer = answerWith(kReport, 'a warning', { status: 'Success' });
    onExec = (socket, request) => {
      path = request.url ?? '';
      answer(socket, request);
    };
    const { code, story } = await explained();
    expect({ code, topics: story.topics.map(({ name }) => name) }).toEqual({ code: 0, topics: ['local'] });
    const url = new URL(path, 'http://x');
    expect(url.pathname).toBe('/api/v1/namespaces/shop/pods/till/exec');
    expect(url.searchParams.getAll('command')).toEqual([
      '/usr/bin/outrigger',
      'explain',
      '--sidecar',
      '--json',
    ]);
    expect(url.searchParams.get('container')).toBe('outrigger');
  });

  it('names the verb that is lacking when it is refused', async () => {
    onExec = refuseWith(403);
    allowedVerbs = ['get'];
    const { code, story } = await explained();
    expect(code).toBe(1);
    expect(story.lacking).toEqual(['create pods/exec in namespace "shop"']);
    expect(story.unasked?.why).toBe('you may not run a program in it');
  });

  it('is not tried where no API server answers: one line, and status 69', async () => {
    server.closeAllConnections();
    server.close();
    await expect(explained()).rejects.toMatchObject({
      message: expect.stringMatching(
        /^69 outrigger: the API server does not answer as it should: .*ECONNREFUSED.*\n$/,
      ) as string,
    });
  });

  it.each<[string, typeof onExec, RegExp]>([
    [
      'a program that fails, by its status and last words',
      answerWith('', 'no driver', {
        status: 'Failure',
        reason: 'NonZeroExit',
        details: { causes: [{ reason: 'ExitCode', message: '69' }] },
      }),
      /answered with status 69: no driver/,
    ],
    [
      'one that could not be started, by the reason of the runtime',
      answerWith('', '', { status: 'Failure', message: 'container not running' }),
      /container not running/,
    ],
    ['a server that can not do it', refuseWith(500), /server response: 500/],
    [
      'a program that does not stop writing',
      (socket, request) => {
        accept(socket, request);
        const part = message(kStdout, 'x'.repeat(60_000));
        const write = (): void => {
          while (socket.writable && socket.write(part)) {
            // until the other end takes no more for now
          }
        };
        socket.on('drain', write);
        write();
      },
      /it wrote more than 33554432 bytes/,
    ],
    [
      'a connection that is cut',
      (socket, request) => {
        accept(socket, request);
        socket.write(message(kStdout, '{"half'), () => socket.destroy());
      },
      /the connection ended before the program did/,
    ],
  ])('tells of %s', async (_, exec, why) => {
    onExec = exec;
    const { code, story } = await explained();
    expect(code).toBe(1);
    expect(story.unasked?.why).toMatch(why);
    expect(story.sidecar?.ready).toBe(true);
  });
});

/** What `execIn` of the kit does with little patience: prints why it failed, and ends when nothing is left to do. */
const kImpatient = `
  const { execIn } = require(${JSON.stringify(resolve(__dirname, '../../build/ts/operator/src/kit/exec.js'))});
  execIn({ namespace: 'shop', pod: 'till', container: 'c' }, ['true'], { timeoutMs: 100, maxBytes: 1 })
    .catch((error) => console.log(error.message));
`;

describe('an exec that nobody waits for any more', () => {
  it('leaves no connection when that opens late', async () => {
    const opening = new Promise<() => void>((opens) => {
      onExec = (socket, request) => opens(() => accept(socket, request));
    });
    const child = spawn(kNode, ['-e', kImpatient], {
      env: { ...process.env, KUBECONFIG: join(folder, 'kubeconfig') },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      const ended = once(child, 'exit');
      const [line] = (await once(child.stdout, 'data')) as [Buffer];
      expect(line.toString()).toContain('no end within 100 ms');
      (await opening)();
      expect(await ended).toEqual([0, null]);
    } finally {
      child.kill('SIGKILL');
    }
  });
});
