// SPDX-License-Identifier: Apache-2.0
// A seccomp profile for sidecars that use the backend uring: an allow list of what init, driver, Node and the runtime that starts them call, and
// io_uring's three calls, which the runtimes' default profiles forbid. In the format of the OCI runtime specification, as kubelets read it.

/** By what they are for, so that a reader sees what is missing: mounts, modules, BPF, tracing, keys, other processes' memory, new namespaces. */
const kAllowed = {
  files: [
    'access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat',
    'fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64',
    'getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lchown lgetxattr link linkat listxattr llistxattr lseek lstat mkdir',
    'mkdirat newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv rename',
    'renameat renameat2 rmdir sendfile splice stat statfs statx symlink symlinkat sync_file_range tee truncate umask unlink unlinkat utime',
    'utimensat utimes vmsplice write writev ioctl',
  ],
  memory: [
    'brk madvise map_shadow_stack membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap',
    'pkey_alloc pkey_free pkey_mprotect shmat shmctl shmdt shmget remap_file_pages',
  ],
  processes: [
    'arch_prctl capget capset execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getpgid getpgrp getpid getppid',
    'getpriority getrlimit getrusage getsid gettid ioprio_get ioprio_set kill pidfd_open pidfd_send_signal prctl prlimit64 rseq sched_get_priority_max',
    'sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr',
    'sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address setpgid setpriority setrlimit setsid',
    'tgkill times tkill uname vfork wait4 waitid sysinfo',
  ],
  users: [
    'getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid setgroups setregid setresgid setresuid setreuid setuid',
  ],
  signals: [
    'pause restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo',
    'sigaltstack signalfd signalfd4',
  ],
  time: [
    'alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun',
    'timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime',
  ],
  waiting: [
    'epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 futex futex_requeue futex_wait futex_waitv futex_wake',
    'pipe pipe2 poll ppoll pselect6 select',
  ],
  sockets: [
    'accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto setsockopt shutdown',
    'socketpair',
  ],
  chance: ['getrandom'],
  ioUring: ['io_uring_enter io_uring_register io_uring_setup'],
} as const;

/** linux/socket.h: AF_VSOCK reaches the host of a virtual machine around every network policy. */
const kAfVsock = 40;
/** linux/sched.h: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET. */
const kNamespaceFlags = 0x7e020000;
/** sys/stat.h: S_IFMT and S_IFIFO. */
const kFileType = 0xf000;
const kFifo = 0x1000;
const kEnosys = 38;
const kEperm = 1;

export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly {
    readonly index: number;
    readonly value: number;
    readonly valueTwo?: number;
    readonly op: string;
  }[];
}

export interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

function sorted(lines: readonly string[]): string[] {
  return lines.flatMap((line) => line.split(' ')).sort();
}

export function uringSeccompProfile(): SeccompProfile {
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: kEperm,
    // The 32-bit ones are left out on purpose: no program of the image is one.
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_AARCH64'],
    syscalls: [
      ...Object.values(kAllowed).map((lines) => ({ names: sorted(lines), action: 'SCMP_ACT_ALLOW' })),
      {
        names: ['socket'],
        action: 'SCMP_ACT_ALLOW',
        args: [{ index: 0, value: kAfVsock, op: 'SCMP_CMP_NE' }],
      },
      // The driver's doorbells are FIFOs; nothing else is made by these.
      ...(
        [
          ['mknod', 1],
          ['mknodat', 2],
        ] as const
      ).map(([name, index]) => ({
        names: [name],
        action: 'SCMP_ACT_ALLOW',
        args: [{ index, value: kFileType, valueTwo: kFifo, op: 'SCMP_CMP_MASKED_EQ' }],
      })),
      // Threads and processes, but no new namespaces.
      {
        names: ['clone'],
        action: 'SCMP_ACT_ALLOW',
        args: [{ index: 0, value: kNamespaceFlags, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
      },
      // Its flags are in memory, where no filter sees them: C libraries take clone when the kernel seems to lack this one.
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: kEnosys },
    ],
  };
}
