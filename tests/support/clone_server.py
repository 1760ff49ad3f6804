"""A small Clone server as the Guide's fifth and sixth models describe it.

usage: clone_server.py push|pub
Prints "serving on ENDPOINT", and serves until it is killed.
"""

import struct
import sys
import time

import zmq

context = zmq.Context()


def bind():
    for port in range(20000, 60000, 7):
        sockets = [context.socket(kind) for kind in (zmq.ROUTER, zmq.PUB, zmq.PULL if sys.argv[1] == "push" else zmq.SUB)]
        try:
            for offset, socket in enumerate(sockets):
                socket.linger = 0
                socket.bind(f"tcp://127.0.0.1:{port + offset}")
            return port, sockets
        except zmq.ZMQError:
            for socket in sockets:
                socket.close()
    raise SystemExit("no free ports")


port, (snapshot, publisher, collector) = bind()
if sys.argv[1] == "pub":
    collector.setsockopt(zmq.SUBSCRIBE, b"")
print(f"serving on tcp://127.0.0.1:{port}", file=sys.stderr, flush=True)

state, sequence, hugz_due = {}, 0, 0
poller = zmq.Poller()
poller.register(snapshot, zmq.POLLIN)
poller.register(collector, zmq.POLLIN)
while True:
    ready = dict(poller.poll(100))
    if collector in ready:
        key, _, identity, properties, body = collector.recv_multipart()
        sequence += 1
        message = [key, struct.pack("!q", sequence), identity, properties, body]
        publisher.send_multipart(message)
        if body:
            state[key] = message
        else:
            state.pop(key, None)
    if snapshot in ready:
        identity, request, subtree = snapshot.recv_multipart()
        assert request == b"ICANHAZ?"
        for key, message in state.items():
            if key.startswith(subtree):
                snapshot.send_multipart([identity] + message)
        end = [b"KTHXBAI", struct.pack("!q", sequence), bytes(16), b"", subtree]
        snapshot.send_multipart([identity] + end)
    if time.time() >= hugz_due:
        hugz_due = time.time() + 1
        publisher.send_multipart([b"HUGZ", struct.pack("!q", sequence), bytes(16), b"", b""])
