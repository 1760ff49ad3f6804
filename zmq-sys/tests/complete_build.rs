//! Goal: what `build.rs` switches on works, because a missing macro breaks it without an error.

use std::ffi::{CStr, c_int, c_void};
use std::fs;
use std::ptr;
use std::thread::sleep;
use std::time::Duration;

use zmq_sys::*;

/// A step of waiting for another thread, and how often it is taken before a test gives up.
const WAIT: Duration = Duration::from_millis(10);
const WAITS_MAX: usize = 500;

fn last_error() -> String {
    // SAFETY: zmq_strerror returns a static string for every number.
    unsafe { CStr::from_ptr(zmq_strerror(zmq_errno())) }
        .to_string_lossy()
        .into_owned()
}

struct Context(*mut c_void);

impl Context {
    fn new() -> Self {
        // SAFETY: no arguments; the result is checked.
        let context = unsafe { zmq_ctx_new() };
        assert!(!context.is_null(), "{}", last_error());
        Self(context)
    }

    fn set(&self, option: u32, value: c_int) {
        // SAFETY: `self.0` is a context until it is dropped.
        let status = unsafe { zmq_ctx_set(self.0, option as c_int, value) };
        assert_eq!(status, 0, "{}", last_error());
    }

    fn socket(&self, kind: u32) -> Socket {
        // SAFETY: as in `set`.
        let socket = unsafe { zmq_socket(self.0, kind as c_int) };
        assert!(!socket.is_null(), "{}", last_error());
        Socket(socket)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: as in `set`. Every test drops its sockets first.
        unsafe { zmq_ctx_term(self.0) };
    }
}

struct Socket(*mut c_void);

impl Socket {
    fn set(&self, option: u32, value: &[u8]) {
        // SAFETY: `self.0` is a socket until it is dropped; pointer and length are of one slice.
        let status =
            unsafe { zmq_setsockopt(self.0, option as c_int, value.as_ptr().cast(), value.len()) };
        assert_eq!(status, 0, "option {option}: {}", last_error());
    }

    fn bind(&self, endpoint: &CStr) {
        // SAFETY: as in `set`; the endpoint ends in a zero.
        let status = unsafe { zmq_bind(self.0, endpoint.as_ptr()) };
        assert_eq!(status, 0, "{endpoint:?}: {}", last_error());
    }

    /// Connects to where `peer` is bound.
    fn connect(&self, peer: &Socket) {
        let mut endpoint = [0_u8; 256];
        let mut len = endpoint.len();
        // SAFETY: both sockets live, `len` is the size of `endpoint`, and libzmq ends the string.
        let status = unsafe {
            zmq_getsockopt(
                peer.0,
                ZMQ_LAST_ENDPOINT as c_int,
                endpoint.as_mut_ptr().cast(),
                &mut len,
            );
            zmq_connect(self.0, endpoint.as_ptr().cast())
        };
        assert_eq!(status, 0, "{}", last_error());
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: as in `set`, and nothing uses the socket afterwards.
        unsafe { zmq_close(self.0) };
    }
}

/// The value of `field` in a `status` file of `/proc`.
fn status_field(path: &str, field: &str) -> Option<String> {
    let status = fs::read_to_string(path).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    Some(line.rsplit('\t').next()?.to_owned())
}

#[test]
fn library_is_complete_4_3_5_and_fits_the_bindings() {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: three valid places for integers.
    unsafe { zmq_version(&mut major, &mut minor, &mut patch) };
    assert_eq!((major, minor, patch), (4, 3, 5));

    for capability in [c"curve", c"ipc", c"draft"] {
        // SAFETY: the name ends in a zero.
        assert_eq!(unsafe { zmq_has(capability.as_ptr()) }, 1, "{capability:?}");
    }

    let context = Context::new();
    // SAFETY: the context lives.
    let size = unsafe { zmq_ctx_get(context.0, ZMQ_MSG_T_SIZE as c_int) };
    assert_eq!(size as usize, size_of::<zmq_msg_t>());
}

#[test]
fn io_threads_are_named_and_pinned() {
    let allowed = status_field("/proc/self/status", "Cpus_allowed_list").unwrap();
    let cpu = allowed.split([',', '-']).next().unwrap();

    let context = Context::new();
    context.set(ZMQ_THREAD_NAME_PREFIX, 7);
    context.set(ZMQ_THREAD_AFFINITY_CPU_ADD, cpu.parse().unwrap());
    let _starts_the_threads = context.socket(ZMQ_PUB);

    // A thread pins and then names itself after the call that started it has returned.
    let pinned_to = (0..WAITS_MAX).find_map(|_| {
        sleep(WAIT);
        fs::read_dir("/proc/self/task").unwrap().find_map(|task| {
            let status = format!("{}/status", task.unwrap().path().display());
            (status_field(&status, "Name")? == "7/ZMQbg/IO/0")
                .then(|| status_field(&status, "Cpus_allowed_list"))?
        })
    });
    assert_eq!(pinned_to.as_deref(), Some(cpu));
}

#[test]
fn subscriber_on_a_device_receives_from_a_publisher_named_by_interface() {
    let context = Context::new();
    let publisher = context.socket(ZMQ_PUB);
    publisher.bind(c"tcp://lo:*");
    let subscriber = context.socket(ZMQ_SUB);
    subscriber.set(ZMQ_SUBSCRIBE, b"");
    subscriber.set(ZMQ_BINDTODEVICE, b"lo");
    subscriber.set(ZMQ_BUSY_POLL, &50_i32.to_ne_bytes());
    subscriber.set(ZMQ_IN_BATCH_SIZE, &32_768_i32.to_ne_bytes());
    subscriber.connect(&publisher);

    // The subscription takes its time to arrive, and until then the publisher drops.
    let received = (0..WAITS_MAX).any(|_| {
        sleep(WAIT);
        // SAFETY: both sockets live; the byte sent is static, and no byte is asked for.
        unsafe {
            zmq_send(publisher.0, b"x".as_ptr().cast(), 1, 0);
            zmq_recv(subscriber.0, ptr::null_mut(), 0, ZMQ_DONTWAIT as c_int) == 1
        }
    });
    assert!(received, "nothing arrived: {}", last_error());
}
