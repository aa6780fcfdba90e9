# SPDX-License-Identifier: Apache-2.0
# What both nodes' sandboxes do to their own namespaces. Sourced.

# The machine's cgroup hierarchies and one more, which pods with hugepages need and most machines do not mount. In a view of its own: a folder
# made in the machine's would be a mount point that the end of another cluster takes away, mount and all. Before `ownFolders`, since nothing
# can be moved below a shared mount.
ownCgroupView() {
  local view=$CLUSTER_STATE/cgroups each
  [[ $(stat -fc %T /sys/fs/cgroup) == tmpfs ]] || return 0
  mkdir "$view"
  mount -t tmpfs -o mode=755 cgroups "$view"
  for each in /sys/fs/cgroup/*; do
    if [[ -L $each ]]; then
      cp -P "$each" "$view"
    elif mountpoint -q "$each"; then
      mkdir "$view/${each##*/}"
      mount --rbind "$each" "$view/${each##*/}"
    fi
  done
  if [[ ! -e $view/hugetlb ]]; then
    mkdir "$view/hugetlb"
    mount -t cgroup -o hugetlb cgroup "$view/hugetlb" 2>/dev/null || rmdir "$view/hugetlb"
  fi
  mount --move "$view" /sys/fs/cgroup
}

# Folders that a node writes are its own, and stand under STATE for whoever looks from outside.
ownFolders() { # STATE_OF_NODE
  local folder
  # Kubelet and volume plugins need mounts to spread inside; the namespace around this one is no peer.
  mount --make-rshared /
  for folder in /run /var/lib/kubelet /var/lib/containerd /etc/cni/net.d /var/lib/cni /var/log/pods /var/log/containers /etc/cdi; do
    mkdir -p "$folder" "$1/fs$folder"
    mount --bind "$1/fs$folder" "$folder"
  done
  mkdir -p /run/netns /run/lock
  # As systemd has it on a node: what is pinned there is the node's own.
  mount -t bpf bpf /sys/fs/bpf
}

forwardPackets() {
  sysctl -qw net.ipv4.ip_forward=1
  sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true
}

# Starts a program that runs until the sandbox ends; log and pid under STATE_OF_NODE.
startProgram() { # STATE_OF_NODE NAME COMMAND...
  local state=$1 name=$2
  shift 2
  "$@" >"$state/$name.log" 2>&1 </dev/null &
  echo $! >"$state/$name.pid"
}

# Waits for a command to succeed, while PROGRAM lives.
awaitReady() { # STATE_OF_NODE PROGRAM TENTHS COMMAND...
  local state=$1 program=$2 tenths=$3 i
  shift 3
  for ((i = 0; i < tenths; ++i)); do
    "$@" >/dev/null 2>&1 && return 0
    kill -0 "$(<"$state/$program.pid")" 2>/dev/null || break
    sleep 0.1
  done
  echo "cluster: $program is not ready; its last words:" >&2
  tail -20 "$state/$program.log" >&2
  return 1
}
