"""Talks in a room with others, by Python's websockets. Prints what it heard, as one JSON array.

usage: talk.py ws://ADDRESS ROOM NAME MEMBERS
"""

import asyncio
import json
import sys

import websockets

LONG = "long: " + "x" * 30_000


async def main(address, room, name, members):
    async with asyncio.timeout(60):
        socket = await websockets.connect(f"{address}/rooms/{room}/ws?name={name}", max_size=1 << 20)
        heard = []

        async def until(wanted):
            """The first value that is wanted; messages are kept on the way."""
            while True:
                value = json.loads(await socket.recv())
                assert value["type"] != "error", value
                if value["type"] == "message":
                    heard.append([value["seq"], value["from"]["name"], value["body"]])
                if wanted(value):
                    return value

        welcome = await until(lambda value: value["type"] == "welcome")
        assert welcome["name"] == name, welcome
        await until(lambda value: value["type"] == "joined")
        while True:
            await socket.send(json.dumps({"type": "members", "id": 1}))
            # With an id it is the answer; without, the snapshot that follows a join.
            answer = await until(lambda value: value["type"] == "members" and value.get("id") == 1)
            if answer["count"] == members:
                break
            await asyncio.sleep(0.2)

        bodies = [f"{name}: κόσμε 😀 \u2028 é", LONG, {"from": name, "list": [None, True, 1.5]}]
        for number, body in enumerate(bodies):
            await socket.send(json.dumps({"type": "send", "id": 10 + number, "key": f"k{number}", "body": body}))
        for number in range(len(bodies)):
            await until(lambda value: value["type"] == "ack" and value["id"] == 10 + number)
        while len(heard) < members * len(bodies):
            await until(lambda value: value["type"] == "message")
        assert [body for _, who, body in heard if who == name] == bodies

        # A ping of the protocol, with a payload, and one of racerd's own.
        await (await socket.ping(b"are you there"))
        await socket.send(json.dumps({"type": "ping", "id": 99}))
        await until(lambda value: value["type"] == "pong" and value["id"] == 99)
        await socket.close(4321, "done")
        assert (socket.close_code, socket.close_reason) in [(4321, ""), (4321, "done")], socket.close_code
        print(json.dumps(heard))


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
