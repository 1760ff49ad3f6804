//! What stands between publisher and subscriber, as a process of its own: pinfeed's tap and cache, and a proxy by
//! libzmq. It ends with its standard input.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use pinfeed::{
    patterns::{
        cache::{Cache, CachePlan, Evict, Limits},
        copies::CopyRule,
        ends::EndsPlan,
        tap::{Tap, TapPlan, WatchPlan, lines},
    },
    stop::Stop,
};

/// What stands in front of the process's own arguments.
const WORD: &str = "middle";
const ANY_PORT: &str = "tcp://127.0.0.1:*";
/// The most that may wait for the subscriber, in bytes: more than is sent, so that it gets all.
const WAITING_BYTES_MAX: usize = 1 << 30;

/// What stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Middle {
    /// `zmq_proxy` with an XSUB and an XPUB.
    Proxy,
    /// The tap, with nobody watching.
    Tap,
    /// The tap, with a watcher that takes nothing.
    StalledTap,
    /// The cache.
    Cache,
}

impl Middle {
    pub const ALL: [Self; 4] = [Self::Proxy, Self::Tap, Self::StalledTap, Self::Cache];

    pub fn name(self) -> &'static str {
        match self {
            Self::Proxy => "through a libzmq proxy",
            Self::Tap => "through the tap",
            Self::StalledTap => "through the tap, its watcher stalled",
            Self::Cache => "through the cache",
        }
    }
}

/// The process. Its subscribers have all they will get when it is dropped.
pub struct Between {
    child: Child,
    stdin: Option<ChildStdin>,
    pub endpoint: String,
}

impl Between {
    pub fn start(middle: Middle, upstream: &str) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program)
            .args([WORD, middle.name(), upstream])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let output = child.stdout.take().expect("its output is a pipe");
        let mut endpoint = String::new();
        BufReader::new(output)
            .read_line(&mut endpoint)
            .expect("it says where it listens");
        Self {
            stdin: child.stdin.take(),
            child,
            endpoint: endpoint.trim().to_owned(),
        }
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().expect("the process can be waited for");
        assert!(status.success(), "what stands between failed");
    }
}

/// Runs the process, if that is what the arguments ask for.
pub fn stand_if_asked(arguments: &[String]) -> bool {
    let [word, name, upstream] = arguments else {
        return false;
    };
    let middle = Middle::ALL.into_iter().find(|middle| middle.name() == name);
    let (Some(middle), true) = (middle, word == WORD) else {
        return false;
    };
    let stop = Stop::default();
    let asked = stop.clone();
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        asked.request();
    });
    match middle {
        Middle::Proxy => proxy(upstream, &stop),
        Middle::Tap | Middle::StalledTap => tap(middle == Middle::StalledTap, upstream, &stop),
        Middle::Cache => cache(upstream, &stop),
    }
    true
}

fn say(endpoint: &str) {
    println!("{endpoint}");
}

fn proxy(upstream: &str, stop: &Stop) {
    let context = zmq::Context::new();
    let subscriber = context.socket(zmq::XSUB).expect("a socket");
    let publisher = context.socket(zmq::XPUB).expect("a socket");
    for socket in [&subscriber, &publisher] {
        socket.set_sndhwm(0).expect("no limit");
        socket.set_rcvhwm(0).expect("no limit");
        socket.set_linger(0).expect("no linger");
    }
    subscriber.connect(upstream).expect("an endpoint");
    publisher.bind(ANY_PORT).expect("a free port");
    let endpoint = publisher.get_last_endpoint().expect("an endpoint");
    say(&endpoint.expect("text"));
    thread::spawn(move || zmq::proxy(&subscriber, &publisher));
    while !stop.requested() {
        thread::sleep(Duration::from_millis(20));
    }
}

fn ends(connect: Vec<String>) -> EndsPlan {
    EndsPlan {
        connect,
        bind: Vec::new(),
        serve: vec![ANY_PORT.to_owned()],
        waiting_bytes_max: WAITING_BYTES_MAX,
    }
}

/// Takes nothing until the end.
struct Stalled(Arc<AtomicBool>);

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while !self.0.load(Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tap(is_watched: bool, upstream: &str, stop: &Stop) {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut watch = Vec::new();
    if is_watched {
        watch.push(WatchPlan {
            name: "stalled".to_owned(),
            rule: CopyRule::default(),
            line: Box::new(lines::for_capture),
            out: Box::new(Stalled(is_over.clone())),
        });
    }
    let plan = TapPlan {
        ends: ends(vec![upstream.to_owned()]),
        watch,
        watch_bind: Vec::new(),
        messages_max: u64::MAX,
    };
    let mut tap = Tap::open(plan, stop.clone()).expect("a free port");
    say(&tap.ends().served[0]);
    while !stop.requested() {
        tap.turn(Duration::from_millis(50)).expect("it forwards");
    }
    is_over.store(true, Relaxed);
    let (summary, written) = tap.finish().expect("it ends");
    written.expect("nothing is written to a file");
    let flow = &summary.flow;
    assert_eq!((flow.lost, flow.forwarded), (0, flow.received));
    let copies = &summary.watchers;
    assert!(
        copies
            .iter()
            .all(|one| flow.received < 100_000 || one.copied.lost > 0)
    );
}

fn cache(upstream: &str, stop: &Stop) {
    let plan = CachePlan {
        ends: ends(Vec::new()),
        subscribe: Vec::new(),
        // Messages are of one frame, with the topic in front.
        envelope: Some(pinfeed::envelope::Envelope::Delimited(b'|')),
        limits: Limits {
            topics_max: 1_000_000,
            bytes_max: 1 << 30,
        },
        evict: Evict::Oldest,
        file: None,
        snapshots: Vec::new(),
        messages_max: u64::MAX,
    };
    let mut cache = Cache::open(&plan, stop.clone()).expect("a free port");
    say(&cache.ends().served[0]);
    // It would take what is published before its subscriber is there.
    while cache.answered() == 0 && !stop.requested() {
        cache.turn(Duration::from_millis(50)).expect("it listens");
    }
    cache.connect(upstream).expect("an endpoint");
    while !stop.requested() {
        cache.turn(Duration::from_millis(50)).expect("it forwards");
    }
    let (summary, _) = cache.finish().expect("it ends");
    assert!(summary.balanced && summary.unreadable == 0, "{summary:?}");
    assert_eq!(summary.flow.lost, 0);
}
