#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""proxy.py CONTROL ID=LISTEN=TARGET …: the network between members of a group that all live on one address family.

Each member listens at TARGET, the others believe it to be at LISTEN (both HOST:PORT), and what they say to each other passes
through here. Who dials is read from the hello of coordinator/net, so connections must be plain. Lines in the FIFO CONTROL:
    cut FROM TO        nothing that FROM sends reaches TO, and nobody is told; the other direction goes on
    delay FROM TO MS   everything that FROM sends reaches TO so much later
    mend               neither any more; what was under way arrives, as after a retransmission
"""
import asyncio
import os
import sys

CHUNK = 64 << 10
UNDER_WAY_MAX = 64      # chunks of a direction that are delayed; then its sender waits, as with a full window
HELLO = slice(24, 32)   # the sender's own id, behind 16 bytes of head and 8 of versions
HELLO_BYTES = 32
HELLO_S = 5


class Network:
    def __init__(self):
        self.cuts, self.delays = set(), {}
        self.changed = asyncio.Event()

    def order(self, line):
        words = line.split()
        if words[:1] == ["cut"] and len(words) == 3:
            self.cuts.add((int(words[1]), int(words[2])))
        elif words[:1] == ["delay"] and len(words) == 4:
            self.delays[int(words[1]), int(words[2])] = float(words[3]) / 1000
        elif words == ["mend"]:
            self.cuts.clear()
            self.delays.clear()
        elif words:
            print("proxy.py: not understood: " + line.strip(), file=sys.stderr, flush=True)
        self.changed.set()
        self.changed = asyncio.Event()

    async def passable(self, way):
        while way in self.cuts:
            await self.changed.wait()


async def take(network, way, reader, queue, first):
    """Read as long as there is room under way; a cut is felt here, so that its sender's window fills."""
    loop = asyncio.get_running_loop()
    data = first or await reader.read(CHUNK)
    while data:
        await network.passable(way)
        await queue.put((loop.time() + network.delays.get(way, 0), data))
        data = await reader.read(CHUNK)
    await queue.put((loop.time(), b""))


async def give(network, way, queue, writer):
    """In order, each when its time has come and the way is free."""
    while True:
        due, data = await queue.get()
        await asyncio.sleep(max(0, due - asyncio.get_running_loop().time()))
        await network.passable(way)
        if not data:
            return
        writer.write(data)
        await writer.drain()


async def carry(network, way, reader, writer, first=b""):
    queue = asyncio.Queue(UNDER_WAY_MAX)
    taking = asyncio.ensure_future(take(network, way, reader, queue, first))
    try:
        await give(network, way, queue, writer)
    finally:
        taking.cancel()


async def connection(network, member, target, reader, writer):
    """Both directions of one connection; when either ends, both do."""
    other = None
    try:
        hello = await asyncio.wait_for(reader.readexactly(HELLO_BYTES), HELLO_S)
        dialler = int.from_bytes(hello[HELLO], "little")
        host, port = target.rsplit(":", 1)
        back, other = await asyncio.open_connection(host, int(port))
        ways = [asyncio.ensure_future(carry(network, (dialler, member), reader, other, hello)),
                asyncio.ensure_future(carry(network, (member, dialler), back, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    except (OSError, EOFError, asyncio.TimeoutError):
        pass
    finally:
        for end in (writer, other):
            if end is not None:
                end.close()


async def main(control, members):
    network = Network()
    for text in members:
        member, listen, target = text.split("=")
        host, port = listen.rsplit(":", 1)

        def accept(reader, writer, member=int(member), target=target):
            return connection(network, member, target, reader, writer)

        await asyncio.start_server(accept, host, int(port))
    # Open for writing too: so it never ends when a writer goes away.
    fifo = os.open(control, os.O_RDWR | os.O_NONBLOCK)
    kept = b""

    def orders():
        nonlocal kept
        *lines, kept = (kept + os.read(fifo, CHUNK)).split(b"\n")
        for line in lines:
            network.order(line.decode())

    asyncio.get_running_loop().add_reader(fifo, orders)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
