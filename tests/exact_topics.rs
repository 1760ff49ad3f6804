//! Goal: a topic asked for by its whole name brings its messages and no others, whether a delimiter ends
//! it or its frame does, and prefixes may be asked for beside it.

mod support;

use std::{process::Command, time::Duration};

use pinfeed::{
    config::{Config, Engine},
    envelope::Envelope,
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    stop::Stop,
    worker::Handler,
};
use support::{ENGINES, Pinfeed, bound_xpub, finish, number, wait_until};

#[derive(Default)]
struct Topics(Vec<String>);

impl Handler for Topics {
    fn on_message(&mut self, message: &Message<'_>) {
        let topic = message.topic().escape_ascii().to_string();
        self.0.push(topic);
    }
}

fn config(engine: Engine, endpoint: &str, envelope: &str, topics: &[&str]) -> Config {
    let envelope: Envelope = envelope.parse().expect("a name");
    let mut config = Config::connect(endpoint, envelope);
    config.engine = Some(engine);
    config.workers.count = 1;
    config.feeds[0].topics = topics.iter().map(|&topic| topic.to_owned()).collect();
    config
}

fn start(config: &Config) -> (Pipeline<Topics>, Stop) {
    let stop = Stop::default();
    let (quota, handler) = (Quota::unlimited(), |_| Topics::default());
    (
        Pipeline::start(config, quota, stop.clone(), handler).unwrap(),
        stop,
    )
}

/// The publisher is told the delimiter, and sends nothing that is not wanted.
#[test]
fn a_delimiter_ends_a_topic() {
    for engine in ENGINES {
        for (envelope, told, messages) in [
            (
                "delimited: ",
                &b"\x01BTC-USD "[..],
                [&b"BTC-USDT 1"[..], b"BTC-USD 2", b"BTC-US 3"],
            ),
            (
                "cryptofeed",
                b"\x01BTC-USD ",
                [b"BTC-USDT {}", b"BTC-USD {}", b"BTC-US {}"],
            ),
            (
                "dwx",
                b"\x01BTC-USD:|:",
                [b"BTC-USDT:|:1;2", b"BTC-USD:|:1;2", b"BTC-USD:;"],
            ),
        ] {
            let context = zmq::Context::new();
            let (socket, endpoint) = bound_xpub(&context);
            let (mut pipeline, stop) = start(&config(engine, &endpoint, envelope, &["BTC-USD"]));
            assert_eq!(socket.recv_bytes(0).unwrap(), told, "{engine:?} {envelope}");
            for message in messages {
                socket.send(message, 0).unwrap();
            }
            wait_until("it has come", || pipeline.look().delivered == 1);
            stop.request();
            let outcome = finish(pipeline);
            assert_eq!(outcome.handlers[0].0, ["BTC-USD"]);
            assert_eq!((outcome.totals.received, outcome.totals.unwanted), (1, 0));
        }
    }
}

/// The publisher knows only prefixes, so the lane throws away what they bring beyond the topics.
#[test]
fn the_end_of_its_frame_ends_a_topic() {
    for engine in ENGINES {
        let context = zmq::Context::new();
        let (socket, endpoint) = bound_xpub(&context);
        let mut config = config(engine, &endpoint, "bitcoind", &["hash", "rawtx"]);
        config.feeds[0].subscribe = vec!["sequ".to_owned()];
        let (mut pipeline, stop) = start(&config);
        let mut told: Vec<Vec<u8>> = (0..3).map(|_| socket.recv_bytes(0).unwrap()).collect();
        told.sort();
        assert_eq!(told, [&b"\x01hash"[..], b"\x01rawtx", b"\x01sequ"]);
        let publish = |topics: &[&str]| {
            for topic in topics {
                let frames = [topic.as_bytes(), b"body", b"\0\0\0\0"];
                socket.send_multipart(frames, 0).unwrap();
            }
        };
        publish(&[
            "hashtx", "hash", "rawtxs", "rawtx", "sequence", "sequ", "raw",
        ]);
        wait_until("they have come", || pipeline.look().delivered == 4);
        assert_eq!(pipeline.look().unwanted, 2, "{engine:?}");

        // A prefix that is asked for meanwhile brings the longer ones, too.
        pipeline.subscribe("feed", b"hash").unwrap();
        wait_until("it has taken effect", || {
            publish(&["hashblock"]);
            pipeline.look().delivered > 4
        });
        pipeline.unsubscribe("feed", b"hash").unwrap();
        wait_until("it no longer does", || {
            let unwanted = pipeline.look().unwanted;
            publish(&["hashblock", "hash"]);
            std::thread::sleep(Duration::from_millis(1));
            pipeline.look().unwanted > unwanted
        });
        stop.request();
        let outcome = finish(pipeline);
        let seen = &outcome.handlers[0].0;
        assert_eq!(seen[..4], ["hash", "rawtx", "sequence", "sequ"]);
        assert!(seen[4..].iter().any(|topic| topic == "hashblock"));
        assert!(outcome.totals.balanced());
    }
}

#[test]
fn a_topic_that_no_message_can_have_is_refused() {
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = config(Engine::Native, "tcp://127.0.0.1:1", "delimited: ", &[]);
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    let with_topic = |envelope: &str, topic: &str| {
        refused(&|config| {
            config.feeds[0].envelope = envelope.parse().unwrap();
            config.feeds[0].topics = vec![topic.to_owned()];
        })
    };
    assert!(with_topic("delimited: ", "BTC USD").contains("feed[0].topics[0] = BTC USD"));
    assert!(with_topic("eddn", "x").contains("compressed; remove `topics`"));
    let pulled = refused(&|config| {
        config.feeds[0].socket = pinfeed::config::SocketKind::Pull;
        config.feeds[0].subscribe = vec!["BTC".to_owned()];
    });
    assert!(pulled.contains("feed[0].subscribe = BTC"), "{pulled}");
    assert!(pulled.contains("socket = \"sub\""), "{pulled}");
}

#[test]
fn the_command_takes_topics() {
    let context = zmq::Context::new();
    let (socket, endpoint) = bound_xpub(&context);
    let mut run = Pinfeed::spawn(
        Command::new(env!("CARGO_BIN_EXE_pinfeed"))
            .args(["run", "--connect", &endpoint, "--envelope", "raw"])
            .args(["--topic", "A", "--topic", "BB", "--messages", "2", "--json"]),
    );
    for _ in 0..2 {
        socket.recv_bytes(0).unwrap();
    }
    for topic in ["AA", "A", "B", "BB"] {
        socket.send_multipart([topic, "1"], 0).unwrap();
    }
    let summary = run.json(0);
    assert_eq!(number(&summary, "delivered"), 2);
    assert_eq!(number(&summary, "unwanted"), 1);
}

#[test]
fn a_star_stands_for_itself_with_a_warning() {
    let context = zmq::Context::new();
    let (socket, endpoint) = bound_xpub(&context);
    let mut run = Pinfeed::spawn(
        Command::new(env!("CARGO_BIN_EXE_pinfeed"))
            .args(["run", "--connect", &endpoint, "--envelope", "raw"])
            .args(["--subscribe", "B*", "--topic", "A", "--topic", "C*"])
            .args(["--messages", "2", "--json"]),
    );
    for _ in 0..3 {
        socket.recv_bytes(0).unwrap();
    }
    for topic in ["BTC", "B*TC", "CAD", "C*"] {
        socket.send_multipart([topic, "1"], 0).unwrap();
    }
    assert_eq!(number(&run.json(0), "delivered"), 2);
    let warnings: Vec<&str> = run
        .said
        .lines()
        .filter(|line| line.contains("stands for itself"))
        .collect();
    assert_eq!(warnings.len(), 2, "{}", run.said);
    assert!(warnings[0].contains("a prefix already, so the * of \"B*\""));
    assert!(warnings[1].contains("its whole name, so the * of \"C*\""));
}
