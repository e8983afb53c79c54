# shellcheck shell=bash
# Sets up what demo.sh and test.sh run on; sourced by both, never run by itself.
#
#   need_commands COMMAND=PACKAGE ...   root: installs the Debian packages of the commands that are missing;
#                                       anybody else: prints the apt line and exits 2
#   need_venv EXTRA|""                  makes .venv with this project and its dependencies in it
#
# Both are quick when there is nothing to do.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps mkfs and e2fsck; not on every user's PATH
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 DEBIAN_FRONTEND=noninteractive

# shellcheck disable=SC2034  # the scripts that source this use them
if [ -t 1 ]; then BOLD=$'\e[1m' DIM=$'\e[2m' PLAIN=$'\e[0m'; else BOLD='' DIM='' PLAIN=''; fi

stop() { # STATUS TEXT: say in one line why nothing more happens
    echo "$(basename "$0"): $2" >&2
    exit "$1"
}

quietly() { # COMMAND ...: run it; show the end of what it printed only if it fails
    local log
    log=$(mktemp)
    if ! "$@" </dev/null >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

install_debian() { # PACKAGE ...: as root install them, otherwise say how
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "Missing on this machine; install with:  sudo apt-get install --no-install-recommends $*" >&2
        exit 2
    fi
    echo "${DIM}installing Debian packages: $*${PLAIN}"
    quietly apt-get install -y -q --no-install-recommends "$@" 2>/dev/null ||
        { quietly apt-get update -q && quietly apt-get install -y -q --no-install-recommends "$@"; } ||
        stop 1 "apt-get could not install: $*"
}

need_commands() { # COMMAND=PACKAGE ... (a COMMAND with a slash is a file)
    local pair name missing=()
    for pair in "$@"; do
        name=${pair%%=*}
        case $name in
            /*) [ -e "$name" ] || missing+=("${pair#*=}") ;;
            *) command -v "$name" >/dev/null || missing+=("${pair#*=}") ;;
        esac
    done
    [ ${#missing[@]} -eq 0 ] && return
    # shellcheck disable=SC2046  # one word a package is meant
    install_debian $(printf '%s\n' "${missing[@]}" | sort -u)
}

find_python() { # print a Python that is new enough
    local python
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if command -v "$python" >/dev/null && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            "$python" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    stop 2 "Python 3.11 or later is needed (set PYTHON to use one that is not on the PATH)"
}

make_venv() { # PYTHON: an environment with pip in it
    rm -rf "$VENV"
    # Debian's bare python3 has no ensurepip: its package python3-venv brings it.
    if ! "$1" -c 'import ensurepip' 2>/dev/null; then
        if "$1" -m pip --version >/dev/null 2>&1; then
            "$1" -m venv --without-pip "$VENV"
            quietly "$1" -m pip --python "$VENV/bin/python" install pip
            return
        fi
        install_debian python3-venv
    fi
    "$1" -m venv "$VENV"
}

need_venv() { # EXTRA or "": .venv with this project (editable) and the extra's packages
    local python want stamp=$VENV/.set-up-for
    python=$(find_python) || exit 2
    want=$(printf '%s\n' "$ROOT" "$python" "${1:-}" && cat "$ROOT/pyproject.toml")
    # An environment made for the tests serves the demo too, so only the last extra asked for is noted.
    [ -z "${1:-}" ] && [ -f "$stamp" ] && [ "$(sed 3d "$stamp")" = "$(sed 3d <<<"$want")" ] && return
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return
    echo "${DIM}making the virtual environment .venv (once; about half a minute)${PLAIN}"
    { [ -f "$stamp" ] && [ "$(head -n 2 "$stamp")" = "$(head -n 2 <<<"$want")" ]; } || make_venv "$python" ||
        stop 1 "could not make the virtual environment $VENV"
    rm -f "$stamp"
    quietly "$VENV/bin/python" -m pip install --editable "$ROOT${1:+[$1]}" ||
        stop 1 "pip could not install the project's dependencies (is PyPI in reach?)"
    printf '%s\n' "$want" >"$stamp"
}
