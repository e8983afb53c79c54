"""Captures: what two ends said and did, as a pcapng file; stands beside the stack and above all its layers.

A capture holds every LDC packet and, because a descriptor ring says more than the packets about it, a *note*
for each descriptor handed over: when it was submitted, taken, finished, and its answer taken. One interface
stands for one channel at one end. **A frame of exactly 64 bytes is an LDC packet as sent, a frame of any
other length is a note.**

pcapng        the blocks of the file: layouts, and how they are built
notes         what is said of descriptors and queues besides packets
reader        bytes of a file in, interfaces and frames out

``docs/reference/capture.md`` is the public description; a test holds its tables equal to these layouts.
"""

from .notes import How, Note, NoteKind, NoteLayout, build_note, parse_note, used_part
from .pcapng import LINKTYPE, Direction, build_frame, build_interface, build_section
from .reader import Event, Frame, Interface, Reader

__all__ = [
    "LINKTYPE",
    "Direction",
    "Event",
    "Frame",
    "How",
    "Interface",
    "Note",
    "NoteKind",
    "NoteLayout",
    "Reader",
    "build_frame",
    "build_interface",
    "build_note",
    "build_section",
    "parse_note",
    "used_part",
]
