//! SIGINT and SIGTERM: the first asks for a clean stop, a second one ends the process at once, unless it is the same
//! request that came twice. SIGUSR1 asks for what went wrong so far.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    flag, low_level,
};

use crate::{
    cli::{Failure, screen},
    clock::Deadline,
    stop::Stop,
};

/// Signals that come within this time are one request: `timeout` sends one to its child, and one to all its group.
const ONE_REQUEST: Duration = Duration::from_millis(100);

/// The signals received so far.
pub(super) struct Signals {
    stop: Stop,
    caught: Arc<AtomicUsize>,
    /// Whether the next signal ends the process at once.
    armed: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
}

impl Signals {
    /// Starts listening.
    pub(super) fn listen() -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::running("listening for signals", &error);
        let stop = Arc::new(AtomicBool::new(false));
        let caught = Arc::new(AtomicUsize::new(0));
        let armed = Arc::new(AtomicBool::new(false));
        let bell = abort_when_asked_again(caught.clone(), armed.clone()).map_err(failed)?;
        for signal in [SIGINT, SIGTERM] {
            let listen = || {
                flag::register_usize(signal, caught.clone(), signal as usize)?;
                flag::register(signal, stop.clone())?;
                low_level::pipe::register(signal, bell.try_clone()?)
            };
            listen().map_err(failed)?;
        }
        let asked = Arc::new(AtomicBool::new(false));
        flag::register(SIGUSR1, asked.clone()).map_err(failed)?;
        Ok(Self {
            stop: stop.into(),
            caught,
            armed,
            asked,
        })
    }

    /// Returns the request to stop that a signal makes. Others may make it, too.
    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Requests to stop when standard input ends.
    pub(super) fn stop_when_stdin_ends(&self) {
        let stop = self.stop.clone();
        when_stdin_ends(move || stop.request());
    }

    /// Does what SIGINT does: for a terminal that sends none.
    pub(super) fn interrupt(&self) {
        // The signal exists.
        let _ = low_level::raise(SIGINT);
    }

    /// Asks for a clean stop that is no failure. What comes after it ends the process at once.
    pub(super) fn quit(&self) {
        if self.armed.swap(true, Relaxed) {
            self.interrupt();
        }
        self.stop.request();
    }

    /// Tells whether SIGUSR1 came since this was last asked.
    pub(super) fn asked(&self) -> bool {
        self.asked.swap(false, Relaxed)
    }

    /// Returns the number of the signal received, if one was.
    pub(super) fn caught(&self) -> Option<u8> {
        let signal = self.caught.load(Relaxed);
        (signal != 0).then_some(signal as u8)
    }

    /// Tells whether somebody asked for a stop.
    pub(super) fn interrupted(&self) -> bool {
        self.armed.load(Relaxed) || self.caught().is_some()
    }
}

/// Does something when standard input ends, which for a process that another one holds the other end of is when
/// that has ended, however it did.
pub(super) fn when_stdin_ends(then: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        // That it can't be read is an end as well.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        then();
    });
}

/// Starts a thread that ends the process when the bell that it returns is rung for a second request, or for the
/// first once `armed`. A thread, since a signal handler could not give a view's terminal back.
fn abort_when_asked_again(
    caught: Arc<AtomicUsize>,
    armed: Arc<AtomicBool>,
) -> io::Result<UnixStream> {
    let (mut heard, bell) = UnixStream::pair()?;
    let listen = move || {
        let mut same_until: Option<Deadline> = None;
        while heard.read_exact(&mut [0]).is_ok() {
            let is_the_same = same_until.as_ref().is_some_and(|until| !until.passed());
            if armed.swap(true, Relaxed) && !is_the_same {
                screen::restore_soon();
                low_level::exit(128 + caught.load(Relaxed) as i32);
            }
            same_until.get_or_insert_with(|| Deadline::after(ONE_REQUEST));
        }
    };
    let name = "signals".to_owned();
    thread::Builder::new().name(name).spawn(listen)?;
    Ok(bell)
}
