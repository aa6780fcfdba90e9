// SPDX-License-Identifier: Apache-2.0
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostToBind } from './any_address';

function fails(code: string): () => Promise<void> {
  return () => Promise.reject(Object.assign(new Error(`bind ${code}`), { code }));
}

describe('the host to bind', () => {
  it('is that of all addresses of both families where there are both: clients of IPv4 are answered too', async () => {
    const host = await hostToBind('::');
    const server = createServer((_, response) => response.end('here'));
    await new Promise<void>((resolve) => server.listen(0, host, resolve));
    try {
      const { port } = server.address() as AddressInfo;
      expect(await (await fetch(`http://127.0.0.1:${port}`)).text()).toBe('here');
    } finally {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  });

  it.each(['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL'])(
    'is that of IPv4 where the kernel has no IPv6: %s',
    async (code) => {
      expect(await hostToBind('::', fails(code))).toBe('0.0.0.0');
    },
  );

  it('is no other one for another reason', async () => {
    await expect(hostToBind('::', fails('EMFILE'))).rejects.toThrow('EMFILE');
  });

  it.each(['0.0.0.0', '127.0.0.1', '::1', 'localhost'])('stays %s', async (host) => {
    expect(await hostToBind(host, fails('EAFNOSUPPORT'))).toBe(host);
  });
});
