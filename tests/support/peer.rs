//! A publisher by hand, byte by byte: it can do what no library would, and owes nothing to pinfeed's own
//! codec.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
};

use super::{LIMIT, wait_until};

pub const READY: &[u8] = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB";
const GREETING_BYTES: usize = 64;

/// The greeting of ZMTP 3 with this minor version and mechanism.
pub fn greeting(minor: u8, mechanism: &[u8]) -> Vec<u8> {
    let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, minor];
    greeting.extend_from_slice(mechanism);
    greeting.resize(GREETING_BYTES, 0);
    greeting
}

/// A frame with these flags, whose length takes eight bytes only where it has to.
pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = match u8::try_from(body.len()) {
        Ok(length) => vec![flags, length],
        Err(_) => [&[flags | 2][..], &(body.len() as u64).to_be_bytes()].concat(),
    };
    frame.extend_from_slice(body);
    frame
}

pub fn message(frames: &[&[u8]]) -> Vec<u8> {
    let last = frames.len() - 1;
    let frames = frames.iter().enumerate();
    frames
        .flat_map(|(index, body)| frame((index < last).into(), body))
        .collect()
}

pub fn command(name: &[u8], body: &[u8]) -> Vec<u8> {
    frame(4, &[&[name.len() as u8], name, body].concat())
}

/// Where subscribers may connect to.
pub struct Door {
    listener: TcpListener,
    pub endpoint: String,
}

impl Door {
    pub fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        Self {
            listener,
            endpoint: format!("tcp://{address}"),
        }
    }

    pub fn accept(&self) -> Peer {
        let mut accepted = None;
        wait_until("it connects", || {
            accepted = self.listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.expect("it has connected");
        stream.set_nonblocking(false).expect("a socket");
        Peer::new(stream)
    }
}

/// The publisher's end of a connection.
pub struct Peer(TcpStream);

impl Peer {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        Self(stream)
    }

    pub fn connect(endpoint: &str) -> Self {
        let address = endpoint.strip_prefix("tcp://").expect("an endpoint");
        Self::new(TcpStream::connect(address).expect("it listens"))
    }

    /// Shakes hands as ZMTP 3 with this minor version, up to the subscriber's READY.
    pub fn shake_hands(&mut self, minor: u8) {
        self.send(&greeting(minor, b"NULL"));
        self.send(READY);
        self.meet();
    }

    /// Takes the subscriber's side of a handshake.
    pub fn meet(&mut self) {
        let greeting = self.read(GREETING_BYTES);
        assert_eq!((greeting[0], greeting[9]), (0xff, 0x7f));
        assert_eq!(greeting[10], 3, "the major version");
        assert_eq!(&greeting[12..17], b"NULL\0");
        let (flags, body) = self.read_frame();
        assert_eq!(flags, 4);
        assert!(body.starts_with(b"\x05READY"), "{body:?}");
        let is_named = |socket_type: &[u8]| {
            let mut metadata = body.windows(socket_type.len());
            metadata.any(|part| part == socket_type)
        };
        let is_subscriber =
            is_named(b"\x0bSocket-Type\0\0\0\x03SUB") || is_named(b"\x0bSocket-Type\0\0\0\x04XSUB");
        assert!(is_subscriber, "{body:?}");
    }

    /// Shakes hands, and takes the subscription to everything.
    pub fn welcome(&mut self, minor: u8) {
        self.shake_hands(minor);
        assert_eq!(self.read_frame(), subscription(minor, b""));
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the subscriber is there");
    }

    /// As [`send`](Self::send), whether or not the subscriber takes it.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        self.0.read_exact(&mut read).expect("what is to come");
        read
    }

    /// Returns a frame's flags, that of its long form left out, and its body.
    pub fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let flags = self.read(1)[0];
        let bytes = if flags & 2 == 0 {
            self.read(1)[0].into()
        } else {
            let length = self.read(8).try_into().expect("8 bytes");
            u64::from_be_bytes(length) as usize
        };
        (flags & !2, self.read(bytes))
    }

    /// Returns the body of the next command of this name, without the name.
    pub fn read_command(&mut self, name: &[u8]) -> Vec<u8> {
        loop {
            let (flags, body) = self.read_frame();
            let (length, body) = body.split_first().expect("a name");
            let (found, body) = body.split_at((*length).into());
            if flags == 4 && found == name {
                return body.to_vec();
            }
        }
    }

    /// Waits until the subscriber has closed the connection.
    pub fn wait_for_end(mut self) {
        let mut rest = [0; 4096];
        loop {
            match self.0.read(&mut rest) {
                Ok(0) => return,
                Ok(_) => {}
                // It had not read all that was sent.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the connection should have been closed: {error}"),
            }
        }
    }
}

/// The frame that subscribes to a prefix: a message to a peer of ZMTP 3.0, a command to a later one.
pub fn subscription(minor: u8, prefix: &[u8]) -> (u8, Vec<u8>) {
    if minor == 0 {
        (0, [b"\x01", prefix].concat())
    } else {
        (4, [b"\x09SUBSCRIBE", prefix].concat())
    }
}
