#!/bin/sh
# SPDX-License-Identifier: MIT
# Tells what a host is, for any POSIX sh on Linux: reads /proc and /sys, and asks the few programs
# that Debian and busybox have where they are there. It changes nothing and asks nothing over a
# network, but for the host's full name, which has a limit.
#
# What it prints is read by runtime/facts.c, which has the names and their types: NAME=VALUE for a
# fact, NAME[] where the next item of a list begins, between the lines `exed-facts 1` and `end`.

LC_ALL=C PATH=${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
export LC_ALL PATH
most=200 # items of a list; a host with more says which list was cut
tab='	'

# The first line of a file, in $value; nothing when it cannot be read.
get() {
  value=
  [ -r "$1" ] && IFS= read -r value <"$1"
} 2>/dev/null

say() { [ -z "$2" ] || printf '%s=%s\n' "$1" "$2"; }

# NAME FILE
say_file() {
  get "$2"
  say "$1" "$value"
}

has() { command -v "$1" >/dev/null 2>&1; }

is_number() {
  case $1 in
  '' | *[!0-9]*) return 1 ;;
  esac
}

# What may wait for a network or a broken disk gets five seconds, where there is a timeout(1) that
# takes them.
limit=
timeout 5 true >/dev/null 2>&1 && limit='timeout 5'

# ---- names and versions ----

# The full name by /etc/hosts, in $fqdn.
by_hosts() {
  while read -r address name others; do
    case $address in
    '' | '#'*) continue ;;
    esac
    for other in $name $others; do
      case $other in
      '#'*) break ;;
      "$hostname") ;;
      *) continue ;;
      esac
      case $name in
      localhost | localhost.*) ;;
      *.*) fqdn=$name && return ;;
      esac
    done
  done
} 2>/dev/null </etc/hosts

names() {
  get /proc/sys/kernel/hostname
  hostname=${value:-$(uname -n 2>/dev/null)}
  fqdn=
  case $hostname in
  *.*) fqdn=$hostname ;;
  *)
    [ ! -r /etc/hosts ] || by_hosts
    # It may ask a name server.
    [ -n "$fqdn" ] || [ -z "$limit" ] || fqdn=$($limit hostname -f 2>/dev/null)
    ;;
  esac
  case $fqdn in
  '' | localhost | localhost.* | *[!0-9A-Za-z._-]*) fqdn=$hostname ;;
  esac
  say hostname "${hostname%%.*}"
  say fqdn "$fqdn"
  case $fqdn in
  *.*) say domain "${fqdn#*.}" ;;
  esac
}

kernel() {
  get /proc/sys/kernel/ostype
  say kernel "${value:-$(uname -s 2>/dev/null)}"
  get /proc/sys/kernel/osrelease
  say kernel_release "${value:-$(uname -r 2>/dev/null)}"
  get /proc/sys/kernel/version
  say kernel_version "${value:-$(uname -v 2>/dev/null)}"
  get /proc/sys/kernel/arch
  machine=${value:-$(uname -m 2>/dev/null)}
  say machine "$machine"
  say architecture "$machine"
}

# A value of os-release without its quotes, in $value.
unquote() {
  value=${1#*=}
  case $value in
  \"*\") value=${value#\"} value=${value%\"} ;;
  \'*\') value=${value#\'} value=${value%\'} ;;
  esac
}

os_release() {
  while IFS= read -r line || [ -n "$line" ]; do
    unquote "$line"
    case $line in
    ID=*) id=$value ;;
    ID_LIKE=*) like=$value ;;
    NAME=*) name=$value ;;
    VERSION_ID=*) version=$value ;;
    VERSION_CODENAME=*) codename=$value ;;
    PRETTY_NAME=*) description=$value ;;
    esac
  done <"$1"
  case $id in
  debian)
    get /etc/debian_version
    case $value in
    [0-9]*) version=$value ;;
    esac
    ;;
  esac
}

# Systems from before os-release.
redhat_release() {
  get /etc/redhat-release
  description=$value id=rhel name=${value%% *}
  value=${value##*release }
  version=${value%% *}
}

# The names that Ansible and facter give them.
os_names() {
  case $id in
  debian) name=Debian ;;
  ubuntu) name=Ubuntu ;;
  rhel) [ "$name" != 'Red Hat Enterprise Linux' ] || name=RedHat ;;
  centos) name=CentOS ;;
  rocky) name=Rocky ;;
  ol) name=OracleLinux ;;
  amzn) name=Amazon ;;
  fedora) name=Fedora ;;
  alpine) name=Alpine ;;
  arch) name=Archlinux ;;
  sles) name=SLES ;;
  esac
  case " $id $like " in
  *\ debian\ * | *\ ubuntu\ *) family=Debian ;;
  *\ rhel\ * | *\ fedora\ * | *\ centos\ * | *\ amzn\ * | *\ ol\ *) family=RedHat ;;
  *\ suse\ * | *\ sles\ * | *\ opensuse*) family=Suse ;;
  *\ alpine\ *) family=Alpine ;;
  *\ arch\ *) family=Archlinux ;;
  *\ gentoo\ *) family=Gentoo ;;
  *) family=$name ;;
  esac
}

os() {
  id='' like='' name='' version='' codename='' description=''
  if [ -r /etc/os-release ]; then
    os_release /etc/os-release
  elif [ -r /usr/lib/os-release ]; then
    os_release /usr/lib/os-release
  elif [ -r /etc/redhat-release ]; then
    redhat_release
  fi
  os_names
  say os.id "$id"
  say os.name "$name"
  say os.family "$family"
  say os.version "$version"
  say os.major "${version%%.*}"
  say os.codename "$codename"
  say os.description "$description"
}

# ---- the machine ----

# How many a list such as 0-3,8 names, in $count.
count_list() {
  count=0
  IFS=,
  for range in $1; do
    first=${range%-*} last=${range#*-}
    if is_number "$first" && is_number "$last"; then count=$((count + last - first + 1)); fi
  done
  unset IFS
}

# /proc/cpuinfo is long on large machines, and sh reads slowly.
processor_model() {
  model='' sockets=0 cores=''
  while IFS=: read -r key value; do
    value=${value# }
    case $key in
    'model name'*) model=${model:-$value} ;;
    Model*) model=${model:-$value} ;;
    'physical id'*) sockets=$((sockets + 1)) ;;
    'cpu cores'*) cores=$value ;;
    esac
  done 2>/dev/null <<END
$(grep -E '^(model name|Model|physical id|cpu cores)[[:space:]]*:' /proc/cpuinfo | sort -u)
END
}

processors() {
  get /sys/devices/system/cpu/online
  count_list "$value"
  [ "$count" != 0 ] || count=$(grep -c '^processor' /proc/cpuinfo 2>/dev/null)
  [ "$count" = 0 ] || say processors.count "$count"
  processor_model
  [ "$sockets" = 0 ] || say processors.physicalcount "$sockets"
  say processors.cores "$cores"
  say processors.model "$model"
}

# In KiB.
memory() {
  free='' available=''
  while read -r key value _; do
    case $key in
    MemTotal:) say memory "$value" ;;
    MemFree:) free=$value ;;
    MemAvailable:) available=$value ;;
    SwapTotal:) say swap "$value" ;;
    SwapFree:)
      say swap_free "$value"
      break
      ;;
    esac
  done </proc/meminfo
  say memory_available "${available:-$free}"
} 2>/dev/null

container() {
  if [ -e /run/.containerenv ]; then
    virtual=podman
  elif [ -e /.dockerenv ]; then
    virtual=docker
  elif [ -d /proc/vz ] && [ ! -d /proc/bc ]; then
    virtual=openvz
  else
    get /run/systemd/container
    virtual=$value
  fi
  [ -z "$virtual" ] || return 0
  case $(grep -E -m 1 '/(docker|lxc|kubepods)' /proc/1/cgroup 2>/dev/null) in
  *lxc*) virtual=lxc ;;
  *docker* | *kubepods*) virtual=docker ;;
  *) return 1 ;;
  esac
}

hypervisor() {
  get /sys/hypervisor/type
  case $value:$vendor:$product in
  xen:*) virtual=xen ;;
  *VMware*) virtual=vmware ;;
  *VirtualBox* | *innotek*) virtual=virtualbox ;;
  *:Microsoft*:Virtual*) virtual=hyperv ;;
  *:Google*) virtual=google ;;
  *KVM* | *QEMU* | *:Amazon\ EC2:[!i]* | *OpenStack*) virtual=kvm ;;
  *:Parallels*) virtual=parallels ;;
  *:Xen:*) virtual=xen ;;
  *) grep -q '^flags.* hypervisor' /proc/cpuinfo 2>/dev/null && virtual=other ;;
  esac
}

virtual() {
  virtual=
  if has systemd-detect-virt; then
    virtual=$(systemd-detect-virt 2>/dev/null)
    case $virtual in
    none) virtual=physical ;;
    microsoft) virtual=hyperv ;;
    oracle) virtual=virtualbox ;;
    vm-other | container-other) virtual=other ;;
    esac
  fi
  [ -n "$virtual" ] || container || hypervisor
  say virtual "${virtual:-physical}"
  case ${virtual:-physical} in
  physical) say is_virtual false ;;
  *) say is_virtual true ;;
  esac
}

hardware() {
  get /sys/class/dmi/id/sys_vendor
  vendor=$value
  get /sys/class/dmi/id/product_name
  product=$value
  say system_vendor "$vendor"
  say product_name "$product"
  virtual
}

running() {
  get /proc/uptime
  value=${value%% *}
  say uptime "${value%%.*}"
  value=$(grep '^btime ' /proc/stat 2>/dev/null)
  say boot_time "${value#btime }"
  say_file boot_id /proc/sys/kernel/random/boot_id
  say_file machine_id /etc/machine-id
}

managers() {
  get /proc/1/comm
  if [ -d /run/systemd/system ]; then
    value=systemd
  elif [ -d /run/openrc ]; then
    value=openrc
  elif [ "$value" = init ] && [ -d /etc/init.d ]; then
    value=sysvinit
  fi
  say service_mgr "$value"
  for program in apt-get dnf yum zypper apk pacman opkg; do
    if has "$program"; then
      say pkg_mgr "${program%-get}"
      return
    fi
  done
}

# ---- mounts ----

# Whether people would call it a disk: DEVICE MOUNT FSTYPE
is_shown() {
  case $3 in
  autofs) return 1 ;;
  zfs | btrfs | 9p | virtiofs | fuse.* | ceph | glusterfs) return 0 ;;
  esac
  case $1 in
  /* | *:/*) return 0 ;;
  esac
  [ "$2" = / ]
}

# Asking a file system whose server has gone would wait for it, and nothing can end such a wait.
is_local() {
  case $1 in
  nfs* | cifs | smb* | ceph | glusterfs | fuse | fuse.* | 9p | virtiofs | afs) return 1 ;;
  lustre | gpfs | beegfs | ocfs2 | gfs2 | orangefs | pvfs2 | davfs | coda | ncpfs) return 1 ;;
  esac
}

# The kernel writes blanks and backslashes as \ooo.
unescape() {
  case $1 in
  *\\*) printf '%b.' "$(printf '%s\n' "$1" | sed 's/\\\([0-7][0-7][0-7]\)/\\0\1/g')" ;;
  *) printf '%s.' "$1" ;;
  esac
}

say_size() {
  $limit df -P -k "$1" 2>/dev/null | {
    read -r _
    read -r _ size _ available _
    is_number "$size" || return
    say mounts.size "$size"
    ! is_number "$available" || say mounts.available "$available"
  }
}

mounts() {
  n=0
  while read -r device mount fstype options _; do
    is_shown "$device" "$mount" "$fstype" || continue
    n=$((n + 1))
    if [ "$n" -gt "$most" ]; then
      say truncated mounts
      break
    fi
    echo 'mounts[]'
    say mounts.device "$device"
    say mounts.mount "$mount"
    say mounts.fstype "$fstype"
    say mounts.options "$options"
    is_local "$fstype" || continue
    path=$(unescape "$mount")
    say_size "${path%.}" </dev/null
  done </proc/mounts
} 2>/dev/null

# ---- network ----

interfaces() {
  n=0
  for dir in /sys/class/net/*; do
    [ -r "$dir/mtu" ] || continue
    n=$((n + 1))
    if [ "$n" -gt "$most" ]; then
      say truncated interfaces
      break
    fi
    echo 'interfaces[]'
    say interfaces.name "${dir##*/}"
    say_file interfaces.mac "$dir/address"
    say_file interfaces.mtu "$dir/mtu"
    say_file interfaces.state "$dir/operstate"
  done
}

# INTERFACE FAMILY ADDRESS/PREFIX SCOPE
say_address() {
  n=$((n + 1))
  [ "$n" -gt "$((3 * most))" ] || echo "address=$1 $2 $3 $4"
}

# By ip(8) of iproute2 or busybox.
ip_addresses() {
  n=0
  while read -r _ name family address rest; do
    case $family:$address in
    inet:*/* | inet6:*/*) ;;
    inet:*) address=$address/32 ;;
    inet6:*) address=$address/128 ;;
    *) continue ;;
    esac
    case " $rest " in
    *' scope link '*) scope='link' ;;
    *' scope host '*) scope=host ;;
    *) scope=global ;;
    esac
    say_address "${name%%@*}" "$family" "$address" "$scope"
  done <<END
$1
END
}

# An address as /proc/net/route has it, a number in the machine's own order of bytes, in $value.
from_hex() {
  rest=${1#??}
  a=${1%"$rest"} rest2=${rest#??}
  b=${rest%"$rest2"} d=${rest2#??}
  c=${rest2%"$d"}
  case $machine in
  s390* | ppc | ppc64 | mips | mips64 | sparc* | m68k | parisc* | armeb) ;;
  *) set -- "$d" "$c" "$b" "$a" && a=$1 b=$2 c=$3 d=$4 ;;
  esac
  value=$((0x$a)).$((0x$b)).$((0x$c)).$((0x$d))
}

# A dotted address as a number, in $number.
to_number() {
  a=${1%%.*} b=${1#*.} c=${1#*.*.} d=${1##*.}
  b=${b%%.*} c=${c%%.*}
  number=$((a << 24 | b << 16 | c << 8 | d))
}

# The networks that interfaces are in: NUMBER MASK PREFIX INTERFACE.
networks() {
  while IFS=$tab read -r name dest _ flags _ _ _ mask _; do
    case $flags in
    0001) ;;
    *) continue ;;
    esac
    from_hex "$dest" && to_number "$value" && network=$number
    from_hex "$mask" && to_number "$value"
    prefix=0 bits=$number
    while [ "$bits" != 0 ] && [ "$prefix" -lt 32 ]; do
      prefix=$((prefix + 1)) bits=$((bits << 1 & 4294967295))
    done
    echo "$network $number $prefix $name"
  done
} 2>/dev/null </proc/net/route

# Without ip(8): the kernel's own addresses, each on the interface whose network it is in.
proc_addresses() {
  n=0
  networks=$(networks)
  # shellcheck disable=SC2013 # one address a line
  for address in $(sed -n '/|--/h;/\/32 host LOCAL/{g;s/.* //p;}' /proc/net/fib_trie | sort -u); do
    case $address in
    127.*) say_address lo inet "$address/8" host ;;
    esac
    to_number "$address"
    own=$number
    while read -r network mask prefix name; do
      if [ -n "$name" ] && [ $((own & mask)) = "$network" ]; then
        say_address "$name" inet "$address/$prefix" global
        break
      fi
    done <<END
$networks
END
  done
  [ ! -r /proc/net/if_inet6 ] || while read -r address _ prefix scope _ name; do
    case $scope in
    10) scope=host ;;
    20) scope='link' ;;
    *) scope=global ;;
    esac
    address=$(echo "$address" | sed 's/..../&:/g')
    say_address "$name" inet6 "${address%:}/$((0x$prefix))" "$scope"
  done </proc/net/if_inet6
} 2>/dev/null

addresses() {
  found=
  ! has ip || found=$(ip -o addr show 2>/dev/null)
  case $found in
  *inet*) ip_addresses "$found" ;;
  *) proc_addresses ;;
  esac
  [ "$n" -le "$((3 * most))" ] || say truncated addresses
}

# The default route of the lowest metric.
default_ipv4() {
  best=
  while IFS=$tab read -r name _ gateway flags _ _ metric mask _; do
    case $mask:$flags in
    00000000:*[13579bBdDfF]) ;;
    *) continue ;;
    esac
    if [ -z "$best" ] || [ "$metric" -lt "$best" ]; then
      best=$metric interface=$name from=$gateway
    fi
  done <<END
$(grep "^[^$tab]*${tab}00000000${tab}" /proc/net/route)
END
  [ -n "$best" ] || return
  say default_ipv4.interface "$interface"
  [ "$from" != 00000000 ] || return
  from_hex "$from"
  say default_ipv4.gateway "$value"
} 2>/dev/null

default_ipv6() {
  best=
  while read -r _ _ _ _ gateway metric _ _ flags name; do
    case $name in
    '' | lo) continue ;;
    esac
    [ $((0x$flags & 0x201)) = 1 ] || continue
    if [ -z "$best" ] || [ "$((0x$metric))" -lt "$best" ]; then
      best=$((0x$metric)) interface=$name from=$gateway
    fi
  done <<END
$(grep -E '^0{32} 00 ' /proc/net/ipv6_route)
END
  [ -n "$best" ] || return
  say default_ipv6.interface "$interface"
  case $from in
  *[!0]*)
    from=$(echo "$from" | sed 's/..../&:/g')
    say default_ipv6.gateway "${from%:}"
    ;;
  esac
} 2>/dev/null

echo 'exed-facts 1'
names
kernel
os
processors
memory
hardware
running
managers
interfaces
addresses
default_ipv4
default_ipv6
mounts
echo end
