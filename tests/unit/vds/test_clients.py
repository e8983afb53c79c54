"""vds.clients: who may use which client id."""

from __future__ import annotations

from vds.clients import Clients


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_first_secret_is_the_one() -> None:
    clients = Clients(10)
    assert clients.claim(_id(1), b"s" * 16)
    assert clients.claim(_id(1), b"s" * 16)
    assert not clients.claim(_id(1), b"t" * 16)
    assert clients.claim(_id(2), b"t" * 16)


def test_idle_clients_are_forgotten_oldest_first() -> None:
    clients = Clients(2)
    for number in (1, 2, 1, 3):
        clients.claim(_id(number), b"s" * 16)
    assert len(clients) == 2
    assert not clients.claim(_id(1), b"other" + bytes(11))
    assert clients.claim(_id(2), b"other" + bytes(11))


def test_clients_with_a_session_are_remembered() -> None:
    clients = Clients(1)
    clients.claim(_id(1), b"s" * 16)
    clients.joined(_id(1))
    clients.joined(_id(1))
    for number in range(2, 50):
        clients.claim(_id(number), b"s" * 16)
    assert len(clients) == 2
    clients.left(_id(1))
    assert not clients.claim(_id(1), b"t" * 16)
    clients.left(_id(1))
    assert len(clients) == 1
