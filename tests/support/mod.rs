//! What tests of running processes share.

#![allow(dead_code, reason = "each test uses a part")]
#![allow(missing_docs)]

pub mod benchmark;
pub mod browser;
pub mod cached;
pub mod control;
pub mod lossy;
pub mod machine;
pub mod moves;
pub mod past;
pub mod peer;
pub mod python;
pub mod tuned_host;

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use pinfeed::{
    clock::{Deadline, wall_ns},
    config::Engine,
    envelope::pinfeed::seal,
    message::Stamp,
    pipeline::{Outcome, Pipeline},
    worker::Handler,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// All engines. What one does, the other has to do.
pub const ENGINES: [Engine; 2] = [Engine::Native, Engine::Libzmq];

/// How long anything in a test may take before it is a failure.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How long a test that waits sleeps between two looks. If it only gave way, it would keep a core from those that it
/// waits for, and on a busy machine would hardly get to look.
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// A gate that a handler stands before until it is opened.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<Passage>, Condvar)>);

#[derive(Default)]
struct Passage {
    is_open: bool,
    is_reached: bool,
}

impl Gate {
    pub fn open(&self) {
        self.passage().is_open = true;
        self.0.1.notify_all();
    }

    pub fn pass(&self) {
        let mut passage = self.passage();
        passage.is_reached = true;
        let passed = self.0.1.wait_while(passage, |passage| !passage.is_open);
        drop(passed.expect("nobody panics within"));
    }

    /// Tells whether a handler has come to it.
    pub fn is_reached(&self) -> bool {
        self.passage().is_reached
    }

    fn passage(&self) -> MutexGuard<'_, Passage> {
        self.0.0.lock().expect("nobody panics within")
    }
}

/// The arguments of `sh` to run the command where only so many files may be open.
pub fn with_open_files(files_max: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("ulimit -n {files_max} && exec \"$0\" \"$@\""),
        ])
        .arg(env!("CARGO_BIN_EXE_pinfeed"))
        .args(arguments);
    command
}

/// The most memory that a process has had at once, in kilobytes; `None` where it has ended.
fn peak_kb(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The CPU time that the threads of a process have used, in nanoseconds.
pub fn cpu_ns(process: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let used = threads.flatten().map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let first = text.split(' ').next().unwrap_or_default();
        first.parse::<u64>().unwrap_or(0)
    });
    let used = used.sum();
    assert!(used > 0, "the kernel counts the time of threads");
    used
}

/// Tells whether a process uses next to no CPU for a while.
pub fn sleeps(process: u32) -> bool {
    let before_ns = cpu_ns(process);
    let while_ = Deadline::after(Duration::from_millis(200));
    while !while_.passed() {
        thread::yield_now();
    }
    cpu_ns(process) - before_ns < 20_000_000
}

/// A `pinfeed` process. Killed, should it still run, when dropped, or after [`LIMIT`].
pub struct Pinfeed {
    child: Child,
    _watchdog: Sender<()>,
    stderr: BufReader<ChildStderr>,
    /// The lines of standard error read so far.
    pub said: String,
}

impl Pinfeed {
    pub fn start<S: AsRef<OsStr>>(arguments: &[S]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_pinfeed")).args(arguments))
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let process = Pid::from_child(&child);
        let (watchdog, ended) = mpsc::channel::<()>();
        thread::spawn(move || {
            if ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                let _ = kill_process(process, Signal::KILL);
            }
        });
        Self {
            child,
            _watchdog: watchdog,
            stderr,
            said: String::new(),
        }
    }

    /// Reads standard error up to a line that starts with `start`, and returns the rest of it.
    pub fn wait_for_line(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).expect("text");
            assert!(read > 0, "no line starts with {start:?} in:\n{}", self.said);
            self.said.push_str(&line);
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim_end().to_owned();
            }
        }
    }

    /// Reads standard error up to a line with `text` in it.
    pub fn wait_for_text(&mut self, text: &str) {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).expect("text");
            assert!(read > 0, "no line has {text:?} in:\n{}", self.said);
            self.said.push_str(&line);
            if line.contains(text) {
                return;
            }
        }
    }

    /// Fills the pipe of standard error, so that it takes nothing more until it is read.
    pub fn fill_stderr(&self) {
        let pipe = format!("/proc/self/fd/{}", self.stderr.get_ref().as_raw_fd());
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut options = fs::OpenOptions::new();
        let mut pipe = options
            .write(true)
            .custom_flags(flags)
            .open(pipe)
            .expect("its other end");
        while pipe.write(b"\n").is_ok() {}
    }

    /// Returns the bytes in the pipe of standard error.
    pub fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(self.stderr.get_ref()).expect("a pipe")
    }

    /// Tells whether it has not ended, without taking note if it has.
    pub fn is_running(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Watches until it ends how much memory it has had at most, in kilobytes.
    pub fn watch_memory(&self) -> JoinHandle<u64> {
        let id = self.id();
        thread::spawn(move || {
            let mut peak = 0;
            while let Some(now) = peak_kb(id) {
                peak = now;
                // It only grows: no more than the pace at which it is asked for.
                thread::sleep(Duration::from_millis(20));
            }
            peak
        })
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for the end, and returns the status and what went to standard output.
    pub fn finish(&mut self) -> (ExitStatus, String) {
        let mut stdout = self.child.stdout.take().expect("not finished before");
        // Both at once, or a full pipe of one would keep the other from ending.
        let output = thread::spawn(move || {
            let mut output = String::new();
            stdout.read_to_string(&mut output).expect("text");
            output
        });
        self.stderr.read_to_string(&mut self.said).expect("text");
        let output = output.join().expect("the reader does not panic");
        (self.child.wait().expect("a child"), output)
    }

    /// Waits for the end with exit code `code`, and returns the JSON object on standard output.
    pub fn json(&mut self, code: i32) -> Value {
        let (status, output) = self.finish();
        assert_eq!(status.code(), Some(code), "{}", self.said);
        serde_json::from_str(&output).unwrap_or_else(|_| panic!("one JSON object: {output:?}"))
    }
}

impl Drop for Pinfeed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `pinfeed publish` with these arguments on a free port, and returns it and its endpoint.
pub fn publisher(arguments: &[&str]) -> (Pinfeed, String) {
    let mut process =
        Pinfeed::start(&[&["publish", "--bind", "tcp://127.0.0.1:*"], arguments].concat());
    let endpoint = process.wait_for_line("publishing on ");
    (process, endpoint)
}

/// Starts `pinfeed run --json` with these arguments, connected to a `pinfeed publish`.
pub fn subscriber(endpoint: &str, arguments: &[&str]) -> Pinfeed {
    let fixed = [
        "run",
        "--json",
        "--envelope",
        "pinfeed",
        "--connect",
        endpoint,
    ];
    Pinfeed::start(&[&fixed[..], arguments].concat())
}

/// A publisher by libzmq that is told of subscriptions.
pub fn xpub(context: &zmq::Context) -> zmq::Socket {
    let socket = context.socket(zmq::XPUB).expect("a socket");
    socket.set_linger(0).expect("an option");
    socket
        .set_rcvtimeo(LIMIT.as_millis() as i32)
        .expect("an option");
    socket
}

/// The same bound to a free port, with its endpoint.
pub fn bound_xpub(context: &zmq::Context) -> (zmq::Socket, String) {
    let socket = xpub(context);
    socket.bind("tcp://127.0.0.1:*").expect("a free port");
    let endpoint = socket.get_last_endpoint().expect("an endpoint");
    (socket, endpoint.expect("text"))
}

/// The same, one that keeps what it can't send at once, where others drop it.
pub fn patient_xpub(context: &zmq::Context) -> (zmq::Socket, String) {
    let socket = xpub(context);
    // Set once it is bound, that has no effect.
    socket.set_sndhwm(0).expect("an option");
    socket.bind("tcp://127.0.0.1:*").expect("a free port");
    let endpoint = socket.get_last_endpoint().expect("an endpoint");
    (socket, endpoint.expect("text"))
}

/// An empty message in the envelope `pinfeed`, stamped now.
pub fn sealed(topic: &str, epoch: u64, sequence: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    let stamp = Stamp {
        epoch,
        sequence,
        timestamp_ns: wall_ns(),
    };
    seal(&mut frame, topic.as_bytes(), b"", stamp);
    frame
}

/// Returns an endpoint with a port that was free a moment ago.
pub fn free_endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("tcp://{}", listener.local_addr().expect("an address"))
}

/// An endpoint where nobody answers, as long as the socket is kept: it has the port, and does not listen.
pub fn nobody() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any_port.into()).expect("a free port");
    let address = socket.local_addr().expect("it is bound").as_socket();
    let endpoint = format!("tcp://{}", address.expect("it is of TCP"));
    (socket, endpoint)
}

/// Waits until `done` holds.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Deadline::after(LIMIT);
    while !done() {
        assert!(!deadline.passed(), "waited too long until {what}");
        thread::sleep(LOOK_EVERY);
    }
}

/// Waits until a pipeline has stopped, and returns what it did.
pub fn finish<H: Handler>(mut pipeline: Pipeline<H>) -> Outcome<H> {
    let deadline = Deadline::after(LIMIT);
    while !pipeline.is_finished() {
        let totals = pipeline.look();
        assert!(
            totals.under_way() >= 0,
            "never more than was received: {totals:?}"
        );
        assert!(
            !deadline.passed(),
            "the pipeline should have stopped: {totals:?}"
        );
        thread::sleep(LOOK_EVERY);
    }
    for worker in pipeline.by_worker() {
        let under_way = (worker.batches_under_way, worker.messages_under_way);
        assert_eq!(under_way, (0, 0), "batches and messages at rest");
    }
    pipeline.finish()
}

/// Returns the folder with captures, or says that the test is skipped.
pub fn captures() -> Option<PathBuf> {
    let folder = std::env::var_os("PINFEED_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    skip(&format!("there are no captures in {}", folder.display()));
    None
}

/// Says that a test is skipped, past the capture of its output.
pub fn skip(reason: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED {test}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Number `key` of a summary.
pub fn number(summary: &Value, key: &str) -> u64 {
    summary[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} is a number in {summary}"))
}

/// Asserts that a summary accounts for `messages`, all delivered.
pub fn assert_all_delivered(summary: &Value, messages: u64) {
    assert_eq!(number(summary, "received"), messages, "{summary}");
    assert_eq!(number(summary, "delivered"), messages, "{summary}");
    assert_eq!(summary["balanced"], true, "{summary}");
    assert_eq!(number(&summary["latency_ns"]["queue"], "count"), messages);
}
