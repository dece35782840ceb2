#!/bin/sh
# Runs in a throw-away Debian root that has compiler and kernel headers. Leaves in /out what the guest's image is made
# of: kernel, initial RAM disk, the modules it loads, and what Debian builds no package of (gpio-sim; lgpio for its Python).
set -eu

headers=$(basename "$(ls -d /usr/src/linux-headers-*-amd64)")
release=${headers#linux-headers-}
# shellcheck disable=SC2016  # dpkg's variable, not the shell's
version=$(dpkg-query -W -f '${source:Version}' "$headers")
mkdir -p /out /build/tree
cd /build

# lgpio has no wheel for this Python; on a Pi it is the system's package python3-lgpio.
if ls /tmp/wheels/lgpio-*.tar.gz >/dev/null 2>&1; then
    echo "rig: lgpio from its source"
    # PYPI=1: with its C library inside, as its wheels on PyPI are built.
    PYPI=1 python3 -m pip wheel -q --no-index --no-deps --no-build-isolation -w /out /tmp/wheels/lgpio-*.tar.gz
fi

echo "rig: kernel $release"
apt-get download -qq "linux-image-$release=$version" "linux-source-6.12=$version"
dpkg-deb -x "linux-image-${release}_"*.deb tree
dpkg-deb --fsys-tarfile linux-source-6.12_*.deb | tar -xO ./usr/src/linux-source-6.12.tar.xz | xz -dc -T0 |
    tar -x linux-source-6.12/drivers/gpio/gpio-sim.c linux-source-6.12/kernel/irq/irq_sim.c
rm -f ./*.deb

echo "rig: gpio-sim, which Debian leaves out of its kernels, as a module"
mkdir gpio-sim
cp linux-source-6.12/drivers/gpio/gpio-sim.c gpio-sim/gpio-sim-main.c
# irq_to_desc() is not exported to modules; the same descriptor is reached through the interrupt's data.
sed 's/irq_to_desc(irqnum)/irq_data_to_desc(irq_get_irq_data(irqnum))/' \
    linux-source-6.12/kernel/irq/irq_sim.c >gpio-sim/irq_sim.c
cat >gpio-sim/Makefile <<'MAKE'
obj-m := gpio-sim.o
gpio-sim-y := gpio-sim-main.o irq_sim.o
ccflags-y += -DCONFIG_IRQ_SIM=1
MAKE
make -s -C "/usr/src/$headers" M=/build/gpio-sim modules >gpio-sim/log 2>&1 || { cat gpio-sim/log; exit 1; }

# Not in modules/: the kernel's tree below is searched for names, and this one is to be found there, too.
modules=tree/usr/lib/modules/$release
[ -d "$modules" ] || modules=tree/lib/modules/$release
mkdir -p "$modules/extra"
cp gpio-sim/gpio-sim.ko "$modules/extra/"
base=${modules%/lib/modules/*}
depmod -b "$base" "$release"

with_dependencies() { # names of modules -> their files below $modules, dependencies first
    for name in "$@"; do
        modprobe -d "$base" -S "$release" --show-depends "$name"
    done | sed -n "s,^insmod .*/lib/modules/$release/\([^ ]*\).*,\1,p" | awk '!seen[$0]++'
}

echo "rig: modules $*"
mkdir -p "/out/modules/lib/modules/$release"
with_dependencies "$@" | while read -r file; do
    mkdir -p "/out/modules/lib/modules/$release/$(dirname "$file")"
    cp "$modules/$file" "/out/modules/lib/modules/$release/$file"
done
cp "$modules"/modules.builtin* "$modules/modules.order" "/out/modules/lib/modules/$release/"
depmod -b /out/modules "$release"
tar -C /out/modules -cf /out/modules.tar lib
rm -r /out/modules

echo "rig: initial RAM disk"
mkdir -p initrd/bin initrd/dev initrd/m initrd/mnt initrd/proc initrd/sys
cp /usr/bin/busybox initrd/bin/busybox
with_dependencies virtio_pci virtio_blk ext4 | while read -r file; do
    name=$(basename "${file%.xz}")
    case $file in
        *.xz) xz -dc "$modules/$file" >"initrd/m/$name" ;;
        *) cp "$modules/$file" "initrd/m/$name" ;;
    esac
    echo "$name" >>initrd/m/list
done
cp /tmp/init initrd/init
chmod 755 initrd/init
(cd initrd && find . | cpio -o -H newc --quiet | gzip -1) >/out/initrd.gz
cp "tree/boot/vmlinuz-$release" /out/vmlinuz
