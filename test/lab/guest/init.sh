#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# The guest's first program, in the initial RAM file system: makes the host's file system the root, read-only with a layer in memory above it,
# then goes on with stage2.sh there. What the kernel command line gives: lab.repo, the tree's path.
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
while read -r module; do $B insmod "$module"; done </first-modules
for word in $($B cat /proc/cmdline); do
  case $word in lab.repo=*) repo=${word#*=} ;; esac
done
$B mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=1048576,cache=loose hostroot /ro || $B echo "lab: no root file system" >/dev/kmsg
$B mount -t tmpfs -o size=70% tmpfs /rw
$B mkdir /rw/upper /rw/work
$B mount -t overlay -o lowerdir=/ro,upperdir=/rw/upper,workdir=/rw/work overlay /new
for folder in proc sys dev; do $B mount --move /$folder /new/$folder; done
$B mkdir -p /new/dev/pts /new/dev/shm /new/lab /new/lib/modules
$B mount -t devpts -o ptmxmode=666 devpts /new/dev/pts
for folder in dev/shm run tmp; do $B mount -t tmpfs tmpfs /new/$folder; done
$B mkdir -p "/new$repo"
$B mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=1048576,cache=loose repo "/new$repo"
$B mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=none labout /new/lab
$B mount -t bpf bpf /new/sys/fs/bpf
$B rm -rf "/new/lib/modules/$($B uname -r)"
$B cp -a "/modules/lib/modules/$($B uname -r)" /new/lib/modules/
$B cp /bin/busybox /new/run/busybox
$B ip link set lo up
$B hostname lab
exec $B chroot /new /bin/sh /lab/stage2.sh
