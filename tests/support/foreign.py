"""A pyzmq publisher in the shape of one that exists: FORMAT SIDE ENDPOINT.

Publishes until it is ended or has sent MESSAGES_MAX. A PUB can't see when its subscriber is there, so it
does not wait: the subscriber takes a run of messages out of the stream. Message N has N in its payload.
"""

import json
import struct
import sys
import time
import uuid
import zlib

import zmq

MESSAGES_MAX = 1_000_000
# Messages sent between two rests, so that a slow subscriber does not make this process grow fast.
RUN = 97
START_S = 1_596_452_605

kind, side, endpoint = sys.argv[1:]


def bitcoind(number):
    """Three frames: topic, body, and a counter of the topic's own messages."""
    topics = [b"hashblock", b"hashtx", b"rawtx"]
    topic = topics[number % len(topics)]
    return [topic, b"%d" % number, struct.pack("<I", number // len(topics))]


def kvmsg(number):
    """Five frames, numbered over all keys; every tenth is a heartbeat without a number."""
    if number % 10 == 9:
        return [b"HUGZ", struct.pack("!q", 0), b"", b"", b""]
    sequence = number - number // 10 + 1
    key = b"key%d" % (number % 7)
    return [key, struct.pack("!q", sequence), uuid.uuid4().bytes, b"ttl=10\n", b"%d" % number]


def cryptofeed(number):
    """One frame: the topic up to a space, then JSON with seconds as a float."""
    symbol = ["BTC-USD", "BTC-USDT"][number % 2]
    time_s = START_S + number / 4
    fields = {
        "exchange": "COINBASE",
        "symbol": symbol,
        "receipt_timestamp": time_s + 60,
        "timestamp": time_s,
        "amount": number,
    }
    return [("COINBASE-trades-%s %s" % (symbol, json.dumps(fields))).encode()]


def eddn(number):
    """One frame of zlib, without a topic."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(START_S + number))
    message = {
        "$schemaRef": "https://eddn.edcd.io/schemas/commodity/3",
        "header": {"gatewayTimestamp": stamp + ".250000Z", "uploaderID": "x" * 40},
        "message": {"number": number, "commodities": ["gold", "silver"] * 20},
    }
    return [zlib.compress(json.dumps(message).encode())]


def dwx(number):
    """One frame: symbol, delimiter, prices."""
    symbol = ["EURUSD", "EURUSDX", "GBPUSD"][number % 3]
    return [b"%s:|:%d;%d.5" % (symbol.encode(), number, number)]


def pushed(number):
    """One frame of JSON, as PUSH sends it."""
    return [json.dumps({"number": number}).encode()]


make = {function.__name__: function for function in [bitcoind, kvmsg, cryptofeed, eddn, dwx, pushed]}[kind]
context = zmq.Context()
socket = context.socket(zmq.PUSH if kind == "pushed" else zmq.PUB)
socket.linger = 0
if kind != "pushed":
    socket.sndhwm = 0
if side == "bind":
    socket.bind(endpoint)
else:
    socket.connect(endpoint)
print("publishing on", socket.last_endpoint.decode().rstrip("\0"), file=sys.stderr, flush=True)
for number in range(MESSAGES_MAX):
    socket.send_multipart(make(number))
    if number % RUN == 0:
        time.sleep(0.001)
