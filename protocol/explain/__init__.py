"""What packets and captures mean, layer by layer, in words; above the stack, and pure like all of it.

Two entrances: :func:`explain_packet` for one packet by itself, :class:`Trace` for a capture, which is watched
from its beginning: both ends of every channel, their link, session, messages and requests. What breaks a rule
is a line that begins with ``warning:`` and names the rule; what a driver does that is odd and allowed is a
``remark:``.

lines, rules         what is printed, and the rules that can be broken
structure            any structure, field by field
packet, message, request    one of them by itself
link, session, data, requests    one after the other, by channel
tally, trace         what is counted; a whole capture
"""

from .lines import Line, render
from .packet import explain_packet
from .rules import Rule
from .trace import Paragraph, Trace

__all__ = ["Line", "Paragraph", "Rule", "Trace", "explain_packet", "render"]
