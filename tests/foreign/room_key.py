"""Bodies of rooms with a key (docs/protocol.md, "Encrypted rooms"), by Python's cryptography.

usage: room_key.py vectors                                          prints tests/vectors/room_body.json
       room_key.py talk ws://ADDRESS PIN ROOM KEY NAME MESSAGES     talks over a sealed socket, in a room with a key

`talk` says one thing and one signal, then waits until the room holds so many messages in all. It prints what it heard, as one
JSON array of [seq, name, what was opened].
"""

import asyncio
import base64
import hashlib
import json
import os
import struct
import sys
import time

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

LARGEST = 2**53


def encode(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def decode(text):
    octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert encode(octets) == text, "not canonical"
    return octets


# XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), which `cryptography` lacks.


def rotate(value, by):
    return ((value << by) | (value >> (32 - by))) & 0xFFFFFFFF


def hchacha20(key, nonce):
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))

    def quarter(a, b, c, d):
        for first, second, third, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[first] = (state[first] + state[second]) & 0xFFFFFFFF
            state[third] = rotate(state[third] ^ state[first], by)

    for _ in range(10):
        for columns in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
            quarter(*columns)
        for diagonals in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(*diagonals)
    return struct.pack("<8I", *state[:4], *state[12:])


def cipher(key, nonce):
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])), bytes(4) + nonce[16:]


# The format.


def derived(room_key, purpose, room, length):
    info = f"racerd e2e 2 {purpose} {room}".encode()
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(room_key)


def bound(kind, room, key_id, k, target=""):
    fields = [b"racerd e2e 2", kind.encode(), room.encode(), key_id, k.encode(), target.encode()]
    return b"".join(struct.pack(">H", len(field)) + field for field in fields)


def padded(length):
    if length <= 64:
        return 64
    exponent = length.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (length + mask) & ~mask


class Fault(Exception):
    """Why a body does not open: other_key, altered, malformed or forged."""


class Room:
    def __init__(self, room_key, room):
        self.room = room
        self.key = derived(room_key, "key", room, 32)
        self.id = derived(room_key, "id", room, 16)

    def plaintext(self, kind, k, signer, stream, counter, sent, name, body):
        content = struct.pack("B", len(name)) + name + struct.pack(">I", len(body)) + body
        content += bytes(padded(len(content)) - len(content))
        signed = stream + struct.pack(">QQ", counter, sent) + content
        return signer.sign(bound(kind, self.room, self.id, k) + signed) + signed

    def encrypt(self, kind, k, nonce, plaintext):
        chacha, rest = cipher(self.key, nonce)
        return encode(chacha.encrypt(rest, plaintext, bound(kind, self.room, self.id, k)))

    def seal(self, kind, k, nonce, signer, counter, sent, name, body):
        stream = signer.public_key().public_bytes_raw()
        plaintext = self.plaintext(kind, k, signer, stream, counter, sent, name.encode(), body.encode())
        return {"e2e": 2, "i": encode(self.id), "k": k, "n": encode(nonce), "c": self.encrypt(kind, k, nonce, plaintext)}

    def open(self, kind, sealed):
        assert list(sealed) == ["e2e", "i", "k", "n", "c"] and sealed["e2e"] == 2, sealed
        if decode(sealed["i"]) != self.id:
            raise Fault("other_key")
        associated = bound(kind, self.room, self.id, sealed["k"])
        chacha, rest = cipher(self.key, decode(sealed["n"]))
        try:
            plain = chacha.decrypt(rest, decode(sealed["c"]), associated)
        except InvalidTag:
            raise Fault("altered") from None
        try:
            opened = self.parse(plain)
        except (ValueError, struct.error):
            raise Fault("malformed") from None
        try:
            Ed25519PublicKey.from_public_bytes(plain[64:96]).verify(plain[:64], associated + plain[64:])
        except InvalidSignature:
            raise Fault("forged") from None
        return opened

    @staticmethod
    def parse(plain):
        counter, sent = struct.unpack_from(">QQ", plain, 96)
        content = plain[112:]
        (name_length,) = struct.unpack_from("B", content)
        (body_length,) = struct.unpack_from(">I", content, 1 + name_length)
        end = 5 + name_length + body_length
        if not 1 <= counter <= LARGEST or sent > LARGEST or end > len(content) or len(content) != padded(end) or any(content[end:]):
            raise ValueError
        name, body = content[1 : 1 + name_length].decode(), content[5 + name_length : end].decode()
        return {"name": name, "sent": sent, "stream": encode(plain[64:96]), "counter": counter, "body": body}


# Vectors: everything random in them follows from a number.


def drawn(number, length):
    return hashlib.shake_256(f"racerd vector {number}".encode()).digest(length)


def vectors():
    texts = ["ann", "", "李 雷", "x" * 32, "🦀" * 32]
    bodies = ['{"text":"hello"}', '""', "null", '{"text":"Grüße, 世界 🦀 \\u0000 \\"quoted\\""}', '{"deep":[[],{}],"n":-1.5}']
    # On both sides of lengths at which the padding grows.
    bodies += [json.dumps("x" * length) for length in (54, 55, 100, 101, 1000, 4000)]
    ids = ["lobby", "e2e.room", "a", "e2e.Zimmer~1", "x" * 64]
    keys = ["c1-17", "k", "ключ-1", "y" * 200, encode(drawn(0, 16))]
    made = []
    for number, body in enumerate(bodies, 1):
        room_key, nonce, seed = drawn(3 * number, 32), drawn(3 * number + 1, 24), drawn(3 * number + 2, 32)
        pick = lambda values: values[number % len(values)]
        room, k, kind, name = Room(room_key, pick(ids)), pick(keys), pick(["message", "signal"]), pick(texts)
        counter, sent = (LARGEST, LARGEST) if number == 2 else (number, 1_790_000_000_000 + number)
        sealed = room.seal(kind, k, nonce, Ed25519PrivateKey.from_private_bytes(seed), counter, sent, name, body)
        assert room.open(kind, sealed)["body"] == body
        about = {"key": encode(room_key), "room": room.room, "kind": kind, "seed": encode(seed)}
        made.append(about | {"counter": counter, "sent": sent, "name": name, "body": body, "sealed": sealed})
    return {"opens": made, "faults": faults(), "padded": [[n, padded(n)] for n in [*range(0, 200), 1000, 9001, 65_535, 2**20 + 1]]}


def faults():
    room_key, nonce, signer = drawn("faults", 32), drawn("nonce", 24), Ed25519PrivateKey.from_private_bytes(drawn("seed", 32))
    other = Ed25519PrivateKey.from_private_bytes(drawn("other", 32))
    stream = signer.public_key().public_bytes_raw()
    room = Room(room_key, "r")
    good = room.seal("message", "k", nonce, signer, 7, 8, "ann", '{"text":"hello"}')
    made = []

    def add(fault, why, sealed, kind="message"):
        try:
            room.open(kind, sealed)
        except Fault as found:
            assert str(found) == fault, (why, found)
            made.append({"fault": fault, "why": why, "key": encode(room_key), "room": "r", "kind": kind, "sealed": sealed})
            return
        raise AssertionError(why)

    def encrypted(plaintext):
        return good | {"c": room.encrypt("message", "k", nonce, plaintext)}

    def plain(**changes):
        fields = {"kind": "message", "k": "k", "signer": signer, "stream": stream, "counter": 7, "sent": 8, "name": b"ann", "body": b"{}"}
        return room.plaintext(**(fields | changes))

    def signed(content):
        rest = stream + struct.pack(">QQ", 7, 8) + content
        return signer.sign(bound("message", "r", room.id, "k") + rest) + rest

    assert room.open("message", encrypted(plain()))["name"] == "ann"
    add("other_key", "another key's id", good | {"i": encode(drawn("id", 16))})
    add("other_key", "sealed with another key", Room(drawn("another", 32), "r").seal("message", "k", nonce, signer, 7, 8, "ann", "1"))
    add("other_key", "sealed for another room", Room(room_key, "r2").seal("message", "k", nonce, signer, 7, 8, "ann", "1"))
    add("altered", "another room's body under this key's id", Room(room_key, "r2").seal("message", "k", nonce, signer, 7, 8, "ann", "1") | {"i": good["i"]})
    add("altered", "a message as a signal", good, "signal")
    add("altered", "a signal as a message", room.seal("signal", "k", nonce, signer, 7, 8, "ann", "1"))
    add("altered", "another idempotency key", good | {"k": "k2"})
    add("altered", "another nonce", good | {"n": encode(drawn("n2", 24))})
    octets = bytearray(decode(good["c"]))
    octets[100] ^= 1
    add("altered", "one bit", good | {"c": encode(octets)})
    add("altered", "cut short", good | {"c": encode(octets[:-1])})
    add("altered", "nothing but a tag", good | {"c": encode(bytes(16))})
    add("malformed", "nothing inside", encrypted(b""))
    add("malformed", "a body of the first version inside", encrypted(b'{"text":"hello"}'))
    add("malformed", "no counter", encrypted(plain(counter=0)))
    add("malformed", "a counter past the largest", encrypted(plain(counter=LARGEST + 1)))
    add("malformed", "a date past the largest", encrypted(plain(sent=LARGEST + 1)))
    add("malformed", "a name that is not UTF-8", encrypted(plain(name=b"\xff")))
    add("malformed", "a body that is not UTF-8", encrypted(plain(body=b'"\xff"')))
    add("malformed", "a name longer than all", encrypted(signed(b"\xff" + bytes(63))))
    add("malformed", "a body longer than all", encrypted(signed(b"\x00\xff\xff\xff\xff" + bytes(59))))
    add("malformed", "no padding", encrypted(signed(b"\x00\x00\x00\x00\x021" + b"1")))
    add("malformed", "too much padding", encrypted(signed(b"\x00\x00\x00\x00\x021" + b"1" + bytes(65))))
    add("malformed", "something in the padding", encrypted(signed(b"\x00\x00\x00\x00\x011" + bytes(57) + b"x")))
    add("forged", "signed by another", encrypted(plain(signer=other)))
    add("forged", "another's stream", encrypted(plain(stream=other.public_key().public_bytes_raw())))
    add("forged", "signed as a signal", encrypted(plain(kind="signal")))
    add("forged", "signed under another idempotency key", encrypted(plain(k="k2")))
    genuine = plain()
    add("forged", "another counter", encrypted(genuine[:96] + struct.pack(">Q", 8) + genuine[104:]))
    add("forged", "another date", encrypted(genuine[:104] + struct.pack(">Q", 9) + genuine[112:]))
    add("forged", "another name", encrypted(genuine.replace(b"ann", b"eve")))
    add("forged", "a signature of nothing", encrypted(bytes(64) + genuine[64:]))
    return made


async def talk(address, pin, room_id, key, name, messages):
    from sealed import connect

    room, stream = Room(decode(key), room_id), Ed25519PrivateKey.generate()
    signals = Ed25519PrivateKey.generate()
    async with asyncio.timeout(60):
        sealed = await connect(address, pin)
        heard = []
        await sealed.until(lambda value: value["type"] == "welcome", heard)
        await sealed.send({"type": "join", "id": 1, "room": room_id, "name": name, "last": 50})
        await sealed.until(lambda value: value["type"] == "joined" and value["id"] == 1, heard)

        def body(kind, signer, text):
            said = json.dumps({"text": text}, ensure_ascii=False)
            return room.seal(kind, encode(os.urandom(16)), os.urandom(24), signer, 1, int(time.time() * 1000), name, said)

        said = body("message", stream, f"from {name}: κόσμε")
        await sealed.send({"type": "send", "id": 2, "room": room_id, "key": said["k"], "body": said})
        await sealed.send({"type": "signal", "room": room_id, "body": body("signal", signals, "typing")})
        while len(heard) < messages:
            await sealed.until(lambda value: value["type"] == "message", heard)
        await sealed.send({"type": "end"})
        closing = await sealed.until(lambda value: value["type"] == "closing", heard)
        assert closing["code"] == 1000, closing
        print(json.dumps([[seq, who, room.open("message", body)] for seq, who, body in heard]))


if sys.argv[1] == "vectors":
    text = json.dumps(vectors(), ensure_ascii=False, separators=(",", ":"))
    print(text.replace('{"key"', '\n{"key"').replace('{"fault"', '\n{"fault"').replace(',"faults"', ',\n"faults"').replace(',"padded"', ',\n"padded"'))
else:
    asyncio.run(talk(*sys.argv[2:7], int(sys.argv[7])))
