"""What is fuzzed: each module has a function ``fuzz_one(data)``, which knows nothing of the fuzzer.

It returns, or raises, and then has found something: a decoder may refuse what a peer sends with
RemoteProtocolError and in no other way, and that never leaves ``fuzz_one``.
"""

from collections.abc import Callable
from typing import Final

from . import both_stacks, captures, client_stack, decoders, link, records, server_stack

__all__ = ["TARGETS"]

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "decoders": decoders.fuzz_one,
    "link": link.fuzz_one,
    "server_stack": server_stack.fuzz_one,
    "client_stack": client_stack.fuzz_one,
    "both_stacks": both_stacks.fuzz_one,
    "records": records.fuzz_one,
    "captures": captures.fuzz_one,
}
"""Name → what is run on each input."""
