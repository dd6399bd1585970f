# shellcheck shell=bash
# What a bare Debian 12 or Ubuntu 24.04 needs, and where cargo is. Sourced by deploy/quickstart, tests/run
# and .ci/run; it changes nothing by itself.
#
#   touchstone_need build run test   installs what is missing, asks nothing
#   touchstone_find_cargo            sets up touchstone_cargo, or says how to get Rust
#   touchstone_cargo build ...       runs cargo, under sudo as the user who has it

# One line per package and why; a|b where releases name it differently (Ubuntu 24.04 renamed for 64-bit time).
touchstone_packages() {
    case "$1" in
        build)
            echo "gcc libc6-dev make"                            # C compiler of aws-lc-sys
            echo "pkg-config libtss2-dev"                        # TPM library of the attestor
            ;;
        run)
            echo "swtpm swtpm-tools"                             # software TPMs with EK certificates
            echo "tpm2-tools"                                    # brings their PCRs to a recorded boot
            echo "openssl tpm2-openssl"                          # TLS with keys inside a TPM
            echo "tpm2-abrmd dbus-daemon"                        # resource manager, see README
            echo "libtss2-tcti-swtpm0|libtss2-tcti-swtpm0t64"    # ways to reach a TPM: software,
            echo "libtss2-tcti-device0|libtss2-tcti-device0t64"  # device file,
            echo "libtss2-tcti-tabrmd0|libtss2-tcti-tabrmd0t64"  # resource manager
            echo "jq ca-certificates"
            ;;
        package)
            echo "dpkg-dev"                                      # reads which libraries programs need
            echo "jq"                                            # writes the SBOM
            ;;
        test)
            echo "nginx-light|nginx mosquitto mosquitto-clients haproxy socat curl" # unmodified TLS software
            echo "libmbedtls-dev python3-grpcio"                 # other people's X.509 and gRPC
            echo "etcd-server"                                   # a store for several brokers
            echo "faketime"                                      # a plant that was dark, and certificates that have ended
            echo "qemu-system-x86 ovmf systemd-boot-efi"         # a measured boot of a real machine's parts
            echo "sbsigntool mtools gdisk binutils busybox-static"
            echo "softhsm2 opensc"                               # a PKCS#11 token
            echo "dpkg-dev debootstrap"                            # packages, and a clean system to install them on
            echo "python3 e2fsprogs mount"                       # the store's power cut, on a disk image
            ;;
        *)
            echo "touchstone_need: no group '$1'; there are build, run, package, test" >&2
            return 1
            ;;
    esac
}

touchstone_is_installed() {
    local name
    for name in ${1//|/ }; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] && return 0
    done
    return 1
}

# The first of a|b that this release has.
touchstone_choose() {
    local name
    for name in ${1//|/ }; do
        # A name that is only provided by another package prints nothing, and does not fail either.
        if [ -n "$(apt-cache show --no-all-versions "$name" 2>/dev/null)" ]; then
            echo "$name"
            return 0
        fi
    done
    echo "apt knows no package ${1//|/ or }; is this Debian 12 or Ubuntu 24.04 (with universe)?" >&2
    return 1
}

# Runs a command as root. The answer to "may I" is never waited for where nobody can give it.
touchstone_as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@" </dev/null
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        sudo "$@" </dev/null
    else
        return 77
    fi
}

# A package brings its service up. Tests and demonstrations want the programs only: a web server that
# suddenly listens on this machine would be a surprise. policy-rc.d is Debian's way to say so.
touchstone_apt_install() {
    local script
    # shellcheck disable=SC2016 # expanded by the inner shell
    script='
        export DEBIAN_FRONTEND=noninteractive
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            trap "rm -f $policy" EXIT
            printf "#!/bin/sh\nexit 101\n" >"$policy" && chmod 755 "$policy"
        fi
        apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"'
    touchstone_as_root bash -c "$script" apt-install "$@"
}

touchstone_install() {
    local log chosen=() entry name
    log=$(mktemp)
    echo "installing packages: $*"
    touchstone_as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 update \
        >"$log" 2>&1 || echo "apt-get update failed; trying with the lists that are here" >&2
    for entry in "$@"; do
        name=$(touchstone_choose "$entry") || { cat "$log" >&2; rm -f "$log"; return 1; }
        chosen+=("$name")
    done
    if ! touchstone_apt_install "${chosen[@]}" >>"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        echo "the packages could not be installed; try: apt-get install ${chosen[*]}" >&2
        return 1
    fi
    rm -f "$log"
}

# Installs what the named groups lack. Needs root only when something is missing.
touchstone_need() {
    local group list entry missing=()
    for group in "$@"; do
        list=$(touchstone_packages "$group") || return 1
        for entry in $list; do
            touchstone_is_installed "$entry" || missing+=("$entry")
        done
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if ! command -v apt-get >/dev/null; then
        echo "this system has no apt-get; install what these Debian packages hold: ${missing[*]}" >&2
        return 1
    fi
    if ! touchstone_as_root true; then
        echo "packages are missing and need root: run this as root or with sudo, or install them yourself:" >&2
        echo "  apt-get install ${missing[*]%%|*}" >&2
        return 1
    fi
    touchstone_install "${missing[@]}"
}

# rustup installs for one user and sudo hides that user's PATH, so look in the home of whoever called sudo.
touchstone_find_cargo() {
    local home
    touchstone_cargo_user=
    if [ "$(id -u)" -eq 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
        home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
        if [ -x "$home/.cargo/bin/cargo" ]; then
            touchstone_cargo_user=$SUDO_USER
            touchstone_cargo_home=$home
            return 0
        fi
    fi
    command -v cargo >/dev/null && return 0
    if [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
        export PATH
        return 0
    fi
    echo "cargo is not installed; get Rust from https://rustup.rs, for example:" >&2
    echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" >&2
    return 1
}

# As that user, so that the build leaves no files of root in a home or a checkout that is theirs.
touchstone_cargo() {
    if [ -n "${touchstone_cargo_user:-}" ]; then
        runuser -u "$touchstone_cargo_user" -- env HOME="$touchstone_cargo_home" \
            PATH="$touchstone_cargo_home/.cargo/bin:$PATH" cargo "$@"
    else
        cargo "$@"
    fi
}
