// SPDX-License-Identifier: Apache-2.0
// The lines of a watch, however they are cut into pieces.
import { watchEvents } from './watch_stream';

async function read(...pieces: (string | Buffer)[]): Promise<string[]> {
  const seen: string[] = [];
  async function* body(): AsyncGenerator<Buffer> {
    for (const piece of pieces) yield await Promise.resolve(Buffer.from(piece as string));
  }
  try {
    for await (const { type, object } of watchEvents(body()))
      seen.push(`${type} ${object.metadata.name ?? '-'}`);
  } catch (error) {
    seen.push((error as Error).message);
  }
  return seen;
}

const added = (name: string): string => `{"type":"ADDED","object":{"metadata":{"name":"${name}"}}}\n`;

describe('watchEvents', () => {
  it('reads lines that come in pieces, also within a character', async () => {
    const bytes = Buffer.from(added('zoé') + added('b'));
    const pieces = Array.from(bytes, (byte) => Buffer.from([byte]));
    expect(await read(...pieces)).toEqual(['ADDED zoé', 'ADDED b']);
  });

  it('reads several lines in one piece and skips empty ones', async () => {
    expect(await read(`${added('a')}\n${added('b')}`)).toEqual(['ADDED a', 'ADDED b']);
  });

  it('says that half a line is none', async () => {
    expect(await read(added('a') + added('b').slice(0, 20))).toEqual([
      'ADDED a',
      expect.stringMatching(/ended within a line: {"type":"ADDED"/),
    ]);
  });

  it.each([
    ['a line that is no JSON', 'nonsense\n', /no JSON: nonsense/],
    ['an event without object', '{"type":"ADDED"}\n', /has no object/],
    ['an unknown type', '{"type":"RENAMED","object":{"metadata":{}}}\n', /type "RENAMED"/],
    [
      'an error',
      '{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"too old"}}\n',
      /^watch: too old$/,
    ],
    ['a line without end', 'x'.repeat(9 * 1024 * 1024), /longer than/],
  ])('stops at %s', async (_, text, message) => {
    expect(await read(text, added('after'))).toEqual([expect.stringMatching(message)]);
  });
});
