"""Says who it is, by Python's websockets: in a header, in a frame, and with a token that nobody has.

usage: known.py ws://ADDRESS ROOM TOKEN
"""

import asyncio
import json
import sys

import websockets


async def heard(socket, kind):
    while True:
        value = json.loads(await socket.recv())
        if value["type"] == kind:
            return value


async def main(address, room, token):
    async with asyncio.timeout(60):
        url = f"{address}/rooms/{room}/ws"
        header = await websockets.connect(url, additional_headers={"Authorization": f"Bearer {token}"})
        frame = await websockets.connect(f"{url}?auth=first")
        await frame.send(json.dumps({"type": "auth", "id": 1, "token": token}))
        for socket, text in (header, "by a header"), (frame, "by a frame"):
            welcome = await heard(socket, "welcome")
            assert welcome["sub"] == "file:bot" and welcome["name"] == "Bot", welcome
            await heard(socket, "joined")
            await socket.send(json.dumps({"type": "send", "id": 2, "key": text, "body": text}))
            await heard(socket, "ack")
        for wrong in {}, {"Authorization": "Bearer nobody"}:
            try:
                await websockets.connect(url, additional_headers=wrong)
                raise SystemExit(f"{wrong} was let in")
            except websockets.exceptions.InvalidStatus as refused:
                assert refused.response.status_code == 401, refused
                assert refused.response.headers["WWW-Authenticate"].startswith("Bearer"), refused
        await header.close()
        await frame.close()
    print("done")


asyncio.run(main(*sys.argv[1:]))
