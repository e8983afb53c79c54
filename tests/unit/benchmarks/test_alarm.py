"""Waking up at a given time, by a timer of Linux."""

import asyncio
from time import perf_counter_ns

from benchmarks.alarm import Alarm

MS = 1_000_000


async def test_nobody_wakes_before_the_time() -> None:
    when = perf_counter_ns() + 5 * MS
    with Alarm(asyncio.get_running_loop()) as alarm:
        await alarm.until(when)
        assert perf_counter_ns() >= when


async def test_what_is_past_is_not_waited_for() -> None:
    with Alarm(asyncio.get_running_loop()) as alarm:
        await asyncio.wait_for(alarm.until(perf_counter_ns() - 1), 10)
        await asyncio.wait_for(alarm.until(0), 10)


async def test_several_wake_in_the_order_of_their_times_whoever_came_first() -> None:
    begin = perf_counter_ns()
    woken: list[int] = []

    async def sleeper(alarm: Alarm, after_ms: int) -> None:
        await alarm.until(begin + after_ms * MS)
        woken.append(after_ms)

    with Alarm(asyncio.get_running_loop()) as alarm:
        async with asyncio.TaskGroup() as tasks:
            for after_ms in (30, 10, 20, 40):
                tasks.create_task(sleeper(alarm, after_ms))
    assert woken == [10, 20, 30, 40]


async def test_one_that_gave_up_does_not_keep_the_others_asleep() -> None:
    with Alarm(asyncio.get_running_loop()) as alarm:
        gone = asyncio.ensure_future(alarm.until(perf_counter_ns() + 5 * MS))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait_for(alarm.until(perf_counter_ns() + 10 * MS), 10)
