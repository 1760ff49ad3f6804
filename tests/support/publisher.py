"""A plain pyzmq PUB: SIDE ENDPOINT FRAMES TOPICS.

Publishes messages of FRAMES frames, to each of TOPICS topics in turn, until it is ended or has sent
MESSAGES_MAX. A PUB can't see when its subscriber is there, so it does not wait: the subscriber takes a
run of messages out of the stream, which must be one without a gap.
"""

import sys
import time

import zmq

MESSAGES_MAX = 5_000_000
# Messages sent between two rests, so that a slow subscriber does not make this process grow fast. Not a
# multiple of the number of topics, so that a run that is lost shows in their counts.
RUN = 97

side, endpoint, frames, topics = sys.argv[1:]
context = zmq.Context()
socket = context.socket(zmq.PUB)
socket.sndhwm = 0
socket.linger = 0
if side == "bind":
    socket.bind(endpoint)
else:
    socket.connect(endpoint)
print("publishing on", socket.last_endpoint.decode().rstrip("\0"), file=sys.stderr, flush=True)
for number in range(MESSAGES_MAX):
    topic = b"SYM%03d" % (number % int(topics))
    body = b"%d.%02d" % (number, number % 100)
    if frames == "1":
        socket.send(topic + b" " + body)
    else:
        socket.send_multipart([topic, body] + [b"", b"x" * 300, b"end"][: int(frames) - 2])
    if number % RUN == 0:
        time.sleep(0.001)
