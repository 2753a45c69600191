# Shared by the scripts beside it; sourced, never run.
# shellcheck shell=bash disable=SC2034

say() { printf '==> %s\n' "$*" >&2; }
warn() { printf '!!! %s\n' "$*" >&2; }
die() {
    warn "$*"
    exit 1
}

# Some containers and jobs set no HOME; without it, ~ comes from the system's list of users.
if [ -z "${HOME:-}" ]; then
    unset HOME
    export HOME=~
fi
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${PEEWEE_REPLICAS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/peewee_replicas}"
MYSQL_DIR="$CACHE/mysql"
VENV="$ROOT/.venv"
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
# Most of what is installed is never imported, and so need not be compiled.
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1

can_be_root() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

# as_root COMMAND...: run as root, by sudo where that asks for no password.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n DEBIAN_FRONTEND=noninteractive "$@"; fi
}

# to_install APT DNF BREW: print the command that installs a package, by its name in each archive; or the name.
to_install() {
    if command -v apt-get >/dev/null; then
        echo "run as root: apt-get install $1"
    elif command -v dnf >/dev/null; then
        echo "run as root: dnf install $2"
    elif command -v brew >/dev/null; then
        echo "run: brew install $3"
    else
        echo "install the package of your system that is like Debian's $1"
    fi
}

# apt_install PACKAGE...: install from the system's archive, never removing anything to make room.
apt_install() {
    command -v apt-get >/dev/null && can_be_root || return 1
    if [ -z "${apt_updated:-}" ]; then
        as_root apt-get update -qq >&2 || warn "apt-get update failed; trying with the lists at hand"
        apt_updated=yes
    fi
    as_root apt-get install -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends --no-remove "$@" \
        >/dev/null
}

# find_browser: the path of a browser that can open the pages of the documentation, or nothing.
find_browser() {
    # Fails for each name that is missing, and so its exit code says nothing.
    { type -p chromium chromium-browser google-chrome google-chrome-stable || true; } | head -n 1 | grep .
}

# python_minor PYTHON: "10 /path/to/it" of a final release of Python 3.10 or newer; else fails.
python_minor() {
    "$1" -c 'import sys
v = sys.version_info
sys.exit(v < (3, 10) or v.releaselevel != "final" or print(v.minor, sys.executable))' 2>/dev/null
}

# find_pythons: lines "MINOR PATH", one for each minor version of Python >= 3.10 on this machine.
find_pythons() {
    local python pyenv_root="${PYENV_ROOT:-$HOME/.pyenv}"
    if command -v pyenv >/dev/null; then pyenv_root="$(pyenv root)"; fi
    {
        # -a: where the first of a name is a shim that does not work here, a later one may.
        type -ap python3{.10,.11,.12,.13,.14,.15,.16,} || true
        printf '%s\n' "$pyenv_root"/versions/*/bin/python3
    } | while read -r python; do python_minor "$python" || true; done | sort -s -n -u -k 1,1
}

# make_venv: see to it that $VENV is a working virtual environment, made by any Python >= 3.10.
make_venv() {
    python_minor "$VENV/bin/python" >/dev/null && "$VENV/bin/python" -m pip --version >/dev/null 2>&1 &&
        return
    local python
    python="$(type -p python3 || true)"
    if [ -z "$python" ] || ! python_minor "$python" >/dev/null; then
        python="$(find_pythons | head -n 1 | cut -d' ' -f2-)"
    fi
    [ -n "$python" ] || die "no Python >= 3.10 found; $(to_install python3 python3 python)"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        say "installing python3-venv"
        apt_install python3-venv || true
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            die "$python cannot make virtual environments; $(to_install python3-venv python3 python)"
    fi
    [ -w "$ROOT" ] || die "the folder $ROOT cannot be written to; copy it to one of yours and run it there"
    say "making a virtual environment in $VENV"
    rm -rf "$VENV"
    "$python" -m venv "$VENV" >&2 || die "$python could not make a virtual environment in $VENV"
}

# pip_setting NAME: print what pip was told in its variables or files, or nothing.
pip_setting() {
    sed -n -E "/^(:env:|install|global)\\.$1='/{s/^[^=]*='(.*)'\$/\\1/;s/\\\\n/ /g;p;q;}" <<<"$pip_settings"
}

# tell_uv VARIABLE VALUE: export the variable, unless there is no value.
tell_uv() { [ -z "$2" ] || export "$1=$2"; }

# use_uv: install uv into $VENV, which installs packages in a tenth of pip's time, and tell it where pip gets them.
# Fails where uv cannot be had, or finds no packages there. What was found the first time stays, so that a
# later run without a network keeps what it has.
use_uv() {
    local pip=("$VENV/bin/python" -m pip) pip_settings
    uv=
    if [ -e "$VENV/without-uv" ]; then return 1; fi
    pip_settings="$("${pip[@]}" config list 2>/dev/null)" || pip_settings=
    tell_uv UV_DEFAULT_INDEX "$(pip_setting index-url)"
    tell_uv UV_INDEX "$(pip_setting extra-index-url)"
    tell_uv UV_FIND_LINKS "$(pip_setting find-links | tr ' ' ',')"
    tell_uv UV_CONSTRAINT "$(pip_setting constraint)"
    tell_uv SSL_CERT_FILE "${SSL_CERT_FILE:-$(pip_setting cert)}"
    # As pip does, take the best release of all indexes, and no Python that this machine does not have.
    export UV_INDEX_STRATEGY=unsafe-best-match UV_PYTHON_DOWNLOADS=never
    if [ ! -x "$VENV/bin/uv" ]; then
        if [ -n "$(pip_setting no-index)$(pip_setting proxy)" ] ||
            ! "${pip[@]}" install --quiet --retries 1 uv >/dev/null 2>&1 || [ ! -x "$VENV/bin/uv" ] ||
            ! UV_HTTP_TIMEOUT=10 "$VENV/bin/uv" pip compile --quiet --refresh - <<<peewee >/dev/null 2>&1; then
            do_without_uv
            return 1
        fi
    fi
    uv="$VENV/bin/uv"
}

# do_without_uv: install by pip, now and in later runs with this $VENV.
do_without_uv() {
    uv=
    : >"$VENV/without-uv"
}

# try_install ARGUMENT...: install into $VENV by uv after `use_uv`, or else by pip, whose log is then in $VENV.
try_install() {
    if [ -n "${uv:-}" ] && "$uv" pip install --quiet --python "$VENV/bin/python" "$@" >/dev/null 2>&1; then return; fi
    rm -f "$VENV/pip.log"
    "$VENV/bin/python" -m pip install --quiet --log "$VENV/pip.log" "$@" >/dev/null 2>&1
}

# pip_install WHAT ARGUMENT...: install WHAT into $VENV, or end with the reason why not.
pip_install() {
    local what="$1" log="$VENV/pip.log" reason
    shift
    say "installing $what into $VENV"
    if try_install "$@"; then return; fi
    # Pip tells of a network that it cannot reach in many lines, and names another cause in its last.
    if grep -qsE 'NewConnectionError|Max retries|timed out|Temporary failure' "$log"; then
        reason="no package index can be reached; connect to a network, or set PIP_INDEX_URL or PIP_FIND_LINKS"
    else
        reason="$(sed -n 's/^.*ERROR: //p' "$log" 2>/dev/null | tail -n 1)"
    fi
    die "cannot install $what: ${reason:-pip failed}; the details are in $log"
}

# memory_available: print how many kB of memory programs can still take; 0 where the system does not say.
memory_available() {
    sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo 2>/dev/null | grep . || echo 0
}

# memory_folder: make a folder in memory for the servers' data, and print its path. Starting a server takes
# half the time there. Fails where memory or its file system is small, or nothing may be executed there, as in
# most containers.
memory_folder() {
    local free folder
    free="$(df -k --output=avail /dev/shm 2>/dev/null | tail -n 1)" && [ "${free:-0}" -gt 8000000 ] || return 1
    [ "$(memory_available)" -gt 12000000 ] || return 1
    folder="$(mktemp -d /dev/shm/peewee_replicas.XXXXXX)" || return 1
    printf '#!/bin/sh\n' >"$folder/try" && chmod +x "$folder/try"
    if "$folder/try" 2>/dev/null; then
        rm "$folder/try"
        echo "$folder"
    else
        rm -r "$folder"
        return 1
    fi
}
