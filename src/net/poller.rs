//! Waiting for many sockets at once: epoll, level-triggered.

use std::{io, mem::MaybeUninit, os::fd::AsFd, time::Duration};

use rustix::{
    event::{Timespec, epoll},
    io::Errno,
};

/// Events taken from the kernel at once. More wait for the next call.
const EVENTS_MAX: usize = 256;

/// What to wait for on a socket. Errors and hang-ups are always waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Read,
    /// Something to read, or room to write.
    ReadWrite,
    /// Room to write, which for a connection under way means that it is made or has failed.
    Write,
}

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        match self {
            Self::Read => epoll::EventFlags::IN,
            Self::ReadWrite => epoll::EventFlags::IN | epoll::EventFlags::OUT,
            Self::Write => epoll::EventFlags::OUT,
        }
    }
}

/// A socket that has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The number that it was added with.
    pub token: u64,
    /// Whether reading finds something: bytes, the end, or an error.
    pub readable: bool,
    /// Whether there is room to write, or an error.
    pub writable: bool,
}

/// Waits for sockets.
#[derive(Debug)]
pub struct Poller {
    epoll: std::os::fd::OwnedFd,
    ready: Vec<Ready>,
}

impl Poller {
    /// Starts with no sockets.
    ///
    /// # Errors
    /// The kernel's: the process has too many files open.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            ready: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Adds a socket under a number. Closing the socket removes it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&self, socket: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(&self.epoll, socket, data, interest.flags())?)
    }

    /// Changes what to wait for on a socket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn change(&self, socket: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::modify(&self.epoll, socket, data, interest.flags())?)
    }

    /// Removes a socket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self, socket: &impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Waits until a socket has something, or for `timeout`, rounded up to milliseconds; without one, for
    /// ever. Returns whether one has.
    ///
    /// # Errors
    /// The kernel's.
    #[inline]
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        // Parts of a millisecond take a call that kernels before 5.11 don't have.
        let timeout = timeout.map(|timeout| {
            let whole_ms = timeout.as_micros().div_ceil(1_000) as i64;
            Timespec {
                tv_sec: whole_ms / 1_000,
                tv_nsec: whole_ms % 1_000 * 1_000_000,
            }
        });
        self.ready.clear();
        let mut room = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        let events = match epoll::wait(&self.epoll, &mut room[..], timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(false),
            waited => waited?.0,
        };
        self.ready.extend(events.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            let broken = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
            Ready {
                token: data.u64(),
                readable: flags.intersects(epoll::EventFlags::IN | broken),
                writable: flags.intersects(epoll::EventFlags::OUT | broken),
            }
        }));
        Ok(!self.ready.is_empty())
    }

    /// Returns the sockets that the last wait found.
    #[inline]
    pub fn ready(&self) -> impl Iterator<Item = Ready> {
        self.ready.iter().copied()
    }
}
