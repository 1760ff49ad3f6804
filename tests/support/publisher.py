"""A plain pyzmq PUB: SIDE ENDPOINT FRAMES MESSAGES TOPICS.

Publishes MESSAGES messages of FRAMES frames over TOPICS topics once a subscriber is there. It starts
as XPUB only to see the subscription; PUB is the same socket without that.
"""

import sys

import zmq

side, endpoint, frames, messages, topics = sys.argv[1:]
context = zmq.Context()
socket = context.socket(zmq.XPUB)
socket.sndhwm = 0
socket.linger = 10_000
if side == "bind":
    socket.bind(endpoint)
else:
    socket.connect(endpoint)
print("publishing on", socket.last_endpoint.decode().rstrip("\0"), file=sys.stderr, flush=True)
socket.recv()
for number in range(int(messages)):
    topic = b"SYM%03d" % (number % int(topics))
    body = b"%d.%02d" % (number, number % 100)
    if frames == "1":
        socket.send(topic + b" " + body)
    else:
        socket.send_multipart([topic, body] + [b"", b"x" * 300, b"end"][: int(frames) - 2])
socket.close()
context.term()
