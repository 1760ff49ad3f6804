//! A `pinfeed cache` between a publisher of libzmq and its subscribers.

use rustix::process::Signal;
use serde_json::Value;
use zmq::SocketType;

use super::{LIMIT, Pinfeed, patient_xpub};

/// A cache between a publisher of the test and its subscribers.
pub struct Cached {
    pub context: zmq::Context,
    pub publisher: zmq::Socket,
    pub process: Pinfeed,
    pub endpoint: String,
}

impl Cached {
    pub fn start(arguments: &[&str]) -> Self {
        let context = zmq::Context::new();
        let (publisher, upstream) = patient_xpub(&context);
        let (process, endpoint) = cache(&[&["--connect", &upstream], arguments].concat());
        assert_eq!(
            publisher.recv_bytes(0).expect("a socket"),
            b"\x01",
            "all topics"
        );
        Self {
            context,
            publisher,
            process,
            endpoint,
        }
    }

    pub fn publish(&self, frames: &[&[u8]]) {
        self.publisher.send_multipart(frames, 0).expect("a socket");
    }

    pub fn subscriber(&self, prefixes: &[&[u8]]) -> zmq::Socket {
        subscriber(&self.context, &self.endpoint, prefixes)
    }

    /// A subscriber that takes next to nothing of what it does not ask for.
    pub fn stalled(&self, prefix: &[u8]) -> zmq::Socket {
        let socket = self.context.socket(SocketType::SUB).expect("a socket");
        socket.set_rcvhwm(1).expect("a socket");
        socket.set_rcvbuf(4_096).expect("a socket");
        socket
            .set_rcvtimeo(LIMIT.as_millis() as i32)
            .expect("a socket");
        socket.set_linger(0).expect("a socket");
        socket.set_subscribe(prefix).expect("a socket");
        socket.connect(&self.endpoint).expect("a socket");
        socket
    }

    /// A subscriber to all that has come through so far, up to a last message.
    pub fn witness(&self) -> Witness {
        self.witness_of(&[b"~", b"witness"])
    }

    /// The same, with a last message of one's own.
    pub fn witness_of(&self, last: &[&[u8]]) -> Witness {
        // It is connected once the cache answers it, which it does with a message that is kept.
        let socket = self.subscriber(&[b""]);
        let witness = Witness { socket };
        self.publish(last);
        witness.read_up_to(last[0]);
        witness
    }

    /// Waits until all that was published has come through, and returns it.
    pub fn settle(&self, witness: &Witness) -> Vec<Vec<Vec<u8>>> {
        self.publish(&[b"~", b"end"]);
        witness.read_up_to(b"~")
    }

    pub fn summary(mut self) -> Value {
        self.process.signal(Signal::TERM);
        self.process.json(143)
    }
}

/// Sees all messages.
pub struct Witness {
    pub socket: zmq::Socket,
}

impl Witness {
    pub fn read_up_to(&self, topic: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let mut messages = Vec::new();
        loop {
            let message = self.socket.recv_multipart(0).expect("a socket");
            if message[0] == topic {
                return messages;
            }
            messages.push(message);
        }
    }
}

pub fn cache(arguments: &[&str]) -> (Pinfeed, String) {
    let fixed = ["cache", "--json", "--serve", "tcp://127.0.0.1:*"];
    let mut process = Pinfeed::start(&[&fixed[..], arguments].concat());
    let endpoint = process.wait_for_line("serving on ");
    (process, endpoint)
}

pub fn subscriber(context: &zmq::Context, endpoint: &str, prefixes: &[&[u8]]) -> zmq::Socket {
    let socket = context.socket(SocketType::SUB).expect("a socket");
    socket
        .set_rcvtimeo(LIMIT.as_millis() as i32)
        .expect("a socket");
    socket.set_linger(0).expect("a socket");
    socket.set_rcvhwm(0).expect("a socket");
    for prefix in prefixes {
        socket.set_subscribe(prefix).expect("a socket");
    }
    socket.connect(endpoint).expect("a socket");
    socket
}

pub fn frames(message: &[&[u8]]) -> Vec<Vec<u8>> {
    message.iter().map(|frame| frame.to_vec()).collect()
}
