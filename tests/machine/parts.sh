# shellcheck shell=bash
# How the disks of a small virtual machine are made, the same byte for byte each time. Sourced by `make` beside it
# and by tests/vectors/record; it changes nothing by itself. Everything is made in the current directory.

STUB=/usr/lib/systemd/boot/efi/linuxx64.efi.stub
FIRMWARE=${FIRMWARE:-/usr/share/OVMF/OVMF_CODE_4M.fd}
VARIABLES=${FIRMWARE/CODE/VARS}
BUSYBOX=/bin/busybox
PARTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# All identifiers are fixed: they are measured (the partition table in PCR 5,
# the boot entries in PCR 1, the owner of the keys in PCR 7).
DISK_GUID=6f1d3c52-2f0e-4c0b-9a57-0d3b8f6e1a01
PARTITION_GUID=6f1d3c52-2f0e-4c0b-9a57-0d3b8f6e1a02
OWNER_GUID=6f1d3c52-2f0e-4c0b-9a57-0d3b8f6e1a03

# rootfstype=ramfs: without it the initramfs is a tmpfs, which the IMA policy
# "tcb" skips, and the list would be all but empty.
CMDLINE="console=ttyS0,115200 rootfstype=ramfs ima_policy=tcb ima_hash=sha256 ima_template=ima-sig panic=-1 quiet"

missing=()
need_command() { command -v "$1" >/dev/null || missing+=("$2 (command $1)"); }
need_file() { [ -e "$1" ] || missing+=("$2 (file $1)"); }

need_parts() {
  need_command qemu-system-x86_64 qemu-system-x86
  need_command swtpm swtpm
  need_command swtpm_setup swtpm-tools
  need_command sbsign sbsigntool
  need_command mformat mtools
  need_command sgdisk gdisk
  need_command objcopy binutils
  need_command openssl openssl
  need_command python3 python3
  need_file "$STUB" systemd-boot-efi
  need_file "$FIRMWARE" ovmf
  need_file "$VARIABLES" ovmf
  need_file "$BUSYBOX" busybox-static
}

# Exit code 77: it cannot be done here.
stop_if_missing() {
  [ ${#missing[@]} -gt 0 ] || return 0
  printf 'missing: %s\n' "${missing[@]}" >&2
  exit 77
}

# kernel PACKAGE DIRECTORY: a Debian kernel, downloaded and unpacked, not installed.
kernel() {
  [ -d "$2" ] && return
  ls "$1"_*.deb >/dev/null 2>&1 || apt-get download "$1" >apt.log 2>&1 ||
    { echo "$1 cannot be downloaded: $(tail -1 apt.log)" >&2; exit 77; }
  dpkg -x "$1"_*.deb "$2.new"
  mv "$2.new" "$2"
}

# initramfs OUTPUT INIT MODULES KERNEL...: busybox, INIT and the modules (paths of drivers, in load order) of the
# unpacked kernels.
initramfs() {
  local output=$1 init=$2 modules=$3 directory release module
  shift 3
  printf '%s\n' $modules | sed 's:.*/::' >order
  {
    for directory in bin dev proc sys run lib lib/modules; do echo "dir $directory"; done
    echo "char dev/console 5 1"
    echo "char dev/null 1 3"
    echo "file init 755 $init"
    echo "file bin/busybox 755 $BUSYBOX"
    echo "link bin/sh busybox"
    echo "file lib/modules/order 644 order"
    for directory in "$@"; do
      release=$(ls "$directory/lib/modules")
      echo "dir lib/modules/$release"
      for module in $modules; do
        echo "file lib/modules/$release/${module##*/}.ko 644 $directory/lib/modules/$release/kernel/$module.ko"
      done
    done
  } >tree
  python3 "$PARTS/newc.py" "$output" <tree
}

# uki OUTPUT OSREL CMDLINE INITRD LINUX: a unified kernel image of these files, not yet signed.
uki() {
  local output=$1 pair
  printf 'vector' >uname.txt
  cp "$STUB" "$output"
  for pair in "osrel=$2" uname=uname.txt "cmdline=$3" "initrd=$4" "linux=$5"; do
    # One section at a time, because each address follows from the one before.
    objcopy --add-section ".${pair%%=*}=${pair#*=}" \
      --change-section-vma ".${pair%%=*}=$(python3 "$PARTS/pe.py" next "$output")" "$output" "$output.new"
    mv "$output.new" "$output"
  done
  python3 "$PARTS/pe.py" settle "$output"
}

# key NAME: a self-signed certificate NAME.pem and its NAME.key, unless they are there.
key() {
  [ -e "$1.pem" ] || openssl req -x509 -newkey rsa:2048 -sha256 -nodes -days 3650 \
    -subj "/CN=Touchstone test vector $1" -keyout "$1.key" -out "$1.pem" 2>req.log
}

# sign KEY INPUT OUTPUT. sbsign says "gaps between PE/COFF sections": harmless.
sign() {
  sbsign --key "$1.key" --cert "$1.pem" --output "$3" "$2" >sbsign.log 2>&1
}

# variables OUTPUT on|off DB...: a variable store with the keys PK, KEK and these, and Secure Boot on or off.
variables() {
  local output=$1 state=$2
  shift 2
  python3 "$PARTS/enrol.py" "$VARIABLES" "$output" "$OWNER_GUID" "$state" PK.pem KEK.pem "${@/%/.pem}"
}

# disk OUTPUT UKI [CREDENTIAL]: a disk whose removable-media boot path is the image, with a credential for it beside it.
disk() {
  rm -f "$1"
  truncate -s 33M "$1"
  sgdisk -a 2048 -n 1:2048:+30M -t 1:ef00 -u "1:$PARTITION_GUID" -U "$DISK_GUID" "$1" >/dev/null
  mformat -i "$1@@1M" -N 12345678 -T 61440 -h 64 -s 32 ::
  mmd -i "$1@@1M" ::/EFI ::/EFI/BOOT
  mcopy -i "$1@@1M" "$2" ::/EFI/BOOT/BOOTX64.EFI
  [ $# -lt 3 ] || {
    mmd -i "$1@@1M" ::/EFI/BOOT/BOOTX64.EFI.extra.d
    mcopy -i "$1@@1M" "$3" "::/EFI/BOOT/BOOTX64.EFI.extra.d/${3##*/}"
  }
}
