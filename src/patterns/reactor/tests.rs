//! The reactor against libzmq's sockets: what it sends and hears, and what it does to those who misbehave.

use std::io::{Read, Write};

use super::*;
use crate::zmtp::{Cut, Frames, Splitter, Subscription, encode_ready};

const LIMIT: Duration = Duration::from_secs(20);

/// Notes what it is told, and answers what a peer of a ROUTER or a PULL sends.
#[derive(Default)]
struct Notes {
    messages: Vec<Vec<Vec<u8>>>,
    subscriptions: Vec<(bool, Vec<u8>, Shift)>,
    open: Vec<Link>,
    closed: Vec<String>,
    orphaned: Vec<Vec<u8>>,
    refused: Vec<(Option<String>, String)>,
    wakes: usize,
    rooms: usize,
    answers: bool,
}

impl Application for Notes {
    fn on_message(&mut self, links: &mut Links, link: Link, frames: &[&[u8]]) {
        self.messages
            .push(frames.iter().map(|frame| frame.to_vec()).collect());
        if self.answers {
            links.send(link, frames).unwrap();
        }
    }

    fn on_open(&mut self, _links: &mut Links, link: Link) {
        self.open.push(link);
    }

    fn on_subscription(
        &mut self,
        _links: &mut Links,
        _link: Link,
        subscription: Subscription<'_>,
        shift: Shift,
    ) {
        let (starts, prefix) = match subscription {
            Subscription::Start(prefix) => (true, prefix),
            Subscription::End(prefix) => (false, prefix),
        };
        self.subscriptions.push((starts, prefix.to_vec(), shift));
    }

    fn on_room(&mut self, _links: &mut Links, _link: Link) {
        self.rooms += 1;
    }

    fn on_close(&mut self, _links: &mut Links, _link: Link, end: &End, orphaned: &[Box<[u8]>]) {
        self.closed.push(end.to_string());
        self.orphaned
            .extend(orphaned.iter().map(|prefix| prefix.to_vec()));
    }

    fn on_refused(&mut self, _socket: SocketId, endpoint: Option<&str>, end: &End) {
        self.refused
            .push((endpoint.map(str::to_owned), end.to_string()));
    }

    fn on_wake(&mut self, _links: &mut Links) {
        self.wakes += 1;
    }
}

struct Bench {
    reactor: Reactor,
    notes: Notes,
    context: zmq::Context,
}

impl Bench {
    fn new() -> Self {
        Self {
            reactor: Reactor::new(Clock::start()).unwrap(),
            notes: Notes::default(),
            context: zmq::Context::new(),
        }
    }

    fn bound(&mut self, plan: SocketPlan) -> (SocketId, String) {
        let socket = self.reactor.socket(plan);
        let endpoint = self.reactor.bind(socket, "tcp://127.0.0.1:*").unwrap();
        (socket, endpoint)
    }

    fn libzmq(&self, socket_type: zmq::SocketType) -> zmq::Socket {
        let socket = self.context.socket(socket_type).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvtimeo(20_000).unwrap();
        socket.set_sndtimeo(20_000).unwrap();
        socket
    }

    fn turn_until(&mut self, what: &str, mut reached: impl FnMut(&mut Reactor, &Notes) -> bool) {
        let end = Deadline::after(LIMIT);
        while !reached(&mut self.reactor, &self.notes) {
            assert!(!end.passed(), "not within {LIMIT:?}: {what}");
            self.reactor
                .turn(&mut self.notes, Duration::from_millis(10))
                .unwrap();
        }
    }
}

#[test]
fn a_publisher_reaches_those_who_asked_and_knows_who_did() {
    let mut bench = Bench::new();
    let (publisher, endpoint) = bench.bound(SocketPlan::new(SocketType::XPub));
    let first = bench.libzmq(zmq::SUB);
    let second = bench.libzmq(zmq::SUB);
    first.set_subscribe(b"a").unwrap();
    first.set_subscribe(b"ab").unwrap();
    first.connect(&endpoint).unwrap();
    bench.turn_until("first is subscribed", |_, notes| {
        notes.subscriptions.len() == 2
    });
    second.set_subscribe(b"a").unwrap();
    second.connect(&endpoint).unwrap();
    bench.turn_until("second is subscribed", |_, notes| {
        notes.subscriptions.len() == 3
    });
    let shifts: Vec<_> = bench.notes.subscriptions.iter().map(|one| one.2).collect();
    assert_eq!(shifts, [Shift::First, Shift::First, Shift::None]);

    let links = bench.reactor.links();
    assert_eq!(links.publish(publisher, &[b"abc", b"", b"x"]), 2);
    assert_eq!(links.publish(publisher, &[b"b", b"nobody"]), 0);
    let alone = bench.notes.open[1];
    assert!(links.reaches(alone, b"ab") && !links.reaches(alone, b"b"));
    links.send(alone, &[b"ax", b"only you"]).unwrap();
    bench.turn_until("all is sent", |reactor, _| !reactor.links.are_waiting());
    let abc = vec![b"abc".to_vec(), Vec::new(), b"x".to_vec()];
    assert_eq!(first.recv_multipart(0).unwrap(), abc);
    assert_eq!(second.recv_multipart(0).unwrap(), abc);
    assert_eq!(
        second.recv_multipart(0).unwrap(),
        [b"ax".to_vec(), b"only you".to_vec()]
    );
    assert_eq!(first.recv_multipart(zmq::DONTWAIT), Err(zmq::Error::EAGAIN));

    first.set_unsubscribe(b"ab").unwrap();
    bench.turn_until("the cancellation", |_, notes| {
        notes.subscriptions.len() == 4
    });
    assert_eq!(
        bench.notes.subscriptions[3],
        (false, b"ab".to_vec(), Shift::Last)
    );
    drop((first, second));
    bench.turn_until("both have gone", |_, notes| notes.closed.len() == 2);
    assert_eq!(bench.notes.orphaned, [b"a"]);
    let counters = bench.reactor.links().counters(publisher);
    assert_eq!((counters.opened, counters.closed), (2, 2));
    assert_eq!(
        (counters.sent, counters.dropped, counters.rejected),
        (3, 0, 0)
    );
}

#[test]
fn a_router_answers_each_peer_whatever_the_size() {
    let mut bench = Bench::new();
    let (_, endpoint) = bench.bound(SocketPlan::new(SocketType::Router));
    bench.notes.answers = true;
    let dealers = [bench.libzmq(zmq::DEALER), bench.libzmq(zmq::DEALER)];
    let mut expected = 0;
    for size in [0, 1, 255, 256, 70_000, 130_000, 300_000, 5 << 20] {
        for (byte, dealer) in dealers.iter().enumerate() {
            dealer.connect(&endpoint).ok();
            let body = vec![byte as u8; size];
            dealer.send_multipart([&b"hello"[..], &body], 0).unwrap();
            expected += 1;
            bench.turn_until("the request", |reactor, notes| {
                notes.messages.len() == expected && !reactor.links.are_waiting()
            });
            // Libzmq reads while the reactor writes, so all has left by now.
            let answer = dealer.recv_multipart(0).unwrap();
            assert!(answer == [b"hello".to_vec(), body], "{size} bytes");
        }
        if size == 0 {
            for dealer in &dealers {
                dealer.disconnect(&endpoint).ok();
            }
        }
    }
}

#[test]
fn connections_are_made_again_with_all_subscriptions() {
    let mut bench = Bench::new();
    let subscriber = bench.reactor.socket(SocketPlan::new(SocketType::Sub));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", free.local_addr().unwrap());
    drop(free);
    bench.reactor.connect(subscriber, &endpoint).unwrap();
    bench.reactor.links().subscribe(subscriber, b"a");
    bench.turn_until("the first failure", |_, notes| !notes.refused.is_empty());
    for life in 0..3 {
        let publisher = bench.libzmq(zmq::XPUB);
        let deadline = Deadline::after(LIMIT);
        while publisher.bind(&endpoint).is_err() {
            assert!(!deadline.passed());
        }
        bench.turn_until("it is up", |_, notes| notes.open.len() == life + 1);
        bench.turn_until("all is said", |reactor, _| !reactor.links.are_waiting());
        assert_eq!(publisher.recv_bytes(0).unwrap(), b"\x01a");
        if life > 0 {
            assert_eq!(publisher.recv_bytes(0).unwrap(), b"\x01b");
        }
        publisher.send_multipart([&b"a"[..], b"1"], 0).unwrap();
        bench.turn_until("a message", |_, notes| notes.messages.len() == life + 1);
        if life == 0 {
            bench.reactor.links().subscribe(subscriber, b"b");
        }
        publisher.unbind(&endpoint).unwrap();
        drop(publisher);
        bench.turn_until("it is lost", |_, notes| notes.closed.len() == life + 1);
    }
    let named: Vec<_> = bench
        .notes
        .refused
        .iter()
        .map(|one| one.0.clone())
        .collect();
    assert!(
        named.len() <= 4 && named.iter().all(|name| name.as_ref() == Some(&endpoint)),
        "one failure is told for each time that it was not there: {:?}",
        bench.notes.refused
    );
}

#[test]
fn a_socket_of_either_type_collects_from_both() {
    let mut bench = Bench::new();
    let plan = SocketPlan {
        or: Some(SocketType::Sub),
        ..SocketPlan::new(SocketType::Pull)
    };
    let (collector, endpoint) = bench.bound(plan);
    bench.reactor.links().subscribe(collector, b"");
    let push = bench.libzmq(zmq::PUSH);
    push.connect(&endpoint).unwrap();
    push.send("pushed", 0).unwrap();
    bench.turn_until("what was pushed", |_, notes| notes.messages.len() == 1);
    let publisher = bench.libzmq(zmq::XPUB);
    publisher.connect(&endpoint).unwrap();
    bench.turn_until("it is told of the subscription", |reactor, notes| {
        notes.open.len() == 2 && !reactor.links.are_waiting()
    });
    assert_eq!(publisher.recv_bytes(0).unwrap(), b"\x01");
    publisher.send("published", 0).unwrap();
    bench.turn_until("what was published", |_, notes| notes.messages.len() == 2);
    assert_eq!(
        bench.notes.messages,
        [[b"pushed".to_vec()], [b"published".to_vec()]]
    );
    let met: Vec<_> = bench
        .notes
        .open
        .iter()
        .map(|&link| bench.reactor.links.met_as(link))
        .collect();
    assert_eq!(met, [Some(SocketType::Pull), Some(SocketType::Sub)]);
}

#[test]
fn what_waits_for_a_peer_is_bounded_and_others_go_on() {
    let mut bench = Bench::new();
    let plan = SocketPlan {
        waiting_bytes_max: 1 << 20,
        ..SocketPlan::new(SocketType::Pub)
    };
    let (publisher, endpoint) = bench.bound(plan);
    let address = endpoint.strip_prefix("tcp://").unwrap().to_owned();
    // One that says what it must and never reads: libzmq would read into its queue.
    let mut stalled = std::net::TcpStream::connect(address).unwrap();
    let mut hello = Vec::new();
    Handshake::start(SocketType::Sub, Version::V3_0, &mut hello);
    encode_ready(&mut hello, SocketType::Sub);
    hello.extend_from_slice(b"\0\x01\x01");
    stalled.write_all(&hello).unwrap();
    let subscriber = bench.libzmq(zmq::SUB);
    subscriber.set_subscribe(b"").unwrap();
    subscriber.set_rcvhwm(0).unwrap();
    subscriber.connect(&endpoint).unwrap();
    bench.turn_until("both are subscribed", |_, notes| {
        notes.subscriptions.len() == 2
    });
    let body = vec![7; 10_000];
    let mut reached = 0;
    for number in 0..3_000_u32 {
        let links = bench.reactor.links();
        reached += links.publish(publisher, &[&number.to_be_bytes(), &body]);
        bench.turn_until("the other has room", |reactor, notes| {
            let other = notes.open[1];
            reactor.links.waiting_bytes(other) < 500_000
        });
    }
    bench.turn_until("the other has all", |reactor, notes| {
        reactor.links.waiting_bytes(notes.open[1]) == 0
    });
    for number in 0..3_000_u32 {
        let message = subscriber.recv_multipart(0).unwrap();
        assert_eq!(message[0], number.to_be_bytes());
    }
    let counters = bench.reactor.links().counters(publisher);
    assert!(counters.dropped > 0);
    assert_eq!(counters.sent + counters.dropped, 6_000);
    assert_eq!(counters.sent, reached as u64);
    // What did get through is whole messages, in order.
    let stalled_link = bench.notes.open[0];
    bench.reactor.links().tell_when_sent(stalled_link);
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut piece = [0; 65_536];
        while let Ok(read) = stalled.read(&mut piece) {
            if read == 0 {
                break;
            }
            bytes.extend_from_slice(&piece[..read]);
        }
        bytes
    });
    bench.turn_until("all is sent", |_, notes| notes.rooms == 1);
    bench.reactor.links().hang_up(stalled_link);
    bench.turn_until("it is gone", |_, notes| notes.closed.len() == 1);
    let bytes = reader.join().unwrap();
    let mut handshake = Handshake::start(SocketType::Sub, Version::V3_0, &mut Vec::new());
    let progress = handshake.advance(&bytes, &mut Vec::new()).unwrap();
    assert!(progress.peer.is_some());
    let mut splitter = Splitter::new(SocketPlan::new(SocketType::Sub).limits);
    let mut rest = &bytes[progress.consumed..];
    let mut numbers = Vec::new();
    let mut frames = Frames::default();
    while let (Cut::Message, length) = splitter.cut(rest, &mut frames).unwrap() {
        numbers.push(frames.as_slice()[0].to_vec());
        rest = &rest[length..];
    }
    assert!(rest.is_empty());
    assert_eq!(numbers.len() as u64, counters.sent - 3_000);
    assert!(numbers.is_sorted());
}

#[test]
fn those_who_misbehave_are_hung_up_on_and_named() {
    let mut bench = Bench::new();
    let (socket, endpoint) = bench.bound(SocketPlan::new(SocketType::Router));
    let address = endpoint.strip_prefix("tcp://").unwrap();
    let mut stranger = std::net::TcpStream::connect(address).unwrap();
    stranger.write_all(&[b'x'; 64]).unwrap();
    let wrong = bench.libzmq(zmq::SUB);
    wrong.connect(&endpoint).unwrap();
    bench.turn_until("both are refused", |_, notes| notes.refused.len() >= 2);
    let reasons: Vec<_> = bench
        .notes
        .refused
        .iter()
        .map(|one| one.1.as_str())
        .collect();
    assert!(
        reasons.contains(&"what the peer sends is not ZMTP"),
        "{reasons:?}"
    );
    assert!(
        reasons.contains(&"the peer's socket is of the wrong type"),
        "{reasons:?}"
    );
    assert!(bench.reactor.links().counters(socket).rejected >= 2);
    // A good one is served none the less.
    bench.notes.answers = true;
    let dealer = bench.libzmq(zmq::DEALER);
    dealer.connect(&endpoint).unwrap();
    dealer.send("hi", 0).unwrap();
    bench.turn_until("a request", |reactor, notes| {
        notes.messages.len() == 1 && !reactor.links.are_waiting()
    });
    assert_eq!(dealer.recv_bytes(0).unwrap(), b"hi");
}

#[test]
fn peers_that_fall_silent_are_given_up() {
    let mut bench = Bench::new();
    let (_, endpoint) = bench.bound(SocketPlan::new(SocketType::Pull));
    let address = endpoint.strip_prefix("tcp://").unwrap();
    let mut silent = std::net::TcpStream::connect(address).unwrap();
    let mut hello = Vec::new();
    Handshake::start(SocketType::Push, Version::V3_1, &mut hello);
    encode_ready(&mut hello, SocketType::Push);
    silent.write_all(&hello).unwrap();
    let living = bench.libzmq(zmq::PUSH);
    living.connect(&endpoint).unwrap();
    bench.turn_until("it is given up", |_, notes| !notes.closed.is_empty());
    assert_eq!(bench.notes.closed, ["the peer was silent for too long"]);
    living.send("still here", 0).unwrap();
    bench.turn_until("a message", |_, notes| notes.messages.len() == 1);
}

#[test]
fn another_thread_can_ring() {
    let mut bench = Bench::new();
    let waker = bench.reactor.waker();
    let ringing = std::thread::spawn(move || waker.wake());
    bench.turn_until("a ring", |_, notes| notes.wakes == 1);
    ringing.join().unwrap();
}

#[test]
fn endpoints_that_are_none_are_refused() {
    let mut bench = Bench::new();
    let (socket, endpoint) = bench.bound(SocketPlan::new(SocketType::Pull));
    for wrong in ["nonsense", "tcp://x", "ipc:///", &endpoint] {
        let refused = bench.reactor.bind(socket, wrong).unwrap_err();
        assert!(
            refused.is_bad_input() && refused.to_string().contains(wrong),
            "{refused}"
        );
    }
    assert!(bench.reactor.connect(socket, "inproc://x").is_err());
}
