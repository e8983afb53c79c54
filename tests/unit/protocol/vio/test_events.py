"""Events are values: nobody who got one can change it, or hang something on it."""

from __future__ import annotations

import pytest

from protocol.ldc.cookie import Cookie
from protocol.vio import events
from protocol.vio.dring import RingGeometry
from protocol.vio.messages import Version

BY_NAME: list[tuple[type, dict[str, object]]] = [
    (events.Negotiated, {"version": Version(1, 1), "xfer_mode": 3, "block_size": 512, "max_xfer": 1 << 20}),
    (events.RingOffered, {"cookie": Cookie(0, 8192), "geometry": RingGeometry(4, 64)}),
    (events.SessionReset, {"cause": "why", "full": True}),
    (events.SessionLost, {"cause": "why"}),
]
IN_ORDER: list[tuple[type, dict[str, object]]] = [
    (events.DescriptorsReady, {"batch": 1, "start_idx": 2, "count": 3}),
    (events.RangeOpened, {"batch": 1, "start_idx": 2}),
    (events.RangeStopped, {"next_idx": 3}),
    (events.DoorbellRung, {}),
    (events.ChannelUp, {}),
    (events.DescriptorsDone, {"start_idx": 1, "end_idx": 2}),
    (events.Woken, {}),
]
NOT_FROZEN = {
    events.DescriptorsReady,
    events.RangeOpened,
}  # made for each request, where freezing would cost too much


def test_every_event_is_looked_at() -> None:
    assert {event.__name__ for event, _ in BY_NAME + IN_ORDER} == set(events.__all__)


@pytest.mark.parametrize(("event", "fields"), BY_NAME + IN_ORDER)
def test_an_event_is_what_it_was_made_of(event: type, fields: dict[str, object]) -> None:
    made = event(**fields)
    assert made == event(**fields)
    assert {name: getattr(made, name) for name in fields} == fields
    assert not hasattr(made, "__dict__")


@pytest.mark.parametrize(("event", "fields"), BY_NAME + IN_ORDER)
def test_an_event_cannot_be_changed(event: type, fields: dict[str, object]) -> None:
    made = event(**fields)
    if event in NOT_FROZEN:
        with pytest.raises(TypeError):
            hash(made)
        return
    assert hash(made) == hash(event(**fields))
    for name in fields:
        with pytest.raises(AttributeError):
            setattr(made, name, None)


@pytest.mark.parametrize(("event", "fields"), BY_NAME)
def test_fields_that_could_be_mixed_up_are_given_by_name(event: type, fields: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        event(*fields.values())


@pytest.mark.parametrize(("event", "fields"), IN_ORDER)
def test_events_of_the_data_path_are_made_in_order(event: type, fields: dict[str, object]) -> None:
    assert event(*fields.values()) == event(**fields)
