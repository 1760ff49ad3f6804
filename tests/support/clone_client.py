"""Speaks the Clone protocol as the Guide's Python does, written against its description.

usage: clone_client.py ENDPOINT push|pub SCENARIO
Prints one line for each thing seen, then exits 0.
"""

import struct
import sys
import time
import uuid

import zmq


def port_behind(endpoint, offset):
    host, port = endpoint.rsplit(":", 1)
    return f"{host}:{int(port) + offset}"


class Clone:
    def __init__(self, endpoint, collector, subtree=b""):
        self.context = zmq.Context()
        self.snapshot = self.socket(zmq.DEALER)
        self.subscriber = self.socket(zmq.SUB)
        self.subscriber.setsockopt(zmq.SUBSCRIBE, subtree)
        self.subscriber.setsockopt(zmq.SUBSCRIBE, b"HUGZ")
        self.publisher = self.socket(zmq.PUSH if collector == "push" else zmq.PUB)
        self.snapshot.connect(endpoint)
        self.subscriber.connect(port_behind(endpoint, 1))
        self.publisher.connect(port_behind(endpoint, 2))
        self.subtree = subtree
        self.state = {}
        self.sequence = 0

    def socket(self, kind):
        socket = self.context.socket(kind)
        socket.linger = 1000
        socket.rcvtimeo = 20000
        socket.sndtimeo = 20000
        return socket

    def receive(self, socket):
        key, sequence, identity, properties, body = socket.recv_multipart()
        (sequence,) = struct.unpack("!q", sequence)
        assert len(identity) == 16, identity
        return key, sequence, identity, properties, body

    def synchronise(self):
        # The first heartbeat shows that the subscription holds.
        while self.receive(self.subscriber)[0] != b"HUGZ":
            pass
        self.snapshot.send_multipart([b"ICANHAZ?", self.subtree])
        while True:
            key, sequence, _, _, body = self.receive(self.snapshot)
            if key == b"KTHXBAI":
                assert body == self.subtree, body
                self.sequence = sequence
                return
            assert key.startswith(self.subtree)
            self.state[key] = body

    def update(self, key, body, properties=b"", identity=None):
        identity = identity or uuid.uuid4().bytes
        self.publisher.send_multipart([key, struct.pack("!q", 0), identity, properties, body])
        return identity

    def next_update(self):
        while True:
            message = self.receive(self.subscriber)
            if message[0] == b"HUGZ":
                continue
            if message[1] > self.sequence:
                self.sequence = message[1]
                if message[4]:
                    self.state[message[0]] = message[4]
                else:
                    self.state.pop(message[0], None)
                return message

    def await_update(self, identity):
        while True:
            message = self.next_update()
            if message[2] == identity:
                return message


def lasting(clone, key, body):
    """Sends an update until it is published: what PUB sends before it is connected is lost."""
    identity = uuid.uuid4().bytes
    clone.subscriber.rcvtimeo = 300
    for _ in range(60):
        clone.update(key, body, b"color=red\n", identity)
        try:
            message = clone.await_update(identity)
        except zmq.Again:
            continue
        clone.subscriber.rcvtimeo = 20000
        return message
    raise AssertionError("never published")


def protocol(endpoint, collector):
    clone = Clone(endpoint, collector)
    clone.synchronise()
    first = lasting(clone, b"/client/1", b"one")
    assert first[3:] == (b"color=red\n", b"one"), first
    again = clone.update(b"/client/2", b"two")
    assert clone.await_update(again)[1] == first[1] + 1
    other = clone.update(b"/other/1", b"three")
    clone.await_update(other)

    # Below a subtree: what is there, and what comes.
    below = Clone(endpoint, collector, b"/client/")
    below.synchronise()
    assert below.state == {b"/client/1": b"one", b"/client/2": b"two"}, below.state
    clone.update(b"/other/2", b"four")
    last = clone.update(b"/client/2", b"five")
    assert below.next_update()[2] == last

    # An empty body deletes, and a ttl does so later.
    deletion = clone.update(b"/client/1", b"")
    clone.await_update(deletion)
    started = time.time()
    mortal = clone.update(b"/client/3", b"mortal", b"ttl=0.5\nkind=brief\n")
    assert clone.await_update(mortal)[3] == b"ttl=0.5\nkind=brief\n"
    key, _, _, _, body = clone.next_update()
    assert (key, body) == (b"/client/3", b"")
    assert time.time() - started >= 0.5

    # What is not understood does no harm.
    for frames in [[b"NONSENSE"], [b"ICANHAZ?", b"", b"", b""], [b""], [b"ICANHAZ", b""]]:
        clone.snapshot.send_multipart(frames)
    bad = struct.pack("!q", 0)
    one = uuid.uuid4().bytes
    for frames in [
        [b"only a key"],
        [b"/bad/1", b"short", one, b"", b"x"],
        [b"/bad/2", bad, b"short", b"", b"x"],
        [b"/bad/3", bad, one, b"ttl=soon\n", b"x"],
        [b"/bad/4", bad, one, b"ttl=-1\n", b"x"],
        [b"k" * 65536, bad, one, b"", b"x"],
        [b"HUGZ", bad, one, b"", b"x"],
        [b"", bad, one, b"", b"x"],
    ]:
        clone.publisher.send_multipart(frames)
    sane = clone.update(b"/client/4", b"sane")
    clone.await_update(sane)
    fresh = Clone(endpoint, collector)
    fresh.synchronise()
    assert fresh.state == clone.state, (fresh.state, clone.state)
    print("state", len(fresh.state), flush=True)


def three_frames(endpoint, collector, packed="!q"):
    """Models 2 to 4: no uuids, no properties."""
    context = zmq.Context()
    snapshot, subscriber, publisher = (context.socket(kind) for kind in (zmq.DEALER, zmq.SUB, zmq.PUSH))
    for socket, offset in ((snapshot, 0), (subscriber, 1), (publisher, 2)):
        socket.rcvtimeo = 20000
        socket.linger = 1000
        socket.connect(port_behind(endpoint, offset))
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    assert subscriber.recv_multipart()[0] == b"HUGZ"
    # The Guide's Python packs sequences of four bytes in these models.
    publisher.send_multipart([b"key", struct.pack("!l", 0), b"body"])
    while True:
        message = subscriber.recv_multipart()
        assert len(message) == 3, message
        if message[0] != b"HUGZ":
            break
    assert message == [b"key", struct.pack(packed, 1), b"body"], message
    # Models 2 and 3 ask without a subtree.
    snapshot.send(b"ICANHAZ?")
    assert snapshot.recv_multipart() == [b"key", struct.pack(packed, 1), b"body"]
    assert snapshot.recv_multipart() == [b"KTHXBAI", struct.pack(packed, 1), b""]
    print("state 1", flush=True)


def short_sequences(endpoint, collector):
    """As the Guide's Python packs them in these models."""
    three_frames(endpoint, collector, "!l")


if __name__ == "__main__":
    endpoint, collector, scenario = sys.argv[1:]
    {"protocol": protocol, "three_frames": three_frames, "short_sequences": short_sequences}[scenario](endpoint, collector)
