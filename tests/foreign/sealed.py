"""Talks over a sealed socket, by Python's websockets and noiseprotocol. Prints what it heard, as one JSON array.

usage: sealed.py ws://ADDRESS PIN ROOM NAME MESSAGES

It says three things, then waits until the room holds so many messages in all. Then it pings.
"""

import asyncio
import base64
import json
import sys

import websockets
from noise.connection import Keypair, NoiseConnection

REKEY_AFTER = 65_536
# So many pings are on their way together.
TOGETHER = 100
PINGS = 1000


class Sealed:
    """One sealed socket after its handshake."""

    def __init__(self, socket, noise):
        self.socket, self.noise = socket, noise
        self.sent = self.received = 0
        self.waiting = []

    async def send(self, *values):
        if self.sent and self.sent % REKEY_AFTER == 0:
            self.noise.noise_protocol.cipher_state_encrypt.rekey()
        self.sent += 1
        text = "".join(json.dumps(value) + "\n" for value in values)
        await self.socket.send(self.noise.encrypt(text.encode()))

    async def next(self):
        while not self.waiting:
            sealed = await self.socket.recv()
            assert isinstance(sealed, bytes), sealed
            if self.received and self.received % REKEY_AFTER == 0:
                self.noise.noise_protocol.cipher_state_decrypt.rekey()
            self.received += 1
            text = self.noise.decrypt(sealed).decode()
            assert text.endswith("\n"), text
            self.waiting = [json.loads(line) for line in text[:-1].split("\n")]
        return self.waiting.pop(0)

    async def until(self, wanted, heard):
        """The first value that is wanted; messages are kept on the way."""
        while True:
            value = await self.next()
            assert value["type"] != "error", value
            if value["type"] == "message":
                heard.append([value["seq"], value["from"]["name"], value["body"]])
            if wanted(value):
                return value


async def connect(address, pin):
    noise = NoiseConnection.from_name(b"Noise_NK_25519_ChaChaPoly_SHA256")
    noise.set_as_initiator()
    noise.set_prologue(b"racerd.v1.sealed")
    noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, base64.urlsafe_b64decode(pin + "="))
    noise.start_handshake()
    socket = await websockets.connect(f"{address}/ws", subprotocols=["racerd.v1.sealed"], max_size=65_535)
    assert socket.subprotocol == "racerd.v1.sealed"
    await socket.send(noise.write_message())
    assert noise.read_message(await socket.recv()) == b""
    return Sealed(socket, noise)


async def main(address, pin, room, name, messages):
    async with asyncio.timeout(120):
        sealed = await connect(address, pin)
        heard = []
        await sealed.until(lambda value: value["type"] == "welcome", heard)
        await sealed.send({"type": "join", "id": 1, "room": room, "name": name})
        welcome = await sealed.until(lambda value: value["type"] == "welcome", heard)
        assert welcome["name"] == name, welcome
        await sealed.until(lambda value: value["type"] == "joined" and value["id"] == 1, heard)
        bodies = [f"{name}: \u03ba\u1f79\u03c3\u03bc\u03b5 \n", "long: " + "x" * 30_000, {"from": name, "list": [None, True, 1.5]}]
        for number, body in enumerate(bodies):
            await sealed.send({"type": "send", "id": 10 + number, "room": room, "key": f"{name}-{number}", "body": body})
        while len(heard) < messages:
            await sealed.until(lambda value: value["type"] == "message", heard)
        assert [body for _, who, body in heard if who == name] == bodies

        number = 100
        while sealed.sent < PINGS:
            for _ in range(TOGETHER):
                number += 1
                await sealed.send({"type": "ping", "id": number})
            last = number
            await sealed.until(lambda value: value["type"] == "pong" and value["id"] == last, heard)
        await sealed.socket.close(4321, "done")
        print(json.dumps([heard, sealed.sent, sealed.received]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])))
