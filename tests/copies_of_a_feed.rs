//! Goal: of a feed that comes twice, over two lines that each lose, repeat and delay messages, every message
//! that came over at least one of them is delivered once and in order, and every other one is reported lost:
//! published = delivered + lost, to the message; and each line is said to have brought what it brought. What a heartbeat
//! shows to be missing of both at the end is lost as well, and not what one of them brings yet.

mod support;

use std::{collections::HashMap, thread, time::Duration};

use pinfeed::{
    clock::Stopwatch,
    config::{Arbitration, Config, Engine},
    envelope::Envelope,
    lane::Quota,
    message::{Message, Notice},
    pipeline::Pipeline,
    publish::{
        self, Publisher, PublisherOptions, Until,
        exchange::{Exchange, Parameters},
    },
    sequence::{
        Gap,
        arbiter::{LAG_SAMPLE_EVERY, LineCounts},
    },
    stop::Stop,
    worker::Handler,
};
use support::{
    ENGINES, finish,
    lossy::{Faults, Lossy, Pace, copies},
    patient_xpub, sealed, wait_until,
};

const TOPICS: usize = 1_000;
const EPOCH: u64 = 7;
/// The place from which on every topic has been published, some twenty times.
const ALL_SEEN: u64 = 20_000;

/// Checks that each topic's numbers rise, and counts what is missing in between.
#[derive(Default)]
struct InOrder {
    next: HashMap<Vec<u8>, u64>,
    delivered: u64,
    skipped: u64,
    reported: u64,
}

impl Handler for InOrder {
    fn on_message(&mut self, message: &Message<'_>) {
        let sequence = message.sequence().expect("a sequence number");
        let next = self.next.entry(message.topic().to_vec()).or_default();
        assert!(sequence >= *next, "{sequence} after {next}");
        self.skipped += sequence - *next;
        *next = sequence + 1;
        self.delivered += 1;
        assert_eq!(self.skipped, self.reported, "what is missing is told first");
    }

    fn on_gap(&mut self, _notice: &Notice<'_>, gap: &Gap) {
        assert_eq!(gap.epoch, EPOCH);
        self.reported += gap.count;
    }
}

fn publish_copy(messages: u64, rate: f64) -> (thread::JoinHandle<()>, String) {
    let mut exchange = Exchange::new(Parameters {
        topics: TOPICS,
        skew: 0.0,
        rate: Some(rate),
        burst: 50,
        ..Parameters::default()
    })
    .unwrap();
    let mut publisher = Publisher::open(&PublisherOptions {
        bind: vec!["tcp://127.0.0.1:*".to_owned()],
        connect: Vec::new(),
        envelope: Envelope::Pinfeed,
        epoch: Some(EPOCH),
    })
    .unwrap();
    let endpoint = publisher.endpoints()[0].clone();
    let thread = thread::spawn(move || {
        let stop = Stop::default();
        publisher.wait_for_subscriptions(1, &stop).unwrap();
        let until = Until {
            messages: Some(messages),
            elapsed: None,
        };
        let done = publish::publish(&mut exchange, &mut publisher, until, &stop).unwrap();
        assert_eq!(done.published, messages);
        publisher.wait_for_departure(support::LIMIT, &stop).unwrap();
    });
    (thread, endpoint)
}

/// `delay` is the chance of a message to come late by its line.
fn delivered_or_lost(engine: Engine, messages: u64, lanes: usize, delay: f64) {
    let (mut publishers, mut proxies) = (Vec::new(), Vec::new());
    let pace = Pace::of(2);
    for seed in 0..2 {
        let (publisher, endpoint) = publish_copy(messages, 100_000.0);
        let faults = Faults {
            seed,
            loss: 0.01,
            burst_max: 8,
            repeat: 0.005,
            delay,
            delay_max: 20,
            messages,
            spared: 20_000,
            lives: 1,
        };
        let proxy = Lossy::start_line(&endpoint, faults, seed as usize, pace.clone());
        publishers.push(publisher);
        proxies.push(proxy);
    }
    let endpoints: Vec<String> = proxies
        .iter()
        .map(|it: &Lossy| it.endpoint.clone())
        .collect();
    let mut config = Config::connect(&endpoints[0], Envelope::Pinfeed);
    config.engine = Some(engine);
    copies(&mut config, &endpoints, lanes, messages);
    let stop = Stop::default();
    let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
        InOrder::default()
    })
    .unwrap();
    while !proxies.iter().all(Lossy::is_finished) {
        pace.set_received(pipeline.look().received);
        thread::yield_now();
    }
    let lost: Vec<_> = proxies.into_iter().map(Lossy::finish).collect();
    let lost_by_both = lost[0].intersection(&lost[1]).count() as u64;
    // By line: what it lost, and what of it the other one brought; of that, what came when both had brought all topics.
    let known = [0, 1].map(|line: usize| {
        let brought: Vec<u64> = lost[line].difference(&lost[1 - line]).copied().collect();
        let later = brought.iter().filter(|&&place| place >= ALL_SEEN);
        (
            lost[line].len() as u64,
            brought.len() as u64,
            later.count() as u64,
        )
    });
    assert!(lost_by_both > 0, "the test loses something");
    let received_by_one = messages - lost_by_both;
    support::wait_until("all is delivered or lost", || {
        let totals = pipeline.look();
        totals.delivered + totals.lost() >= messages
    });
    stop.request();
    let outcome = finish(pipeline);
    for publisher in publishers {
        publisher.join().unwrap();
    }
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    let totals = outcome.totals;
    assert!(totals.balanced(), "{totals:?}");
    assert_eq!(totals.delivered, received_by_one);
    assert_eq!(totals.lost(), lost_by_both);
    assert_eq!(totals.delivered + totals.lost(), messages);
    assert_eq!(totals.rejected(), 0);
    assert_eq!(totals.first_seen, TOPICS as u64);
    let handlers = outcome.handlers.iter();
    let (delivered, reported) = handlers.fold((0, 0), |(delivered, reported), one| {
        (delivered + one.delivered, reported + one.reported)
    });
    assert_eq!((delivered, reported), (received_by_one, lost_by_both));
    let lines = &outcome.lines;
    assert_eq!(lines.len(), 2);
    for (line, (lost, brought, brought_later)) in lines.iter().zip(known) {
        let counts = &line.counts;
        assert_eq!(counts.copies, counts.wins + counts.duplicates, "{counts:?}");
        let repeated = counts.copies + lost - messages;
        assert!(repeated > 0 && repeated < messages / 100, "{repeated}");
        // Nobody knows of a line that it lost the first message of a topic; and what comes late by one that has gone
        // past it counts as repaired, too.
        assert!(
            counts.repaired >= brought_later,
            "{counts:?} {brought_later}"
        );
        if delay == 0.0 {
            assert!(counts.repaired <= brought, "{counts:?} {brought}");
        }
        assert!(counts.lag.len() <= counts.duplicates, "{counts:?}");
    }
    let sum = |of: fn(&LineCounts) -> u64| lines.iter().map(|line| of(&line.counts)).sum::<u64>();
    assert_eq!(sum(|line| line.wins), totals.delivered);
    assert_eq!(sum(|line| line.duplicates), totals.duplicates);
    assert_eq!(sum(|line| line.copies), totals.received);
    // By the copies that came second, of one in sixteen that came first.
    let lags = sum(|line| line.lag.len());
    assert!((1..=totals.delivered / LAG_SAMPLE_EVERY).contains(&lags));
}

/// Of a feed that comes once, what its line lost is reported to the message, and what it repeated is not
/// delivered twice.
fn lost_or_repeated(engine: Engine) {
    const MESSAGES: u64 = 200_000;
    let (publisher, endpoint) = publish_copy(MESSAGES, 100_000.0);
    let faults = Faults {
        seed: 5,
        loss: 0.01,
        burst_max: 8,
        repeat: 0.01,
        delay: 0.0,
        delay_max: 1,
        messages: MESSAGES,
        spared: 20_000,
        lives: 1,
    };
    let proxy = Lossy::start(&endpoint, faults);
    let mut config = Config::connect(&proxy.endpoint, Envelope::Pinfeed);
    config.engine = Some(engine);
    config.receive.heartbeat_ms = 0;
    config.feeds[0].sequence.from_start = true;
    let stop = Stop::default();
    let mut pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
        InOrder::default()
    })
    .unwrap();
    let lost = proxy.finish().len() as u64;
    assert!(lost > 0, "the test loses something");
    support::wait_until("all is delivered", || {
        pipeline.look().delivered >= MESSAGES - lost
    });
    stop.request();
    let outcome = finish(pipeline);
    publisher.join().unwrap();
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    let totals = outcome.totals;
    assert!(totals.balanced(), "{totals:?}");
    assert_eq!((totals.delivered, totals.lost()), (MESSAGES - lost, lost));
    assert_eq!(outcome.lost, Some(lost));
    assert!(totals.duplicates > 0);
    assert_eq!(totals.received, totals.delivered + totals.duplicates);
    let reported: u64 = outcome.handlers.iter().map(|one| one.reported).sum();
    assert_eq!(reported, lost);
}

#[test]
fn of_one_line_all_that_is_lost_is_reported() {
    for engine in support::ENGINES {
        lost_or_repeated(engine);
    }
}

#[test]
fn a_million_messages_over_two_lanes() {
    delivered_or_lost(Engine::Native, 1_000_000, 2, 0.005);
}

#[test]
fn over_one_lane() {
    delivered_or_lost(Engine::Native, 100_000, 1, 0.005);
}

#[test]
fn with_libzmq() {
    delivered_or_lost(Engine::Libzmq, 200_000, 2, 0.005);
}

#[test]
fn what_one_line_repaired_of_the_other_is_counted() {
    delivered_or_lost(Engine::Native, 100_000, 2, 0.0);
}

/// Each message has one missing before it, which only the line that is gone could bring.
#[test]
fn a_line_that_is_gone_is_not_waited_for_each_time() {
    const HOLES: u64 = 10;
    let wait = Duration::from_secs(1);
    for engine in ENGINES {
        let context = zmq::Context::new();
        let (first, first_endpoint) = patient_xpub(&context);
        let (second, second_endpoint) = patient_xpub(&context);
        let mut config = Config::connect(&first_endpoint, Envelope::Pinfeed);
        config.engine = Some(engine);
        let feed = &mut config.feeds[0];
        feed.lines.push(feed.lines[0].clone());
        feed.lines[1].connect = vec![second_endpoint];
        feed.arbitration = Some(Arbitration {
            wait_ms: wait.as_millis() as u32,
            ..Arbitration::default()
        });
        let stop = Stop::default();
        let start = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
            InOrder::default()
        });
        let mut pipeline = start.unwrap();
        for socket in [&first, &second] {
            assert_eq!(socket.recv_bytes(0).unwrap(), b"\x01");
            socket.send(sealed("topic", EPOCH, 0), 0).unwrap();
        }
        wait_until("both copies have come", || pipeline.look().received == 2);
        drop(second);
        wait_until("it is gone", || pipeline.look().disconnects == 1);
        let since = Stopwatch::start();
        for hole in 1..=HOLES {
            first.send(sealed("topic", EPOCH, 2 * hole), 0).unwrap();
            wait_until("what follows the hole is delivered", || {
                pipeline.look().delivered == 1 + hole
            });
        }
        // It may be back within a second, or the wait: the first one or two are waited for.
        let waited = Duration::from_nanos(since.elapsed_ns());
        assert!(waited < HOLES as u32 / 2 * wait, "{waited:?}");
        stop.request();
        let totals = finish(pipeline).totals;
        assert_eq!((totals.delivered, totals.lost()), (1 + HOLES, HOLES));
    }
}

/// Keeps what it is told, in order.
#[derive(Default)]
struct Log(Vec<String>);

impl Handler for Log {
    fn on_message(&mut self, message: &Message<'_>) {
        let topic = str::from_utf8(message.topic()).expect("a name");
        self.0.push(match message.sequence() {
            Some(sequence) => format!("{topic} {sequence}"),
            None => topic.to_owned(),
        });
    }

    fn on_gap(&mut self, _notice: &Notice<'_>, gap: &Gap) {
        self.0.push(format!("lost {} to {}", gap.from, gap.to));
    }
}

#[test]
fn what_a_heartbeat_shows_to_be_missing_of_both_lines_is_lost() {
    for engine in ENGINES {
        let context = zmq::Context::new();
        let publishers = [patient_xpub(&context), patient_xpub(&context)];
        let mut config = Config::connect(&publishers[0].1, "kvmsg".parse().unwrap());
        config.engine = Some(engine);
        config.workers.count = 1;
        let feed = &mut config.feeds[0];
        feed.lines.push(feed.lines[0].clone());
        feed.lines[1].connect = vec![publishers[1].1.clone()];
        feed.arbitration = Some(Arbitration {
            wait_ms: 1_000,
            ..Arbitration::default()
        });
        let stop = Stop::default();
        let start = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| {
            Log::default()
        });
        let mut pipeline = start.unwrap();
        for (socket, _) in &publishers {
            assert_eq!(socket.recv_bytes(0).unwrap(), b"\x01");
        }
        let mut sent = 0;
        let mut send = |pipeline: &mut Pipeline<Log>, line: usize, key: &str, sequence: u64| {
            let number = sequence.to_be_bytes();
            let frames = [key.as_bytes(), &number, b"", b"", b""];
            publishers[line].0.send_multipart(frames, 0).unwrap();
            sent += 1;
            wait_until("it has come", || pipeline.look().received == sent);
        };
        for (line, key, sequence) in [
            (0, "a", 1),
            (0, "HUGZ", 1),
            (0, "HUGZ", 2),
            (1, "a", 1),
            (1, "b", 2),
            (1, "HUGZ", 5),
        ] {
            send(&mut pipeline, line, key, sequence);
        }
        wait_until("all is delivered", || pipeline.look().delivered == 5);
        stop.request();
        let outcome = finish(pipeline);
        let totals = outcome.totals;
        assert_eq!((totals.lost(), totals.gaps), (3, 1), "{totals:?}");
        assert_eq!((totals.duplicates, totals.balanced()), (1, true));
        let told = ["a 1", "HUGZ", "b 2", "HUGZ", "lost 3 to 5", "HUGZ"];
        assert_eq!(outcome.handlers[0].0, told);
    }
}
