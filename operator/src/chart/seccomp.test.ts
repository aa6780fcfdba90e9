// SPDX-License-Identifier: Apache-2.0
// What the profile allows and, more so, what it does not. That sidecars run under it is shown in test/cluster.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { uringSeccompProfile } from './seccomp';

const kProfile = uringSeccompProfile();

function allowed(name: string): boolean {
  return kProfile.syscalls.some(
    ({ names, action, args }) => action === 'SCMP_ACT_ALLOW' && args === undefined && names.includes(name),
  );
}

describe('the seccomp profile for io_uring', () => {
  it('is what the chart carries', () => {
    const path = join(__dirname, '../../../charts/outrigger/files/seccomp-io-uring.json');
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual(kProfile);
  });

  it.each(['io_uring_setup', 'io_uring_enter', 'io_uring_register'])('allows %s', (name) => {
    expect(allowed(name)).toBe(true);
  });

  it.each([
    ...[
      'mount',
      'umount2',
      'move_mount',
      'fsopen',
      'pivot_root',
      'chroot',
      'mknod',
      'mknodat',
      'open_by_handle_at',
    ],
    ...[
      'setns',
      'unshare',
      'ptrace',
      'process_vm_readv',
      'process_vm_writev',
      'process_madvise',
      'pidfd_getfd',
      'kcmp',
    ],
    ...[
      'bpf',
      'perf_event_open',
      'userfaultfd',
      'init_module',
      'finit_module',
      'delete_module',
      'kexec_load',
      'kexec_file_load',
    ],
    ...[
      'add_key',
      'request_key',
      'keyctl',
      'reboot',
      'swapon',
      'syslog',
      'acct',
      'quotactl',
      'settimeofday',
      'clock_settime',
    ],
    ...[
      'adjtimex',
      'sethostname',
      'iopl',
      'ioperm',
      'personality',
      'lookup_dcookie',
      'nfsservctl',
      'vhangup',
      'move_pages',
      'mbind',
    ],
  ])('does not allow %s', (name) => {
    expect(allowed(name)).toBe(false);
  });

  it('keeps threads from making namespaces, sockets from the hypervisor, and lets FIFOs be made, but no devices', () => {
    const rules = kProfile.syscalls.filter(({ args }) => args !== undefined);
    expect(rules.map(({ names, args }) => [names, args?.[0]?.op, args?.[0]?.value])).toEqual([
      [['socket'], 'SCMP_CMP_NE', 40],
      [['mknod'], 'SCMP_CMP_MASKED_EQ', 0xf000],
      [['mknodat'], 'SCMP_CMP_MASKED_EQ', 0xf000],
      [['clone'], 'SCMP_CMP_MASKED_EQ', 0x7e020000],
    ]);
    expect(kProfile.syscalls.find(({ names }) => names.includes('clone3'))).toMatchObject({ errnoRet: 38 });
  });

  it('names each call once', () => {
    const names = kProfile.syscalls.flatMap((rule) => rule.names);
    expect(new Set(names).size).toBe(names.length);
  });
});
