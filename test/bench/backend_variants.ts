// SPDX-License-Identifier: Apache-2.0
// The ways to the network that are held against their raw floors: what a floor's program is told, and what the engine's driver.

export interface Ends {
  interface: string;
  mtu: number;
  // Latency asks packet's ring for each frame at once, throughput for whole blocks.
  purpose: 'latency' | 'throughput';
}

export interface Variant {
  name: string;
  // Trains of datagrams cut by the kernel or the device (segmentation offload): shown apart, and for rates only.
  trains: boolean;
  // Program in build/native, and its arguments beside roles, addresses and sizes.
  floor: { program: string; args: (ends: Ends) => Record<string, string> };
  engine: (ends: Ends) => Record<string, string>;
}

const WITHOUT_TRAINS = { OUTRIGGER_UDP_SEGMENT: 'off', OUTRIGGER_UDP_GRO: 'off' };

function sockets(backend: 'socket' | 'mmsg' | 'uring', trains: boolean): Variant {
  return {
    name: trains ? `${backend}, trains` : backend,
    trains,
    floor: {
      program: 'bench_floor',
      args: () => ({ api: backend, segmentation: trains ? 'on' : 'off' }),
    },
    engine: () => ({ OUTRIGGER_BACKENDS: backend, ...(trains ? {} : WITHOUT_TRAINS) }),
  };
}

function packet(trains: boolean): Variant {
  const mode = (ends: Ends): string => (ends.purpose === 'latency' ? 'latency' : 'bulk');
  return {
    name: trains ? 'packet, trains' : 'packet',
    trains,
    floor: {
      program: 'bench_floor',
      args: (ends) => ({ api: 'packet', mode: mode(ends), segmentation: trains ? 'on' : 'off' }),
    },
    engine: (ends) => ({
      OUTRIGGER_BACKENDS: 'packet',
      OUTRIGGER_INTERFACE: ends.interface,
      OUTRIGGER_PACKET_MODE: mode(ends),
      ...(trains ? {} : WITHOUT_TRAINS),
    }),
  };
}

function xdp(mode: 'native' | 'generic'): Variant {
  return {
    name: `xdp ${mode}`,
    trains: false,
    floor: { program: 'bench_floor', args: () => ({ api: 'xdp', mode }) },
    engine: (ends) => ({
      OUTRIGGER_BACKENDS: 'xdp',
      OUTRIGGER_INTERFACE: ends.interface,
      OUTRIGGER_XDP_MODE: mode,
      OUTRIGGER_HUGEPAGES: 'false',
    }),
  };
}

// Over AF_PACKET: the device of DPDK's that any machine has.
function dpdk(): Variant {
  const device = (ends: Ends): string =>
    `net_af_packet0,iface=${ends.interface},qdisc_bypass=1,framecnt=1024,blocksz=65536,` +
    `framesz=${ends.mtu > 1500 ? 16384 : 2048}`;
  return {
    name: 'dpdk net_af_packet',
    trains: false,
    floor: { program: 'bench_floor_dpdk', args: (ends) => ({ api: 'dpdk', vdev: device(ends) }) },
    engine: (ends) => ({
      OUTRIGGER_BACKENDS: 'dpdk',
      OUTRIGGER_DPDK_ARGS: `-m 256 --vdev=${device(ends)}`,
      OUTRIGGER_HUGEPAGES: 'false',
      OUTRIGGER_UMEM_SIZE: '48m',
    }),
  };
}

export const VARIANTS: Variant[] = [
  sockets('socket', false),
  sockets('mmsg', false),
  sockets('uring', false),
  packet(false),
  xdp('native'),
  xdp('generic'),
  dpdk(),
  sockets('mmsg', true),
  sockets('uring', true),
  packet(true),
];

// An Aeron data frame's header, so a datagram of 1408 bytes carries a message of 1376.
export const FRAME_HEADER_BYTES = 32;

// Payload of the longest datagram: Aeron's default at MTU 1500, else the longest multiple of 32 behind IPv4 and UDP headers.
export const datagramBytes = (mtu: number): number => (mtu === 1500 ? 1408 : (mtu - 28) & ~31);

// What the floor sends where the engine sends messages of this size: the message, but where that takes whole datagrams, those.
export const floorBytes = (messageBytes: number, mtu: number): number =>
  messageBytes + FRAME_HEADER_BYTES >= datagramBytes(mtu) ? datagramBytes(mtu) : messageBytes;
