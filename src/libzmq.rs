//! What the `zmq` crate does not reach: a context whose I/O threads can be told apart, and socket
//! options it has no name for. Calls into libzmq's C interface are here, but for the reasons of
//! its refusals, which are in `errno.rs`.

#![allow(unsafe_code, reason = "libzmq is a C library")]

mod frame;

use std::{
    ffi::{CString, c_char, c_int, c_void},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustix::thread::Pid;
use zmq::SocketType;

use crate::{
    clock::Deadline,
    errno::Errno,
    error::{Error, Result},
};

pub(crate) use frame::Frame;

/// The most I/O threads a context can tell apart: `ZMQ_AFFINITY` has one bit for each.
pub const IO_THREADS_MAX: usize = 64;

/// How long the I/O threads may take to name themselves after they were started.
const NAMING_LIMIT: Duration = Duration::from_secs(5);

/// A libzmq context with a number of its own, which its threads carry in their names.
///
/// Sockets made from it keep it alive; it ends when the last of them and the last copy are dropped.
#[derive(Clone, Debug)]
pub struct Context {
    raw: Arc<RawContext>,
}

#[derive(Debug)]
struct RawContext {
    pointer: *mut c_void,
    number: u32,
    io_threads: usize,
}

// SAFETY: libzmq documents contexts as thread-safe; sockets, which are not, are separate values.
unsafe impl Send for RawContext {}
// SAFETY: as above.
unsafe impl Sync for RawContext {}

impl Drop for RawContext {
    fn drop(&mut self) {
        loop {
            // SAFETY: `pointer` came from zmq_ctx_new and is terminated here only. Every `Socket`
            // below holds an `Arc` of this, so none is open any more and the call returns at once
            // unless a socket lingers.
            let done = unsafe { zmq_sys::zmq_ctx_term(self.pointer) } == 0;
            if done || !Errno::last().is(zmq::Error::EINTR) {
                break;
            }
        }
    }
}

/// A socket that keeps its context alive.
pub struct Socket {
    // Declared first: the socket has to be closed before the context may end.
    inner: zmq::Socket,
    /// The same socket, which `inner` closes.
    pointer: *mut c_void,
    _context: Context,
}

// SAFETY: libzmq lets a socket move between threads with a full fence, which moving a value between
// threads implies; `zmq::Socket` is `Send` for the same reason.
unsafe impl Send for Socket {}

impl std::ops::Deref for Socket {
    type Target = zmq::Socket;

    fn deref(&self) -> &zmq::Socket {
        &self.inner
    }
}

impl Context {
    /// Makes a context with `io_threads` I/O threads, which start with its first socket, and room
    /// for `sockets` sockets.
    ///
    /// # Errors
    /// [`Error::Zmq`] where libzmq refuses, for instance for lack of file descriptors.
    pub fn new(io_threads: usize, sockets: usize) -> Result<Self> {
        static CONTEXTS: AtomicU32 = AtomicU32::new(0);
        // Three digits at most, so that `999/ZMQbg/IO/63` still fits a thread's 15 bytes of name.
        let number = CONTEXTS.fetch_add(1, Ordering::Relaxed) % 1000;
        // SAFETY: takes nothing, and answers null or a context of our own.
        let pointer = unsafe { zmq_sys::zmq_ctx_new() };
        if pointer.is_null() {
            return Err(Error::zmq("making a libzmq context")(Errno::last()));
        }
        let context = Self {
            raw: Arc::new(RawContext {
                pointer,
                number,
                io_threads,
            }),
        };
        context.set(zmq_sys::ZMQ_IO_THREADS as c_int, io_threads as c_int)?;
        context.set(zmq_sys::ZMQ_MAX_SOCKETS as c_int, sockets as c_int)?;
        context.set(zmq_sys::ZMQ_THREAD_NAME_PREFIX as c_int, number as c_int)?;
        Ok(context)
    }

    fn set(&self, option: c_int, value: c_int) -> Result<()> {
        // SAFETY: `pointer` is a live context; the call copies its integers.
        let status = unsafe { zmq_sys::zmq_ctx_set(self.raw.pointer, option, value) };
        if status == 0 {
            return Ok(());
        }
        Err(Error::zmq(format!(
            "setting context option {option} to {value}"
        ))(Errno::last()))
    }

    /// Makes a socket. Unsent messages are dropped when it is closed, unless told otherwise.
    ///
    /// # Errors
    /// [`Error::Zmq`] where libzmq refuses, for instance for lack of file descriptors.
    pub fn socket(&self, kind: SocketType) -> Result<Socket> {
        // SAFETY: `pointer` is a live context; a null answer is handled below.
        let pointer = unsafe { zmq_sys::zmq_socket(self.raw.pointer, kind as c_int) };
        if pointer.is_null() {
            return Err(Error::zmq(format!("making a {kind:?} socket"))(
                Errno::last(),
            ));
        }
        let socket = Socket {
            // SAFETY: `pointer` is a fresh socket that nobody else has; the value closes it.
            inner: unsafe { zmq::Socket::from_raw(pointer) },
            pointer,
            _context: self.clone(),
        };
        socket
            .set_linger(0)
            .map_err(Error::zmq("setting ZMQ_LINGER"))?;
        Ok(socket)
    }

    /// Returns the thread ids of the I/O threads, in the order of the bits of `ZMQ_AFFINITY`.
    ///
    /// They are started by the context's first socket and name themselves soon after: this waits
    /// for their names. Options for CPU affinity exist only for all threads of a context together,
    /// so pinning one needs its thread id.
    ///
    /// # Errors
    /// [`Error::IncompleteLibzmq`] where they don't turn up: a libzmq built without thread names.
    pub fn io_thread_ids(&self) -> Result<Vec<Pid>> {
        let deadline = Deadline::after(NAMING_LIMIT);
        loop {
            let found: Option<Vec<Pid>> = (0..self.raw.io_threads)
                .map(|index| thread_named(&format!("{}/ZMQbg/IO/{index}", self.raw.number)))
                .collect();
            if let Some(found) = found {
                return Ok(found);
            }
            if deadline.passed() {
                let (major, minor, patch) = zmq::version();
                return Err(Error::IncompleteLibzmq {
                    version: format!("{major}.{minor}.{patch}"),
                });
            }
            std::thread::yield_now();
        }
    }
}

/// Finds a thread of this process by its name.
fn thread_named(name: &str) -> Option<Pid> {
    std::fs::read_dir("/proc/self/task")
        .ok()?
        .flatten()
        .find(|task| {
            std::fs::read_to_string(task.path().join("comm"))
                .is_ok_and(|comm| comm.trim_end() == name)
        })
        .and_then(|task| Pid::from_raw(task.file_name().to_str()?.parse().ok()?))
}

impl Socket {
    /// Takes the connections of this socket only over the network card with this name.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    pub fn set_bind_to_device(&mut self, nic: &str) -> Result<()> {
        self.set(zmq_sys::ZMQ_BINDTODEVICE as c_int, nic.as_bytes())
            .map_err(Error::zmq(format!(
                "binding a socket to the network card {nic}"
            )))
    }

    /// Sets how many bytes are read from a connection at once.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    pub fn set_read_bytes(&mut self, bytes: u32) -> Result<()> {
        self.set(zmq_sys::ZMQ_IN_BATCH_SIZE as c_int, &bytes.to_ne_bytes())
            .map_err(Error::zmq("setting ZMQ_IN_BATCH_SIZE"))
    }

    /// Makes a full XPUB socket refuse messages instead of dropping them.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    pub fn set_xpub_nodrop(&mut self) -> Result<()> {
        self.set(zmq_sys::ZMQ_XPUB_NODROP as c_int, &1i32.to_ne_bytes())
            .map_err(Error::zmq("setting ZMQ_XPUB_NODROP"))
    }

    /// Fails a connection on which what was sent stays unacknowledged for so long.
    ///
    /// # Errors
    /// [`Error::Zmq`].
    pub fn set_tcp_user_timeout(&mut self, timeout_ms: u32) -> Result<()> {
        self.set(zmq_sys::ZMQ_TCP_MAXRT as c_int, &timeout_ms.to_ne_bytes())
            .map_err(Error::zmq("setting ZMQ_TCP_MAXRT"))
    }

    /// Sends a small message without allocating, which the `zmq` crate's own way does.
    pub(crate) fn send_small(&self, bytes: &[u8]) -> std::result::Result<(), Errno> {
        loop {
            // SAFETY: the socket is live and the call copies the `bytes.len()` bytes. A socket is
            // not `Sync`, so no other thread is in one.
            let sent = unsafe {
                zmq_sys::zmq_send(
                    self.pointer,
                    bytes.as_ptr().cast(),
                    bytes.len(),
                    zmq_sys::ZMQ_DONTWAIT as c_int,
                )
            };
            if sent >= 0 {
                return Ok(());
            }
            let reason = Errno::last();
            if !reason.is(zmq::Error::EINTR) {
                return Err(reason);
            }
        }
    }

    fn set(&mut self, option: c_int, value: &[u8]) -> std::result::Result<(), Errno> {
        // SAFETY: the socket is live, and the option's value is copied from the `value.len()` bytes.
        let status = unsafe {
            zmq_sys::zmq_setsockopt(self.pointer, option, value.as_ptr().cast(), value.len())
        };
        if status == 0 {
            Ok(())
        } else {
            Err(Errno::last())
        }
    }

    /// Binds the socket, and returns the endpoint with the port that a wildcard was given.
    ///
    /// # Errors
    /// Libzmq's reason.
    pub fn bind(&self, endpoint: &str) -> std::result::Result<String, Errno> {
        self.with_endpoint(endpoint, zmq_sys::zmq_bind)?;
        let bound = self
            .inner
            .get_last_endpoint()
            .ok()
            .and_then(|name| name.ok());
        Ok(bound.unwrap_or_else(|| endpoint.to_owned()))
    }

    /// Connects the socket.
    ///
    /// # Errors
    /// Libzmq's reason.
    pub fn connect(&self, endpoint: &str) -> std::result::Result<(), Errno> {
        self.with_endpoint(endpoint, zmq_sys::zmq_connect)
    }

    /// Takes the socket off an endpoint.
    ///
    /// # Errors
    /// Libzmq's reason.
    pub fn disconnect(&self, endpoint: &str) -> std::result::Result<(), Errno> {
        self.with_endpoint(endpoint, zmq_sys::zmq_disconnect)
    }

    fn with_endpoint(
        &self,
        endpoint: &str,
        call: unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int,
    ) -> std::result::Result<(), Errno> {
        let endpoint = CString::new(endpoint).map_err(|_| zmq::Error::EINVAL)?;
        // SAFETY: the socket is live, and the text ends with a zero and outlives the call.
        let status = unsafe { call(self.pointer, endpoint.as_ptr()) };
        if status == 0 {
            Ok(())
        } else {
            Err(Errno::last())
        }
    }
}
