//! Receive calls alone: handshake and subscription, then bytes into one buffer, looked at by nobody.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

use crate::{
    bench::baseline::{Cost, check, measured},
    error::{Error, Result},
    net::{Interest, Poller, is_not_ready},
    zmtp::{Handshake, SocketType, Subscription, Version, encode_subscription},
};

/// What is received into.
const BUFFER_BYTES: usize = 256 * 1024;

/// Takes in `bytes` from TCP endpoints, subscribed to everything.
///
/// # Errors
/// [`Error::Socket`] where a connection is not made or breaks, [`Error::Config`] for an endpoint that is
/// not TCP.
pub fn plain(endpoints: &[String], bytes: u64) -> Result<Cost> {
    let streams = endpoints.iter().map(|one| subscribed_stream(one));
    let streams: Vec<TcpStream> = streams.collect::<Result<_>>()?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut take = |mut stream: &TcpStream| match stream.read(&mut buffer) {
        Ok(0) => Err(receiving(ErrorKind::UnexpectedEof.into())),
        Ok(count) => Ok(count as u64),
        Err(nothing) if is_not_ready(&nothing) => Ok(0),
        Err(broken) => Err(receiving(broken)),
    };
    if let [stream] = &streams[..] {
        return until_all(|| take(stream), bytes);
    }
    let mut poller = Poller::new().map_err(receiving)?;
    for (token, stream) in (0..).zip(&streams) {
        stream.set_nonblocking(true).map_err(receiving)?;
        poller
            .add(stream, token, Interest::Read)
            .map_err(receiving)?;
    }
    let turn = || {
        poller.wait(None).map_err(receiving)?;
        let ready = poller.ready();
        ready
            .map(|ready| take(&streams[ready.token as usize]))
            .sum()
    };
    until_all(turn, bytes)
}

fn receiving(source: std::io::Error) -> Error {
    Error::socket("receiving from the publisher")(source)
}

/// Measures from the first bytes that `take` takes to the last.
fn until_all(mut take: impl FnMut() -> Result<u64>, bytes: u64) -> Result<Cost> {
    let first = take()?;
    measured(first, |mut received| {
        while received < bytes {
            received += take()?;
        }
        check("bytes", received, bytes)
    })
}

/// Connects, shakes hands and subscribes to everything.
fn subscribed_stream(endpoint: &str) -> Result<TcpStream> {
    let refused = |problem: &str| {
        Error::config(
            "--connect",
            endpoint,
            problem,
            "give the endpoint of a publisher, for instance tcp://127.0.0.1:5556",
        )
    };
    let address = endpoint
        .strip_prefix("tcp://")
        .ok_or_else(|| refused("only TCP is received from"))?;
    let mut stream = TcpStream::connect(address).map_err(receiving)?;
    let mut out = Vec::new();
    let mut inbox = Vec::new();
    let mut handshake = Handshake::start(SocketType::Sub, Version::V3_1, &mut out);
    loop {
        stream.write_all(&out).map_err(receiving)?;
        out.clear();
        let mut piece = [0; 256];
        let count = stream.read(&mut piece).map_err(receiving)?;
        if count == 0 {
            return Err(refused("it hung up in the handshake"));
        }
        inbox.extend_from_slice(&piece[..count]);
        let progress = handshake
            .advance(&inbox, &mut out)
            .map_err(|violation| refused(violation.name()))?;
        inbox.drain(..progress.consumed);
        if let Some(peer) = progress.peer {
            if !inbox.is_empty() {
                return Err(refused("it sent something before it was asked to"));
            }
            encode_subscription(&mut out, peer.version, Subscription::Start(b""));
            stream.write_all(&out).map_err(receiving)?;
            return Ok(stream);
        }
    }
}
