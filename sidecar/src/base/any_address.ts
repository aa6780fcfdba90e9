// SPDX-License-Identifier: Apache-2.0
// The address of all interfaces, of both families where there are both.
import { createServer } from 'node:net';

/** Rejects with the kernel's reason where no socket can be bound to [::]. */
function bindIpv6(): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen({ host: '::', port: 0 }, () => server.close(() => resolve()));
  });
}

/**
 * What to bind for a host. A socket on `::` takes IPv4 too (Node clears IPV6_V6ONLY), so it serves clusters of either family and of both; only
 * where the kernel has no IPv6 it can't be made, and 0.0.0.0 is all addresses there. Any other host stays as it is.
 */
export async function hostToBind(host: string, tryIpv6 = bindIpv6): Promise<string> {
  if (host !== '::') {
    return host;
  }
  try {
    await tryIpv6();
    return host;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL' || code === 'EINVAL') {
      return '0.0.0.0';
    }
    throw error;
  }
}
