"""A disk client and a disk server hold a session in one process, over a bytearray; see docs/embed.md."""

from protocol import Client, Server, stack
from protocol.ldc import PAGE_SIZE, LinkState, MapTable, Permission, QueueConfigured
from protocol.vdisk import SLICE_NONE, DiskAttributes, Operation, Request, build_entry, parse_entry
from protocol.vdisk.ring import ClientRing, ServerRing
from protocol.vdisk.validate import validate
from protocol.vio import RingGeometry

BLOCK = 512
disk = memoryview(bytearray(b"The quick brown fox jumps over the lazy dog. ".ljust(BLOCK) * 64))
# The client's memory: a map table in its first page, the ring in the second, a data buffer in the third.
memory = memoryview(bytearray(3 * PAGE_SIZE))
table = MapTable(memory[:PAGE_SIZE], nentries=256)
geometry = RingGeometry(num_descriptors=16, descriptor_size=64)
[ring_cookie] = table.export(PAGE_SIZE, PAGE_SIZE, Permission.R | Permission.W)
[buffer_cookie] = table.export(2 * PAGE_SIZE, PAGE_SIZE, Permission.CR | Permission.CW)
ring, buffer = ClientRing(memory[PAGE_SIZE:], geometry), memory[2 * PAGE_SIZE :]
server = Server(DiskAttributes(size_blocks=len(disk) // BLOCK, max_xfer_blocks=16))
client = Client(max_xfer_blocks=16)
served: list[ServerRing] = []


def execute(request: Request) -> tuple[int, int]:
    """The server's side of a request: its status, and how many bytes went."""
    if status := validate(request.operation, request.slice, request.addr, request.nbytes, server.announced):
        return status, 0
    reading = request.operation == Operation.BREAD
    need = Permission.CW if reading else Permission.CR
    [(at, nbytes)] = table.resolve(request.cookies[0].addr, request.nbytes, need)
    theirs, ours = memory[at : at + nbytes], disk[request.addr * BLOCK :][:nbytes]
    (theirs if reading else ours)[:] = ours if reading else theirs
    return 0, nbytes


def handle(event: object) -> None:
    """What the drivers of both ends do about what their stacks report."""
    match event:
        case stack.ChannelUp():
            client.start(sid=0x1234)
        case stack.AttributesReceived(attributes=attributes, version=version):
            print(f"version {version}, {attributes.size} bytes")
            client.register_ring(ring_cookie, geometry)
        case stack.RingOffered(cookie=cookie, geometry=offered):
            [(at, nbytes)] = table.resolve(cookie.addr, offered.nbytes, Permission.R | Permission.W)
            served.append(ServerRing(memory[at : at + nbytes], offered))
            server.accept_ring()
        case stack.DescriptorsReady(batch=batch, start_idx=index):  # one each: that is how we announce them
            served[-1].finish(index, *execute(parse_entry(served[-1].take(index))))
            server.complete(batch, index)
        case stack.DescriptorsDone(start_idx=index):
            status, nbytes = ring.reap(index)
            print(f"status {status}, {nbytes} bytes: {bytes(buffer[:43]).decode()}")


def settle() -> None:
    """Report events and carry packets until nothing moves any more."""
    moved = True
    while moved:
        moved = False
        for this, peer in ((client, server), (server, client)):
            for item in (*iter(this.next_event, None), *iter(this.next_output, None)):
                moved = True
                if isinstance(item, bytes):
                    peer.receive_packet(item)
                elif isinstance(item, QueueConfigured):
                    peer.link_state(LinkState.RESET)
                else:
                    handle(item)


server.link_state(LinkState.UP)
client.link_state(LinkState.UP)
settle()
ring.post(0, build_entry(Request(1, Operation.BREAD, SLICE_NONE, 0, BLOCK, (buffer_cookie,)), 64))
client.announce(0, 0)
settle()
