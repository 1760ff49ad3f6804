//! Goal: however the bytes of a connection are cut on their way to a lane, small messages or large ones, the handler
//! sees the same messages.

mod support;

use std::{
    cell::RefCell,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use pinfeed::{
    config::{Config, Engine},
    envelope::Envelope,
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    stop::Stop,
    worker::Handler,
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config as Cases, TestRunner},
};
use support::{
    finish,
    peer::{Peer, command, message},
    wait_until,
};

/// In all its frames; some have more.
const MESSAGE_BYTES_MAX: usize = 1_200_000;
/// Of which none has more.
const FRAME_BYTES_MAX: usize = 1_000_000;
/// What a lane reads at once.
const READ_BYTES: usize = 512 * 1024;
/// From where on it gathers a message where it is.
const GATHERED_BYTES: usize = 16 * 1024;

type Frames = Vec<Vec<u8>>;

/// A frame to be sent: its length, and its first byte. Not one value throughout: a frame that starts in the wrong place
/// is another frame.
type Described = (usize, u8);

fn frame((bytes, fill): Described) -> Vec<u8> {
    (0..bytes).map(|at| fill.wrapping_add(at as u8)).collect()
}

/// Keeps all that it sees.
struct Keeping(Arc<Mutex<Vec<Frames>>>);

impl Handler for Keeping {
    fn on_message(&mut self, message: &Message<'_>) {
        let frames = message.frames().map(<[u8]>::to_vec).collect();
        self.0.lock().expect("nobody panics within").push(frames);
    }
}

/// Frames around the sizes at which something changes.
fn frame_bytes() -> impl Strategy<Value = usize> {
    let around = |bytes: usize| bytes - 40..bytes + 40;
    prop_oneof![
        8 => 0..300usize,
        1 => around(GATHERED_BYTES),
        1 => around(READ_BYTES),
        1 => 0..FRAME_BYTES_MAX,
    ]
}

fn frames() -> impl Strategy<Value = Vec<Described>> {
    vec((frame_bytes(), any::<u8>()), 1..4)
}

fn bytes_of(frames: &Frames) -> usize {
    frames.iter().map(Vec::len).sum()
}

#[test]
fn is_as_good_as_none() {
    let mut config = Config::bind("tcp://127.0.0.1:*", Envelope::Raw);
    config.engine = Some(Engine::Native);
    config.workers.count = 1;
    config.receive.message_bytes_max = MESSAGE_BYTES_MAX as u32;
    let (stop, seen) = (Stop::default(), Arc::<Mutex<Vec<Frames>>>::default());
    let pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
        Keeping(seen.clone())
    })
    .expect("the pipeline starts");
    let endpoint = pipeline.endpoints()[0].clone();
    let pipeline = RefCell::new(pipeline);
    let received = || pipeline.borrow_mut().look().received;
    let sent = vec((frames(), any::<bool>()), 1..30);
    let pieces = vec(
        prop_oneof![1..20usize, 1..20_000usize, 1..2 * READ_BYTES],
        1..20,
    );
    // What is wrong with one stream is so with what follows over the same pipeline: there is nothing to shrink.
    let mut runner = TestRunner::new(Cases {
        max_shrink_iters: 0,
        ..Cases::with_cases(192)
    });
    let outcome = runner.run(&(sent, pieces), |(sent, pieces)| {
        let (commands, sent): (Vec<bool>, Vec<Frames>) = sent
            .into_iter()
            .map(|(frames, commanded)| (commanded, frames.into_iter().map(frame).collect()))
            .unzip();
        let before = received();
        seen.lock().expect("nobody panics within").clear();
        let mut peer = Peer::connect(&endpoint);
        peer.welcome(1);
        let mut stream = Vec::new();
        for (frames, commanded) in sent.iter().zip(commands) {
            let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            stream.extend(message(&slices));
            if commanded {
                stream.extend(command(b"PING", b"\0\0"));
            }
        }
        let mut rest = &stream[..];
        // In those pieces, and what is left by them at once: whole streams byte by byte would take too long.
        for piece_bytes in pieces {
            let (piece, after) = rest.split_at(piece_bytes.min(rest.len()));
            peer.send(piece);
            rest = after;
            // A pace, not a wait for anything: so that most pieces are read by themselves.
            thread::sleep(Duration::from_micros(100));
        }
        peer.send(rest);
        let all = before + sent.len() as u64;
        wait_until("all are received", || received() == all);
        let fits = |frames: &Frames| bytes_of(frames) <= MESSAGE_BYTES_MAX;
        let expected: Vec<Frames> = sent.into_iter().filter(fits).collect();
        wait_until("all are handled", || {
            seen.lock().expect("nobody panics within").len() == expected.len()
        });
        prop_assert!(*seen.lock().expect("nobody panics within") == expected);
        Ok(())
    });
    stop.request();
    let totals = finish(pipeline.into_inner()).totals;
    outcome.expect("each stream is read as it was sent");
    assert!(totals.balanced());
    assert!(totals.rejected() > 0, "some were too large in all");
}
