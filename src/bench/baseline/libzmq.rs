//! libzmq as it is mostly used: a SUB socket in a loop, alone or in front of inproc PUSH.

use std::{
    thread::{self, JoinHandle},
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::{
    bench::baseline::{Cost, WORKERS, check, measured},
    clock::wall_ns,
    envelope::{Envelope, Fields},
    error::{Error, Result},
    host::{pin::pin_current, topology::usable_cores},
    latency::Stages,
};

const HIGH_WATER_MARK: i32 = 100_000;

fn failed(refused: zmq::Error) -> Error {
    Error::zmq("the baseline's sockets")(refused)
}

fn subscribed_socket(context: &zmq::Context, endpoints: &[String]) -> Result<zmq::Socket> {
    let socket = context.socket(zmq::SUB).map_err(failed)?;
    socket.set_rcvhwm(HIGH_WATER_MARK).map_err(failed)?;
    socket.set_subscribe(b"").map_err(failed)?;
    for endpoint in endpoints {
        socket
            .connect(endpoint)
            .map_err(Error::zmq(format!("connecting to {endpoint}")))?;
    }
    Ok(socket)
}

/// Takes a message in, frame by frame, each in place of the one before it.
fn receive(socket: &zmq::Socket, message: &mut zmq::Message, frames: usize) -> Result<()> {
    socket.recv(message, 0).map_err(failed)?;
    let mut received = 1;
    // Where each message is one frame, nobody would ask.
    while frames > 1 && message.get_more() {
        socket.recv(message, 0).map_err(failed)?;
        received += 1;
    }
    if received == frames {
        return Ok(());
    }
    check("frames of a message", received as u64, frames as u64)
}

/// Takes messages of so many frames in with a SUB socket in a loop that does nothing with them.
///
/// # Errors
/// [`Error::Zmq`]; [`Error::Helper`] for a message of other frames.
pub fn bare(endpoints: &[String], messages: u64, frames: usize) -> Result<Cost> {
    let context = zmq::Context::new();
    let socket = subscribed_socket(&context, endpoints)?;
    let mut first = zmq::Message::new();
    receive(&socket, &mut first, frames)?;
    measured(first, |mut message| {
        for _ in 1..messages {
            receive(&socket, &mut message, frames)?;
        }
        Ok(())
    })
}

/// As [`bare`], but looks at each message's timestamp in the envelope `pinfeed` and at the wall clock, and
/// returns the differences, too.
///
/// # Errors
/// [`Error::Zmq`]; [`Error::Helper`] for a message without a timestamp.
pub fn bare_timed(endpoints: &[String], messages: u64) -> Result<(Cost, Histogram<u64>)> {
    let context = zmq::Context::new();
    let socket = subscribed_socket(&context, endpoints)?;
    // With the bounds that pinfeed's own have.
    let mut histogram = Stages::default().feed;
    let mut record = |message: &zmq::Message| {
        let received_ns = wall_ns();
        let Ok(Fields { stamp, .. }) = Envelope::Pinfeed.open(&[&**message]) else {
            return check("timestamps", 0, 1);
        };
        histogram.saturating_record(received_ns.saturating_sub(stamp.timestamp_ns));
        Ok(())
    };
    let first = socket.recv_msg(0).map_err(failed)?;
    let cost = measured(first, |mut message| {
        record(&message)?;
        for _ in 1..messages {
            socket.recv(&mut message, 0).map_err(failed)?;
            record(&message)?;
        }
        Ok(())
    })?;
    check("messages", histogram.len(), messages)?;
    Ok((cost, histogram))
}

/// As [`bare`], with the loop and its I/O thread tied to one core, as pinfeed does with a libzmq lane where
/// cores are few.
///
/// # Errors
/// [`Error::Zmq`], [`Error::Pin`].
pub fn bare_on_one_core(endpoints: &[String], messages: u64) -> Result<Cost> {
    let core = usable_cores().last().copied();
    // On a thread of its own, whose core the I/O thread inherits.
    thread::scope(|scope| {
        let tied = scope.spawn(|| {
            pin_current("bare", core, true)?;
            bare(endpoints, messages, 1)
        });
        joined(tied.join())?
    })
}

/// Takes messages of so many frames in with a SUB socket and hands each over, frame by frame, to one of [`WORKERS`]
/// workers by inproc PUSH.
///
/// # Errors
/// [`Error::Zmq`]; [`Error::Helper`] for messages of other frames.
pub fn one_by_one(endpoints: &[String], messages: u64, frames: usize) -> Result<Cost> {
    let context = zmq::Context::new();
    let push = context.socket(zmq::PUSH).map_err(failed)?;
    push.set_sndhwm(HIGH_WATER_MARK).map_err(failed)?;
    let mut workers = Vec::new();
    for index in 0..WORKERS {
        let endpoint = format!("inproc://worker-{index}");
        let pull = context.socket(zmq::PULL).map_err(failed)?;
        pull.set_rcvhwm(HIGH_WATER_MARK).map_err(failed)?;
        pull.bind(&endpoint).map_err(failed)?;
        push.connect(&endpoint).map_err(failed)?;
        workers.push(thread::spawn(move || count(&pull, frames)));
    }
    let socket = subscribed_socket(&context, endpoints)?;
    let first = socket.recv_msg(0).map_err(failed)?;
    measured(first, |mut message| {
        let mut handed_over = 0;
        loop {
            let more = frames > 1 && message.get_more();
            let flags = if more { zmq::SNDMORE } else { 0 };
            push.send(message, flags).map_err(failed)?;
            handed_over += u64::from(!more);
            if handed_over == messages {
                break;
            }
            message = socket.recv_msg(0).map_err(failed)?;
        }
        // PUSH passes over a worker whose queue is full, so the number of ends sent says nothing.
        while !workers.iter().all(JoinHandle::is_finished) {
            let _ = push.send("", zmq::DONTWAIT);
            thread::sleep(Duration::from_millis(1));
        }
        let mut received = 0;
        for worker in workers {
            received += joined(worker.join())??;
        }
        check("messages", received, messages)
    })
}

/// Counts messages up to an empty one, which is one frame and ends all.
fn count(pull: &zmq::Socket, frames: usize) -> Result<u64> {
    let mut message = zmq::Message::new();
    let mut received = 0;
    loop {
        pull.recv(&mut message, 0).map_err(failed)?;
        if message.is_empty() {
            return Ok(received);
        }
        let mut parts = 1;
        while frames > 1 && message.get_more() {
            pull.recv(&mut message, 0).map_err(failed)?;
            parts += 1;
        }
        check("frames of a message", parts, frames as u64)?;
        received += 1;
    }
}

fn joined<T>(joined: thread::Result<T>) -> Result<T> {
    joined.map_err(|_| Error::ThreadPanicked {
        thread: "baseline".to_owned(),
    })
}
