"""Runs atheris on one target, in a process of its own: ``python -m tests.fuzz.engine TARGET ARGUMENT...``.

The arguments are libFuzzer's. Only what is under test is instrumented, so that inputs are kept for what they
do there and not for what they do to the target. It never returns: libFuzzer ends the process, with status 0
if nothing was found.
"""

from __future__ import annotations

import shlex
import sys

import atheris


def main() -> None:
    """Import the target with its coverage measured, and fuzz it."""
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["protocol", "hypervisor"]):
        from tests.fuzz.targets import TARGETS
    again = f"{shlex.quote(sys.executable)} -m tests.fuzz.engine {name}"  # a merge calls argv[0] with a shell
    atheris.Setup([again, *sys.argv[1:]], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
