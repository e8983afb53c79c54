"""A disk server of one's own over the real transport; see docs/embed.md."""

import argparse
import errno
import select
from contextlib import closing

from hypervisor import Channel, Listener, MappedMemory, MapTableRecord, Welcome
from protocol import ChannelLost, RemoteProtocolError, Server, stack
from protocol.ldc import LinkState, Permission
from protocol.vdisk import DiskAttributes, Operation, Request, ServerRing, mask_of, parse_entry
from protocol.vdisk.validate import clip, validate
from protocol.vio import NO_EXTENSION

disk = memoryview(bytearray(16 << 20))
OPERATIONS = mask_of((Operation.BREAD, Operation.BWRITE, Operation.FLUSH))
ATTRIBUTES = DiskAttributes(size_blocks=len(disk) // 512, max_xfer_blocks=256, operations=OPERATIONS)
WELCOME = Welcome(extensions=NO_EXTENSION, instance=bytes(16), poll_us=0)


def execute(request: Request, memory: MappedMemory) -> tuple[int, int]:
    """Carry a request out: its status, and how many bytes went."""
    status = validate(request.operation, request.slice, request.addr, request.nbytes, ATTRIBUTES)
    if status or request.operation == Operation.FLUSH:
        return status, 0
    reading = request.operation == Operation.BREAD
    at, left = request.addr * ATTRIBUTES.block_size, clip(request.addr, request.nbytes, ATTRIBUTES)
    for view in memory.views(request.cookies, request.nbytes, Permission.CW if reading else Permission.CR):
        theirs, ours = view[:left], disk[at : at + min(left, len(view))]
        (theirs if reading else ours)[:] = ours if reading else theirs
        at, left = at + len(ours), left - len(ours)
    return 0, clip(request.addr, request.nbytes, ATTRIBUTES)


def converse(channel: Channel, memory: MappedMemory) -> None:
    """Serve one client until it hangs up."""
    server, rings = Server(ATTRIBUTES), list[ServerRing]()
    channel.queue_configured()
    while select.select([channel], [], []):
        for item in channel.receive():
            if isinstance(item, bytes):
                server.receive_packet(item)
            elif isinstance(item, LinkState):
                server.link_state(item)
            elif isinstance(item, MapTableRecord):
                memory.set_map_table(item.base, item.nentries)
            while event := server.next_event():
                match event:
                    case stack.RingOffered(cookie=cookie, geometry=ring):
                        rings[:] = [ServerRing(memory.map_ring(cookie, ring.nbytes), ring)]
                        server.accept_ring()
                    case stack.DescriptorsReady(batch=batch, start_idx=start, count=count):
                        for number in range(start, start + count):
                            index = number % rings[0].geometry.num_descriptors
                            rings[0].finish(index, *execute(parse_entry(rings[0].take(index)), memory))
                            server.complete(batch, index)
                    case stack.SessionReset():  # nothing of the session still runs
                        server.reset_done()
            for output in iter(server.next_output, None):
                channel.send_packet(output) if isinstance(output, bytes) else channel.queue_configured()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("socket", metavar="SOCKET")
listener = Listener(parser.parse_args().socket)
while select.select([listener], [], []):
    if pending := listener.accept():
        try:
            with closing(pending):  # and with it the channel, which has the same socket
                while not (greeting := pending.receive()):
                    select.select([pending], [], [])
                hello, fd = greeting
                if fd is None:
                    pending.refuse(errno.EOPNOTSUPP, "only shared memory here")
                else:
                    with closing(MappedMemory(fd, hello.memory_size)) as memory:
                        converse(Channel(pending.welcome(WELCOME)), memory)
        except (ChannelLost, RemoteProtocolError) as cause:
            print(f"the client is gone: {cause}", flush=True)
