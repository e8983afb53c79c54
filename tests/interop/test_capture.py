"""Captures of the real daemons: complete at both ends, in the order of the events, readable for others."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import vdc
from protocol.capture import Direction, How, NoteKind
from protocol.ldc.packet import PacketStype, PacketType, UnreliablePacketLayout
from protocol.vdisk.descriptor import Entry
from protocol.vdisk.operations import Operation
from protocol.vio.dring import Dstate
from protocol.vio.messages import DringDataLayout, Envelope, Subtype
from tests.support.captures import CaptureFile
from tests.support.daemons import VdcServer, VdsServer, run
from tests.support.waiting import wait_until

KiB = 1024
MiB = 1024 * KiB
IN, OUT = Direction.INBOUND, Direction.OUTBOUND
SUBMITTED, TAKEN = NoteKind.SUBMITTED, NoteKind.TAKEN
FINISHED, ANSWERED = NoteKind.FINISHED, NoteKind.ANSWERED
READ, WRITE, FLUSH = Operation.BREAD, Operation.BWRITE, Operation.FLUSH

by_transport = pytest.mark.parametrize("transport", ["shm", "socket"])
by_polling = pytest.mark.parametrize("poll_us", [0, 50])

#: Requests of different kinds and lengths: (operation, offset, bytes).
ASKED = [
    *[(WRITE, block * 4096, 4096) for block in range(40)],
    *[(READ, block * 4096, 4096) for block in reversed(range(40))],
    *[(WRITE, 8 * MiB, 1 * MiB), (FLUSH, 0, 0), (READ, 8 * MiB, 1 * MiB), (READ, 512, 512)],
    *[(WRITE, number * 512, 512) for number in range(300)],  # once more round the ring
]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Where the server captures to."""
    return tmp_path / "vds.pcapng"


def asked_of(entries: Sequence[Entry]) -> list[tuple[int, int, int]]:
    """What entries ask for, as ``ASKED`` has it."""
    return [(entry.operation, entry.addr * 512, entry.nbytes) for entry in entries]


def ask(disk: vdc.BlockingDisk) -> None:
    """Ask for all of ``ASKED``, eight at a time."""
    tokens: set[int] = set()
    for operation, offset, nbytes in ASKED:
        if operation is READ:
            tokens.add(disk.submit_read(offset, nbytes))
        elif operation is WRITE:
            tokens.add(disk.submit_write(offset, os.urandom(nbytes)))
        else:
            tokens.add(disk.submit_flush())
        if len(tokens) >= 8:
            tokens -= {token for token, _ in disk.wait(1)}
    while tokens:
        tokens -= {token for token, _ in disk.wait(1)}


def check_complete(client: CaptureFile, server: CaptureFile, asked: Sequence[object]) -> None:
    """Every request is at each end exactly once, from submission to answer, and as it was asked."""
    submitted, answered = client.entries(SUBMITTED), client.entries(ANSWERED)
    taken, finished = server.entries(TAKEN), server.entries(FINISHED)
    assert asked_of(submitted) == list(asked)
    assert taken == [entry._replace(dstate=Dstate.ACCEPTED) for entry in submitted]
    assert {entry.dstate for entry in submitted} == {Dstate.READY}
    by_id = {entry.req_id: entry for entry in submitted}
    assert len(by_id) == len(submitted)
    assert sorted(entry.req_id for entry in finished) == sorted(by_id)
    for entry in finished:
        assert entry == by_id[entry.req_id]._replace(dstate=Dstate.DONE, status=0)
    assert sorted(answered) == sorted(finished)
    numbers = {note.index: note.seq_num for note in client.notes(SUBMITTED)}
    assert {note.index: note.seq_num for note in server.notes(FINISHED)} == numbers


def check_packets(client: CaptureFile, server: CaptureFile) -> None:
    """What one end sent is what the other received, but for the last words before the client left."""
    assert client.packets(OUT) == server.packets(IN)
    sent, received = server.packets(OUT), client.packets(IN)
    assert received == sent[: len(received)]
    assert len(sent) - len(received) <= 2
    for file in (client, server):
        configured = [
            (step.direction, step.note.index)
            for step in file.steps
            if step.note is not None and step.note.kind is NoteKind.QUEUE_CONFIGURED
        ]
        assert sorted(configured) == [(IN, 512), (OUT, 512)]
        assert file.times == sorted(file.times)
        assert not file.is_cut_short


def events(file: CaptureFile) -> Iterator[tuple[str, int, int]]:
    """Every note with its message's number and index, and every message about descriptors, in order."""
    for step in file.steps:
        if step.note is not None:
            yield step.note.kind.name, step.note.seq_num, step.note.index
        elif step.packet is not None:
            packet = UnreliablePacketLayout.parse(step.packet)
            if packet.type == PacketType.DATA and packet.stype == PacketStype.INFO:
                tag = packet.payload[1], int.from_bytes(packet.payload[2:4], "big")
                if tag[1] == Envelope.DRING_DATA:
                    data = DringDataLayout.parse(packet.payload)
                    for index in range(data.start_idx, data.end_idx + 1):
                        yield Subtype(tag[0]).name, data.seq_num, index


def check_order(client: CaptureFile, server: CaptureFile) -> None:
    """A note precedes the message that follows from it, and follows the one that it follows from."""
    places = [{event: place for place, event in enumerate(events(file))} for file in (client, server)]
    at_client, at_server = places
    messages = [key[1:] for key in at_server if key[0] == "TAKEN"]
    assert len(messages) == len(ASKED)
    for key in messages:
        steps = [at_client[what, *key] for what in ("SUBMITTED", "INFO", "ACK", "ANSWERED")]
        assert steps[0] < steps[1] < min(steps[2:])
        steps = [at_server[what, *key] for what in ("INFO", "TAKEN", "FINISHED", "ACK")]
        assert steps == sorted(steps)


@by_transport
@by_polling
def test_both_ends_have_everything(tmp_path: Path, trace: Path, transport: str, poll_us: int) -> None:
    with (
        VdsServer(tmp_path, {"disk": "memory:64M"}, f"--capture={trace}", f"--poll-us={poll_us}") as vds,
        vdc.Capture(tmp_path / "vdc.pcapng", "test") as capture,
    ):
        uri = vds.uri("disk", transport=transport, poll_us=poll_us)
        with vdc.connect(uri, capture=capture) as disk:
            ask(disk)
        vds.wait_for("the peer is gone")
        client, server = CaptureFile(tmp_path / "vdc.pcapng"), CaptureFile(trace)
        pid = vds.pid
    check_complete(client, server, ASKED)
    check_packets(client, server)
    (there,), (here,) = client.interfaces, server.interfaces
    assert (there.name, here.name) == ("disk#1", "disk#1")
    assert there.description == f"server process {pid}, user {os.geteuid()}, {transport}"
    assert here.description == f"client process {os.getpid()}, user {os.geteuid()}, {transport}"
    if transport == "socket":
        assert client.ways() == server.ways() == {How.MESSAGE}
        check_order(client, server)
    else:
        assert client.ways() == server.ways() == {How.POLLING}


@pytest.mark.slow
@by_transport
def test_a_client_that_rings_for_every_request(tmp_path: Path, trace: Path, transport: str) -> None:
    """Linux' driver, in raw octets: a plain ring, in shared memory too, and in-band mode has no notes."""
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(6147 * 512))
    with VdsServer(tmp_path, {"disk": image}, f"--capture={trace}") as vds:
        for script in ("client_linux", "client_inband"):
            run(
                *(sys.executable, "-m", f"tests.vectors.{script}", "--socket", vds.socket),
                *("--volume", "disk", "--image", image, "--transport", transport),
            )
        vds.wait_for("the peer is gone", count=2)
        file = CaptureFile(trace)
    assert file.ways() == {How.MESSAGE}
    taken, finished = file.notes(TAKEN, 0), file.notes(FINISHED, 0)
    assert len(taken) > 30
    assert [(note.index, note.seq_num) for note in finished] == [(note.index, note.seq_num) for note in taken]
    assert file.notes(TAKEN, 1) == []
    assert len(file.packets(IN, 1)) > 100


@pytest.mark.slow
@by_transport
def test_the_commands_capture(tmp_path: Path, trace: Path, transport: str) -> None:
    """``vds run``, ``vdc copy``, ``vdc info``; and TOML."""
    (tmp_path / "in").write_bytes(os.urandom(4 * MiB))
    (tmp_path / "vds.toml").write_text(f'capture = "{trace}"\n[volume.disk]\nbackend = "memory:16M"\n')
    script = f"""
        set -e
        uri="$VDISK_URI&transport={transport}"
        python -m vdc copy in "$uri" --capture copy.pcapng
        python -m vdc info "$uri" --capture info.pcapng
        """
    subprocess.run(
        [sys.executable, "-m", "vds", "run", "--config", "vds.toml", "--", "sh", "-c", script],
        cwd=tmp_path,
        check=True,
        timeout=60,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(vdc.__file__).parents[1]),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
    )
    copied, looked, server = (
        CaptureFile(path) for path in (tmp_path / "copy.pcapng", tmp_path / "info.pcapng", trace)
    )
    assert [link.name for link in server.interfaces] == ["disk#1", "disk#2"]
    expected = {*((WRITE, offset * MiB, MiB) for offset in range(4)), (FLUSH, 0, 0)}
    assert set(asked_of(copied.entries(ANSWERED))) == expected
    assert asked_of(server.entries(TAKEN, 0)) == asked_of(copied.entries(SUBMITTED))
    assert copied.packets(OUT) == server.packets(IN, 0)
    assert looked.packets(OUT) == server.packets(IN, 1)
    assert looked.notes(SUBMITTED) == server.notes(TAKEN, 1)


@pytest.mark.slow
@by_transport
def test_a_server_that_is_killed_and_comes_back(tmp_path: Path, trace: Path, transport: str) -> None:
    """Its own capture lacks nothing; the client's has a second interface on which it asks once more."""
    hold = tmp_path / "hold"
    (tmp_path / "disk.img").write_bytes(bytes(16 * MiB))
    volume = f"{tmp_path / 'disk.img'},pause-file={hold}"
    with (
        VdsServer(tmp_path, {"disk": volume}, f"--capture={trace}") as vds,
        VdcServer(
            vds.uri("disk", transport=transport), tmp_path, f"--capture={tmp_path / 'vdc.pcapng'}"
        ) as front,
    ):
        hold.touch()
        with subprocess.Popen(
            ["qemu-io", "-f", "raw", "-c", "write -P 7 64k 4k", "-c", "flush", front.nbd_uri],
            stdout=subprocess.PIPE,
        ) as client:
            wait_until(lambda: len(CaptureFile(trace).notes(TAKEN)) > 0, "the server to take the write")
            vds.kill()
            shutil.copy(trace, tmp_path / "killed.pcapng")
            hold.unlink()
            front.wait_for("lost the server")
            vds.start()
            front.wait_for("running again")
            assert client.wait(30) == 0
        assert vds.stop() == 0
    file, killed, after = (
        CaptureFile(path) for path in (tmp_path / "vdc.pcapng", tmp_path / "killed.pcapng", trace)
    )
    assert [link.name for link in file.interfaces] == ["disk#1", "disk#2"]
    first, again = file.entries(SUBMITTED, 0), file.entries(SUBMITTED, 1)
    lost = first[-1]
    assert lost.req_id not in {entry.req_id for entry in file.entries(ANSWERED, 0)}
    assert asked_of([lost]) == [(WRITE, 64 * KiB, 4096)]
    assert again[0].req_id == lost.req_id
    assert asked_of(again[:1]) == asked_of([lost])
    assert lost.req_id in {entry.req_id for entry in file.entries(ANSWERED, 1)}
    assert not killed.is_cut_short
    assert lost._replace(dstate=Dstate.ACCEPTED) in killed.entries(TAKEN)
    assert asked_of(after.entries(TAKEN)) == asked_of(again)


@pytest.mark.slow
@by_transport
def test_a_capture_that_cannot_go_on_leaves_the_disk_alone(tmp_path: Path, transport: str) -> None:
    """A pipe that nobody empties, at both ends: said once each, and every request is served."""
    pipes = [tmp_path / "vds.fifo", tmp_path / "vdc.fifo"]
    for pipe in pipes:
        os.mkfifo(pipe)
    readers = [os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) for pipe in pipes]
    try:
        with (
            VdsServer(tmp_path, {"disk": "memory:16M"}, f"--capture={pipes[0]}") as vds,
            VdcServer(vds.uri("disk", transport=transport), tmp_path, f"--capture={pipes[1]}") as front,
        ):
            for value in (1, 2):
                words = [f"write -P {value} {block * 4}k 4k" for block in range(600)]
                words += [f"read -P {value} 0 2400k", "flush"]
                said = run(
                    "qemu-io", "-f", "raw", *(part for word in words for part in ("-c", word)), front.nbd_uri
                )
                assert "verification failed" not in said
            ended = re.compile("the capture ends here: Resource temporarily unavailable")
            assert [sum(bool(ended.search(line)) for line in daemon.lines) for daemon in (vds, front)] == [
                1,
                1,
            ]
            assert front.stop() == vds.stop() == 0
        for number, reader in enumerate(readers):
            (tmp_path / "read").write_bytes(os.read(reader, MiB))
            file = CaptureFile(tmp_path / "read")
            assert len(file.steps) > 100, pipes[number]
            assert not file.is_cut_short
    finally:
        for reader in readers:
            os.close(reader)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["-m", "vds", "serve", "--listen", "s", "disk=memory:1M"], 1),
        (["-m", "vdc", "serve", "vdisk+unix:///disk?socket=none", "--nbd", "s"], 1),
        (["-m", "vdc", "info", "vdisk+unix:///disk?socket=none"], 1),
        (["-m", "vdc", "copy", "vdisk+unix:///disk?socket=none", "out"], 1),
    ],
)
@pytest.mark.parametrize(("path", "why"), [("", "Is a directory"), ("no/x", "No such file or directory")])
def test_a_capture_that_cannot_begin_is_one_line(
    tmp_path: Path, words: list[str], code: int, path: str, why: str
) -> None:
    done = subprocess.run(
        [sys.executable, *words, "--capture", str(tmp_path / path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(vdc.__file__).parents[1])},
        check=False,
    )
    assert done.returncode == code
    assert done.stderr == f"{words[1]}: {tmp_path / path}: capture: {why}\n"
    assert not (tmp_path / "s").exists()
    assert not (tmp_path / "out").exists()


def test_a_served_disk_is_no_capture(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"x" * MiB)
    server = VdsServer(tmp_path, {"disk": image}, f"--capture={image}")
    server.launch()
    assert server.wait() == 2
    why = "this is the backend of volume disk, it cannot be the capture"
    assert [line for line in server.lines if line == f"vds: capture={image}: {why}"]
    assert image.read_bytes() == b"x" * MiB


def test_other_tools_read_it(tmp_path: Path, trace: Path) -> None:
    """Wireshark's own: the file is well formed, nothing is left over, and each channel has its name."""
    with VdsServer(tmp_path, {"disk": "memory:16M"}, f"--capture={trace}") as vds:
        for transport in ("shm", "socket"):
            with vdc.connect(vds.uri("disk", transport=transport)) as disk:
                disk.pwrite(0, bytes(8192))
        vds.wait_for("the peer is gone", count=2)
    file = CaptureFile(trace)
    facts = run("capinfos", trace)
    assert re.search(r"File encapsulation: +USER 0", facts)
    assert re.search(r"File timestamp precision: +nanoseconds", facts)
    assert re.search(rf"Number of packets: +{len(file.steps)}\n", facts)
    assert re.search(r"Strict time order: +True", facts)
    assert re.search(r"Capture application: +vds", facts)
    assert re.findall(r"Name = (.*)", facts) == ["disk#1", "disk#2"]
    assert len(re.findall(r"Description = client process \d+, user \d+, (?:shm|socket)", facts)) == 2
    fields = ("frame.len", "frame.interface_name", "frame.packet_flags_direction")
    wanted = [part for field in fields for part in ("-e", field)]
    rows = run("tshark", "-r", trace, "-T", "fields", *wanted).splitlines()
    expected = []
    for step in file.steps:
        length = 64 if step.packet is not None else 24 + len(step.note.entry if step.note else b"")
        expected.append(f"{length}\tdisk#{step.interface + 1}\t0x{step.direction:08x}")
    assert rows == expected
