//! Waiting for many sockets at once: epoll, level-triggered.

use std::{io, os::fd::AsFd, time::Duration};

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
pub struct Poller {
    epoll: std::os::fd::OwnedFd,
    events: Box<[epoll::Event]>,
    count: usize,
}

impl Poller {
    /// Starts with no sockets.
    ///
    /// # Errors
    /// The kernel's: the process has too many files open.
    pub fn new() -> io::Result<Self> {
        let nothing = epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        };
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: vec![nothing; EVENTS_MAX].into_boxed_slice(),
            count: 0,
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

    /// Waits until a socket has something, or for `timeout`; without one, for ever. Returns whether one
    /// has.
    ///
    /// # Errors
    /// The kernel's.
    #[inline]
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        self.count = match epoll::wait(&self.epoll, &mut self.events[..], timeout.as_ref()) {
            Err(Errno::INTR) => 0,
            count => count?,
        };
        Ok(self.count > 0)
    }

    /// Returns the sockets that the last wait found.
    #[inline]
    pub fn ready(&self) -> impl Iterator<Item = Ready> {
        self.events[..self.count].iter().map(|event| {
            let flags = event.flags;
            let broken = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
            Ready {
                token: event.data.u64(),
                readable: flags.intersects(epoll::EventFlags::IN | broken),
                writable: flags.intersects(epoll::EventFlags::OUT | broken),
            }
        })
    }
}
