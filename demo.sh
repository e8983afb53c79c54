#!/usr/bin/env bash
# Shows the main job: a disk server and a disk client as two processes, and programs that have never heard of either
# (nbdcopy, qemu-img, e2fsck) using the disk between them. See docs/first-steps.md.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/setup.sh
[ $# -eq 0 ] || stop 2 "takes no arguments"
need_commands mkfs.ext4=e2fsprogs e2fsck=e2fsprogs debugfs=e2fsprogs nbdcopy=libnbd-bin nbdinfo=libnbd-bin \
    qemu-img=qemu-utils
need_venv ""
PATH=$VENV/bin:$PATH
began=$SECONDS

# Everything lives in one new folder and is gone at the end, however the end comes.
here=$(mktemp -d "${TMPDIR:-/tmp}/vdisk-demo.XXXXXX")
vds_pid='' vdc_pid='' copy_pid=''
cleanup() {
    local status=$? pid
    trap - EXIT
    for pid in $copy_pid $vdc_pid $vds_pid; do
        kill "$pid" 2>/dev/null || continue
        wait "$pid" 2>/dev/null || true
    done
    if [ "$status" -gt 0 ] && [ "$status" -lt 128 ]; then
        echo "demo.sh failed (status $status). The daemons' last words:" >&2
        tail -n 5 "$here"/*.log >&2 2>/dev/null || true
    fi
    rm -rf "$here"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

chapter() { printf '\n%s%s%s\n' "$BOLD" "$1" "$PLAIN"; }
tell() { printf '%s\n' "$*"; }
last_line() { tell "    $(tail -n 1 "$1" | sed "s|$here/||g")"; } # what a daemon said last, without the folder's long name
show_line() { printf '%s  $ %s%s\n' "$DIM" "$1" "$PLAIN"; }
show() { # WORD ...: a command as one would type it in the demo's folder
    local word line=''
    for word in "${@//$here\//}"; do
        case $word in *[?\&\ ]*) word="'$word'" ;; esac
        line+="${line:+ }$word"
    done
    show_line "$line"
}
run() { # COMMAND ...: show it without the folder's long name, then run it
    show "$@"
    "$@"
}

wait_for() { # PID LOG WORDS: until the daemon has said that it is ready
    local i
    for ((i = 0; i < 300; i++)); do
        grep -q "$3" "$2" 2>/dev/null && return
        kill -0 "$1" 2>/dev/null || stop 1 "the daemon ended early: $(tail -n 1 "$2")"
        sleep 0.1
    done
    stop 1 "the daemon was not ready within 30 s: $(tail -n 1 "$2")"
}

start_vds() {
    : >"$here/vds.log"
    show vds serve --listen vds.sock disk0=backend.img,pause-file=hold
    vds serve --listen "$here/vds.sock" "disk0=$here/backend.img,pause-file=$here/hold" 2>"$here/vds.log" &
    vds_pid=$!
    wait_for "$vds_pid" "$here/vds.log" 'vds: ready'
}

make_image() { # IMAGE FOLDER FIRST LAST: an ext4 image of 256 MiB holding the chosen Python library files and a big one
    python - "$2" "$3" "$4" <<'END'
import pathlib, random, shutil, sys, sysconfig
folder, first, last = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
library = pathlib.Path(sysconfig.get_paths()["stdlib"])
files = sorted(p for p in library.rglob("*.py") if "site-packages" not in p.parts and p.is_file())
for path in files[first:last]:
    target = folder / path.relative_to(library)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
(folder / "noise.bin").write_bytes(random.Random(first).randbytes(48 << 20))
END
    show mkfs.ext4 -q -F -d "$2" "$1" 256M
    mkfs.ext4 -q -F -d "$2" "$1" 256M >"$here/mkfs.out"
    tell "    $(find "$2" -type f | wc -l) files, $(du -sh "$2" | cut -f1)"
}

chapter '1. Two disks full of real files'
tell 'Two ext4 images, made from files of the Python library and 48 MiB of noise each.'
make_image "$here/backend.img" "$here/files-a" 0 300
make_image "$here/second.img" "$here/files-b" 300 600
cp --sparse=always "$here/backend.img" "$here/original.img" # to compare with, out of the server's reach

chapter '2. The server: vds exports the first image as the disk "disk0"'
start_vds
last_line "$here/vds.log"
tell 'While the file "hold" exists, requests wait: step 6 makes use of it.'

chapter '3. The client: vdc attaches the disk over shared memory and offers it as an NBD server'
tell 'The two processes speak LDC packets, the VIO handshake and vDisk descriptors, as two logical domains would.'
uri="vdisk+unix:///disk0?socket=$here/vds.sock"
show vdc info "$uri"
vdc info "$uri" | sed "s|$here/||; s|^|    |"
show vdc serve "$uri" --nbd nbd.sock
vdc serve "$uri" --nbd "$here/nbd.sock" 2>"$here/vdc.log" &
vdc_pid=$!
wait_for "$vdc_pid" "$here/vdc.log" 'vdc: ready'
last_line "$here/vdc.log"
nbd="nbd+unix:///?socket=$here/nbd.sock"

chapter '4. Copy the disk out with two programs that know only NBD, and compare bit by bit'
run nbdcopy "$nbd" "$here/by-nbdcopy.img"
run cmp "$here/original.img" "$here/by-nbdcopy.img"
run qemu-img convert -f raw -O raw "$nbd" "$here/by-qemu-img.img"
run cmp "$here/original.img" "$here/by-qemu-img.img"
tell '    Identical, both.'
rm "$here"/by-*.img

chapter '5. Copy the second image over the disk, and read it back'
run nbdcopy --flush "$here/second.img" "$nbd"
run nbdcopy "$nbd" "$here/back.img"
run cmp "$here/second.img" "$here/back.img"
tell '    Identical.'

chapter '6. Kill the server in the middle of a copy, and start it again'
tell 'The copy waits, vdc reconnects and sends again what had no answer; the copying program notices nothing.'
show_line "qemu-img convert -r 32M -f raw -O raw '${nbd//$here\//}' survivor.img &      # at most 32 MiB a second"
qemu-img convert -r 32M -f raw -O raw "$nbd" "$here/survivor.img" &
copy_pid=$!
sleep 0.7
kill -0 "$copy_pid" 2>/dev/null || stop 1 'the copy ended before the server could be killed'
run touch "$here/hold" # so that the kill is sure to find requests under way
sleep 0.5
show_line "kill -9 $vds_pid"
kill -9 "$vds_pid"
wait "$vds_pid" 2>/dev/null || true
vds_pid=''
sleep 0.5
last_line "$here/vdc.log"
kill -0 "$copy_pid" 2>/dev/null || stop 1 'the copy did not wait for the server'
run rm "$here/hold"
start_vds
wait "$copy_pid" || stop 1 'the copy failed'
copy_pid=''
last_line "$here/vdc.log"
run cmp "$here/second.img" "$here/survivor.img"
tell '    Identical, although its server died underway.'

chapter '7. Stop both daemons and look at the backend itself'
for name in vdc vds; do
    pid=${name}_pid
    show_line "kill ${!pid}   # $name"
    kill "${!pid}"
    wait "${!pid}" || stop 1 "$name did not stop in good order"
    printf -v "$pid" ''
done
show e2fsck -fn backend.img
e2fsck -fn "$here/backend.img" 2>/dev/null >"$here/e2fsck.out" || stop 1 "the file system is damaged: $(cat "$here/e2fsck.out")"
sed -n '$s/^.*: /    /p' "$here/e2fsck.out"
show_line 'debugfs -R "rdump / out" backend.img; diff -r files-b out'
mkdir "$here/out"
debugfs -R "rdump / $here/out" "$here/backend.img" 2>/dev/null >&2
rmdir "$here/out/lost+found"
diff -r "$here/files-b" "$here/out"

chapter "Done in $((SECONDS - began)) s: every byte was where it belonged, and the file system is clean."
