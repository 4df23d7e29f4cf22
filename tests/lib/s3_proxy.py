#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""s3_proxy.py HOST:PORT TARGET_HOST:PORT MODE_FILE: a bad network, and a bad server, between a client and an S3 server.

The first word of MODE_FILE says what happens to connections, a number behind it how soon; when it changes they end:
    pass            nothing
    slow            each request is answered 503 SlowDown
    reset BYTES     it is reset after as many bytes in either direction, at random
    short BYTES     the server's answers end after as many bytes, at random
    flip-up BYTES   one byte on the way to the server is another, behind as many bytes, at random
    flip-down BYTES the same on the way back
    flip-downs BYTES  the same again and again
What happened is counted: one line a connection on stdout, "MODE" when it took effect.
"""
import asyncio
import random
import socket
import struct
import sys

CHUNK = 64 << 10
SLOW_BODY = b"<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>slow down</Message></Error>"
SLOW = (b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        % len(SLOW_BODY)) + SLOW_BODY


class Ended(Exception):
    pass


def read_mode(mode_file):
    with open(mode_file, encoding="ascii") as file:
        return file.read()


class Connection:
    def __init__(self, mode_file):
        self.mode_file, self.text = mode_file, read_mode(mode_file)
        self.mode, *most = self.text.split()
        self.most = int(most[0]) if most else 1
        self.left = random.randint(1, self.most)

    def effect(self):
        print(self.mode, flush=True)
        self.left = random.randint(1, self.most) if self.mode == "flip-downs" else None

    def change(self, up, data):
        """What becomes of data on its way. Raises Ended when the connection does."""
        if read_mode(self.mode_file) != self.text:
            raise Ended(b"")
        concerns = {"reset": True, "short": not up, "flip-up": up, "flip-down": not up, "flip-downs": not up}.get(self.mode, False)
        if not concerns or self.left is None:
            return data
        if len(data) <= self.left:
            self.left -= len(data)
            return data
        at = self.left
        self.effect()
        if self.mode in ("flip-up", "flip-down", "flip-downs"):
            return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1:]
        raise Ended(data[:at] if self.mode == "short" else b"")


def reset(writer):
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def carry(connection, up, reader, writer):
    while True:
        data = await reader.read(CHUNK)
        if not data:
            return
        try:
            writer.write(connection.change(up, data))
        except Ended as end:
            writer.write(end.args[0])
            await writer.drain()
            return
        await writer.drain()


async def answer_slow(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(SLOW)
    await writer.drain()
    print("slow", flush=True)


async def serve(target, mode_file, reader, writer):
    connection = Connection(mode_file)
    mode, back = connection.mode, None
    try:
        if mode == "slow":
            await answer_slow(reader, writer)
            return
        from_server, back = await asyncio.open_connection(*target)
        ways = [asyncio.ensure_future(carry(connection, True, reader, back)),
                asyncio.ensure_future(carry(connection, False, from_server, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        if mode == "reset" and connection.left is None:
            reset(writer)
    except (OSError, EOFError):
        pass
    finally:
        for end in (writer, back):
            if end is not None:
                end.close()


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


async def main(listen, target, mode_file):
    server = await asyncio.start_server(lambda r, w: serve(address(target), mode_file, r, w), *address(listen))
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
