"""The ledger: what a read may find, and every way in which it may be wrong."""

import pytest

from benchmarks.verify import BLOCK, Ledger

UNIT = 4096


def ledger(run: str = "run", disk: int = 0, size: int = 16 * UNIT) -> Ledger:
    """Of a small disk."""
    return Ledger(run, disk, size, UNIT)


def written(one: Ledger, offset: int) -> bytes:
    """The content of a write that was answered."""
    place, data = one.begin_write(offset)
    one.end_write(place)
    return data


def found(one: Ledger, offset: int, data: bytes) -> str | None:
    """What the ledger says of an answer to a read that begins and ends now."""
    one.end_read(offset, one.begin_read(offset), data)
    return one.first_error


def test_content_differs_by_run_disk_block_and_generation() -> None:
    contents = {
        ledger().content(0, 0),
        ledger("other").content(0, 0),
        ledger(disk=1).content(0, 0),
        ledger().content(UNIT, 0),
        ledger().content(0, 1),
    }
    assert len(contents) == 5
    assert {len(content) for content in contents} == {UNIT}


def test_all_of_a_block_is_tagged() -> None:
    content = ledger().content(0, 5)
    blocks = [content[at : at + BLOCK] for at in range(0, UNIT, BLOCK)]
    assert len(set(blocks)) == UNIT // BLOCK
    assert all(block == block[:64] * 8 for block in blocks)


def test_what_was_written_last_is_right() -> None:
    one = ledger()
    assert found(one, 0, one.content(0, 0)) is None
    data = written(one, UNIT)
    assert found(one, UNIT, data) is None
    assert one.errors == 0


def test_an_older_generation_is_wrong() -> None:
    one = ledger()
    written(one, 0)
    assert "generation 1 to 1 expected: at 0 disk 0, block 0, generation 0, this run" in str(
        found(one, 0, one.content(0, 0))
    )
    assert one.errors == 1


def test_a_generation_that_nobody_wrote_is_wrong() -> None:
    one = ledger()
    assert found(one, 0, one.content(0, 1)) is not None


def test_a_read_beside_a_write_may_find_either() -> None:
    for generation in (0, 1):
        one = ledger()
        one.begin_write(0)
        assert found(one, 0, one.content(0, generation)) is None


def test_a_read_may_find_what_was_there_when_it_began_and_what_was_begun_since() -> None:
    one = ledger()
    oldest = one.begin_read(0)
    written(one, 0)
    one.begin_write(0)
    for generation in (0, 1, 2):
        one.end_read(0, oldest, one.content(0, generation))
    assert one.errors == 0
    one.end_read(0, oldest, one.content(0, 3))
    assert one.errors == 1


def test_half_of_two_generations_is_wrong() -> None:
    one = ledger()
    one.begin_write(0)
    torn = one.content(0, 0)[: UNIT // 2] + one.content(0, 1)[UNIT // 2 :]
    assert "several generations" in str(found(one, 0, torn))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (ledger().content(UNIT, 0), "at 0 disk 0, block 8, generation 0, this run"),
        (ledger(disk=3).content(0, 0), "disk 3, block 0"),
        (ledger("earlier").content(0, 0), "another run, or no tag"),
        (bytes(UNIT), "another run, or no tag"),
        (b"", "0 bytes came"),
    ],
)
def test_what_belongs_elsewhere_is_wrong(data: bytes, words: str) -> None:
    assert words in str(found(ledger(), 0, data))


def test_one_wrong_byte_at_the_end_is_noticed() -> None:
    one = ledger()
    data = bytearray(one.content(0, 0))
    data[-1] ^= 1
    assert f"at {UNIT - BLOCK} disk 0" in str(found(one, 0, bytes(data)))


def test_the_first_error_is_kept_and_all_are_counted() -> None:
    one = ledger()
    first = found(one, 0, b"")
    assert found(one, UNIT, b"") == first
    assert one.errors == 2


def test_two_writes_of_one_unit_are_never_in_flight_together() -> None:
    one = ledger(size=3 * UNIT)
    assert [one.begin_write(2 * UNIT)[0] for _ in range(3)] == [2 * UNIT, 0, UNIT]
    with pytest.raises(RuntimeError, match="more writes in flight"):
        one.begin_write(0)
    one.end_write(UNIT)
    assert one.begin_write(0)[0] == UNIT
