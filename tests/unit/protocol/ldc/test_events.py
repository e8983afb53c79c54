"""Events of a link are values: nobody who got one can change it, or hang something on it."""

from __future__ import annotations

import pytest

from protocol.ldc import events

FIELDS: list[tuple[type, dict[str, object]]] = [
    (events.LinkUp, {}),
    (events.LinkReset, {"cause": "why"}),
    (events.LinkDown, {}),
    (events.MessageReceived, {"data": b"message"}),
    (events.StreamReceived, {"data": b"bytes"}),
    (events.QueueConfigured, {}),
]


def test_every_event_is_looked_at() -> None:
    aside = {"EventCode", "LinkEvent", "LinkState"}
    assert {event.__name__ for event, _ in FIELDS} == set(events.__all__) - aside


@pytest.mark.parametrize(("event", "fields"), FIELDS)
def test_an_event_is_a_value(event: type, fields: dict[str, object]) -> None:
    made = event(**fields)
    assert made == event(*fields.values())
    assert hash(made) == hash(event(**fields))
    assert not hasattr(made, "__dict__")
    for name, value in fields.items():
        assert getattr(made, name) == value
        with pytest.raises(AttributeError):
            setattr(made, name, None)
