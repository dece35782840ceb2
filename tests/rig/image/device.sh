#!/bin/bash
# device.sh ROOT_TAR MODULES_TAR SOURCE_TAR WHEELS GUEST TREE IMAGE SIZE: the camera's root file system, as an ext4 image.
# As root: the tree's owners and modes are those of a real device. No loop mount: mkfs.ext4 fills the image from a tree.
set -euo pipefail
root_tar=$1 modules_tar=$2 source_tar=$3 wheels=$4 guest=$5 tree=$6 image=$7 size=$8

rm -rf "$tree"
mkdir -p "$tree"
tar -C "$tree" -xf "$root_tar"
# Debian's /lib is a link, which must stay one.
tar -C "$tree" --keep-directory-symlink -xf "$modules_tar"

echo "rig: bodycam, as docs/operations.md has it"
mkdir -p "$tree/usr/src/bodycam" "$tree/usr/src/wheels"
tar -C "$tree/usr/src/bodycam" -xf "$source_tar"
cp "$wheels"/*.whl "$tree/usr/src/wheels/"
for wheel in "$wheels"/lgpio-*-linux_*.whl; do
    [ ! -e "$wheel" ] || mv "$tree/usr/src/wheels/$(basename "$wheel")" "$tree/usr/src/"
done
install -m 755 "$guest/install" "$tree/usr/src/install"
# A mount namespace of its own: the mounts end with it, whatever happens.
# shellcheck disable=SC2016  # the inner shell's argument
unshare --mount bash -c 'mount -t proc proc "$1/proc" && chroot "$1" /usr/src/install' - "$tree"
rm -rf "$tree"/usr/src/*

echo "rig: the rig's own additions"
mkdir -p "$tree/etc/systemd/system/multi-user.target.wants" "$tree/etc/systemd/system/bodycam.service.d"
cp "$guest/board.conf" "$tree/etc/systemd/system/bodycam.service.d/board.conf"
mkdir "$tree/var/lib/bodycam/card" "$tree/var/lib/bodycam/memory"
cp "$guest/bodycam.toml" "$tree/etc/bodycam/bodycam.toml"
for program in rig-agent rig-board; do
    install -m 755 "$guest/$program" "$tree/usr/local/sbin/$program"
    cp "$guest/$program.service" "$tree/etc/systemd/system/"
    ln -s "../$program.service" "$tree/etc/systemd/system/multi-user.target.wants/$program.service"
done
echo bodycam >"$tree/etc/hostname"
# Empty and not absent: systemd then makes one at each first boot, as on a device that was just flashed.
: >"$tree/etc/machine-id"
cat >"$tree/etc/fstab" <<'FSTAB'
/dev/vda / ext4 rw,noatime 0 1
# The card. Not mounted by itself: a warm start must find it untouched, whatever has become of it since.
/dev/vdb /var/lib/bodycam/card ext4 rw,noatime,noauto,errors=remount-ro 0 0
/dev/vdc /media/bodycam-store ext4 rw,noatime,noauto 0 0
/dev/vdd /var/lib/bodycam/memory ext4 rw,noatime,noauto 0 0
FSTAB
# A shell on the serial console without a password, for `make rig-shell`.
sed -i 's/^root:[^:]*:/root::/' "$tree/etc/shadow"
mkdir -p "$tree/etc/systemd/system/serial-getty@ttyS0.service.d"
cat >"$tree/etc/systemd/system/serial-getty@ttyS0.service.d/rig.conf" <<'UNIT'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 %I vt220
UNIT
# Nothing of these has anything to do in a machine that lives for a minute, and each costs seconds under emulation.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer getty@tty1.service systemd-pstore.service systemd-timesyncd.service systemd-update-utmp.service \
    systemd-binfmt.service systemd-tpm2-setup.service systemd-tpm2-setup-early.service modprobe@drm.service; do
    ln -sf /dev/null "$tree/etc/systemd/system/$unit"
done
rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/* "$tree"/dev/*

rm -f "$image"
mkfs.ext4 -q -F -L root -E lazy_itable_init=1,lazy_journal_init=1 -d "$tree" "$image" "$size"
rm -rf "$tree"
