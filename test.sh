#!/usr/bin/env bash
# Runs the checks and the tests; sets up what they need first. See docs/how-to/run-the-tests.md.
set -euo pipefail

usage() {
    cat <<'END'
usage: ./test.sh [--quick | --full | --night]

  --quick   checks, and the tests that take about a second or less    under 3 minutes
  --full    checks, all tests, coverage gates (the default)           under 20 minutes
  --night   as full, with soak tests and long random searches         under 80 minutes

Makes .venv on first use. Needs a few Debian packages: installs them as root, otherwise prints the apt line and
exits 2. Exit status: 0 all green, 1 something failed (a test that skipped itself counts), 2 usage or set-up.
END
}

tier=full
[ $# -le 1 ] || { usage >&2; exit 2; }
case ${1:---full} in
    --quick | --full | --night) tier=${1:---full} tier=${tier#--} ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")"
. scripts/setup.sh
need_commands qemu-img=qemu-utils qemu-io=qemu-utils nbdcopy=libnbd-bin nbdinfo=libnbd-bin fio=fio \
    mkfs.ext4=e2fsprogs e2fsck=e2fsprogs gcc=gcc /usr/include/stdio.h=libc6-dev tshark=tshark \
    nbdkit=nbdkit qemu-storage-daemon=qemu-system-common pkg-config=pkgconf /usr/include/libnbd.h=libnbd-dev \
    /usr/lib/python3/dist-packages/six.py=python3-six # which a tool of fio's needs and fio does not bring
need_venv dev
PATH=$VENV/bin:$PATH
hash -r

failed=() began=$SECONDS

step() { # NAME COMMAND ...: run it, note a failure, go on
    local name=$1 start=$SECONDS
    shift
    echo "${BOLD}== $name${PLAIN}"
    if ! "$@" </dev/null; then failed+=("$name"); fi
    echo "${DIM}   $name: $((SECONDS - start)) s${PLAIN}"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

declare -A seconds=([quick]=600 [full]=2400 [night]=5000) # a suite that hangs ends here, well past its budget

run_pytest() { # the suite on both cores; its output also goes to $log
    local measure=(-m coverage run -m)
    [ "$tier" = quick ] && measure=(-m)
    local patience=() # thousands of examples in one test take longer than a test may otherwise
    [ "$tier" = night ] && patience=(--timeout 1500)
    timeout --signal=INT --kill-after=30 "${seconds[$tier]}" \
        python "${measure[@]}" pytest --tier "$tier" -n 2 --dist loadgroup -q "${patience[@]}" 2>&1 | tee "$log"
}

gate() { # PERCENT REPORT-OPTION ...: a coverage report that fails below PERCENT
    local percent=$1
    shift
    coverage report --fail-under="$percent" "$@"
}

step "ruff format" ruff format --check --quiet .
step "ruff check" ruff check --quiet .
step "mypy" mypy
rm -f .coverage .coverage.*
step "pytest" run_pytest
closing=$(sed 's/\x1b\[[0-9;]*m//g; s/^=* *//; s/ *=*$//' "$log" | grep -E '^[0-9]+ [a-z]+.* in [0-9.]+s' | tail -n 1) || true
case $closing in *skipped*) failed+=("a test skipped itself") ;; esac
if [ "$tier" != quick ]; then
    coverage combine --quiet || failed+=("coverage data")
    step "coverage of protocol/ (100 %)" gate 100 --include='protocol/*'
    step "coverage of the rest (90 %)" gate 90 --omit='protocol/*'
fi

echo
for name in "${failed[@]}"; do echo "FAILED: $name"; done
echo "test.sh --$tier: $([ ${#failed[@]} -eq 0 ] && echo green || echo red) after $((SECONDS - began)) s"
echo "${closing:-0 passed, 1 failed}"
[ ${#failed[@]} -eq 0 ]
