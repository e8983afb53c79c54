"""``python -m protocol``: what it prints, and what it says to input that cannot be used."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol import structures
from protocol.__main__ import main

ROOT = Path(__file__).resolve().parents[3]
RDX = "01 01 0005 00000007" + "00" * 48

Give = Callable[[bytes], None]


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Give:
    """Put bytes on standard input."""

    def put(octets: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(octets)))

    return put


def run(*arguments: str, given: bytes = b"") -> tuple[int, str, str]:
    """Run the real command: its exit code, output and errors."""
    done = subprocess.run(
        [sys.executable, "-m", "protocol", *arguments],
        input=given,
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_command_itself() -> None:
    code, out, _ = run("list")
    assert (code, out.split()) == (0, list(structures.STANDARD))
    assert run("decode", "vd_wce", given=b"0000 0001\n0000 0000") == (0, '{"enabled": 1}\n', "")
    assert run("encode", "vd_wce", given=b'{"enabled": 0}') == (0, "0000000000000000\n", "")
    assert run("decode", "vd_wce", given=b"00") == (1, "", "protocol: vd_wce: 1 bytes, must be 8\n")


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "protocol", "layout"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, b"")


def test_an_output_that_is_full_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "protocol", "list"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        1,
        b"protocol: standard output: No space left on device\n",
    )


@pytest.mark.parametrize(
    ("closed", "command", "reason"),
    [
        ("stdin", "decode vd_wce", "there is no standard input"),
        ("stdout", "list", "there is no standard output"),
    ],
)
def test_a_closed_stream_is_one_line(
    closed: str,
    command: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as context:
        context.setattr(f"sys.{closed}", None)
        assert main(command.split()) == 1
    assert capsys.readouterr().err == f"protocol: {reason}\n"


def test_a_full_output_in_this_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as full, monkeypatch.context() as context:
        context.setattr("sys.stdout", full)
        assert main(["list"]) == 1
    assert capsys.readouterr().err == "protocol: standard output: No space left on device\n"


def test_what_a_terminal_would_obey_is_not_printed(give: Give, capsys: pytest.CaptureFixture[str]) -> None:
    give(b'{"\\u001b[31m": 1, "enabled": 0}')
    assert main(["encode", "vd_wce"]) == 1
    assert capsys.readouterr().err == "protocol: vd_wce: unknown ?[31m\n"


def test_decode_prints_one_json_object(give: Give, capsys: pytest.CaptureFixture[str]) -> None:
    give(RDX.encode())
    assert main(["decode", "vio_rdx_msg"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"msgtype": 1, "subtype": 1, "subtype_env": 5, "sid": 7}
    assert printed.out.count("\n") == 1
    assert printed.err == ""


def test_encode_prints_hex(give: Give, capsys: pytest.CaptureFixture[str]) -> None:
    give(b'{"msgtype": 1, "subtype": 1, "subtype_env": 5, "sid": 7}')
    assert main(["encode", "vio_rdx_msg"]) == 0
    assert bytes.fromhex(capsys.readouterr().out) == bytes.fromhex(RDX)


@pytest.mark.parametrize(
    ("command", "name", "given", "reason"),
    [
        ("decode", "vio_rdx_msg", b"01", "vio_rdx_msg: 1 bytes, must be 56"),
        ("decode", "vio_rdx_msg", RDX.encode() + b"00", "vio_rdx_msg: 57 bytes, must be 56"),
        ("decode", "vio_rdx_msg", RDX[:-1].encode(), "the input is not hex"),
        ("decode", "vio_rdx_msg", b"\xff\xfe", "the input is not hex"),
        ("decode", "vio_msg_tag", b"09 01 0005 00000007", "vio_msg_tag: msgtype is 9, known are CTRL 1"),
        (
            "decode",
            "vd_dring_payload",
            b"00" * 32 + b"ffffffff 00000000",
            "vd_dring_payload: ncookies is 4294967295, at most",
        ),
        ("encode", "vio_msg_tag", b"", "the input is not JSON"),
        ("encode", "vio_msg_tag", b"\xff", "the input is not JSON"),
        ("encode", "vio_msg_tag", b"[" * 100_000, "the input is not JSON"),
        ("encode", "vio_msg_tag", b"{}", "vio_msg_tag: no msgtype, no subtype, no subtype_env, no sid"),
        ("encode", "vd_wce", b'{"enabled": 1e3}', "vd_wce: enabled is a whole number, not 1000.0"),
        (
            "encode",
            "vd_wce",
            b'{"enabled": 0, "enabled": 1}',
            "the input is not JSON: a field is given twice",
        ),
        ("encode", "vd_access", b'{"flags": ' + b"9" * 5000 + b"}", "the input is not JSON"),
    ],
)
def test_input_that_is_no_such_thing(
    give: Give, capsys: pytest.CaptureFixture[str], command: str, name: str, given: bytes, reason: str
) -> None:
    give(given)
    assert main([command, name]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"protocol: {reason}")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("decode",), "the following arguments are required: STRUCT"),
        (("decode", "vd_nothing"), "no structure 'vd_nothing'"),
        (("list", "more"), "unrecognized arguments: more"),
    ],
)
def test_wrong_usage_is_one_line_and_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_layout_prints_a_table_or_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layout", "vd_geom"]) == 0
    layout = structures.STANDARD["vd_geom"]
    assert capsys.readouterr().out == f"vd_geom: 22 bytes, big-endian\n\n{structures.table(layout)}\n"
    assert main(["layout"]) == 0
    printed = capsys.readouterr().out
    for name, layout in structures.STANDARD.items():
        assert f"### {name}\n\n{structures.heading(layout)}\n\n{structures.table(layout)}\n" in printed


def test_the_page_of_structures_is_made_with_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["layout"])
    page = (ROOT / "docs" / "reference" / "structures.md").read_text(encoding="utf-8")
    assert page.endswith(capsys.readouterr().out)
