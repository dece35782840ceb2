#!/bin/sh
# camera-sources.sh ROOT: before anything is in the device's root, where libcamera comes from and what it can do without.
set -eu
root=$1

# From whatever mirror the rest comes from.
sed -n 's/^\(deb .*\) trixie main$/\1 trixie-backports main/p' "$root/etc/apt/sources.list" \
    >"$root/etc/apt/sources.list.d/backports.list"

# libcamera can have a GPU work on its pictures, and so asks for Mesa with LLVM: 200 MB, and nothing here has a GPU.
cat >>"$root/var/lib/dpkg/status" <<'STATUS'
Package: libegl-mesa0
Status: install ok installed
Version: 99
Architecture: amd64
Multi-Arch: same
Maintainer: the rig
Description: stands for a driver that is left out

STATUS
mkdir -p "$root/var/lib/dpkg/info"
: >"$root/var/lib/dpkg/info/libegl-mesa0:amd64.list"
