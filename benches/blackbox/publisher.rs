//! The publisher's side: a process of its own, so that what is measured of CPU time is the subject's
//! alone. It is this same program, with the library's blaster in it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use pinfeed::{
    Result,
    envelope::{Envelope, pinfeed::OVERHEAD_BYTES},
    publish::{Blaster, Item, PublisherOptions, Schedule, Source, Until, Wire},
    stop::Stop,
};

/// What stands in front of the publisher's own arguments.
const WORD: &str = "publisher";

/// Bytes of each message, its envelope included.
pub const MESSAGE_BYTES: usize = 64;
/// Bytes that each message takes on the wire, however many frames it has.
pub const WIRE_BYTES: usize = MESSAGE_BYTES + 2;
/// Bytes of each topic.
const TOPIC_BYTES: usize = 9;
/// Messages that are encoded beforehand, over all connections, where topics are not more.
const BLOCK_MESSAGES: usize = 16_000;
/// Those of each connection at least: what is written at once.
const CONNECTION_MESSAGES: usize = 1_000;
/// How long a subject may take to go once it has all messages.
const DEPARTURE_LIMIT: Duration = Duration::from_secs(60);

/// What is published.
#[derive(Clone, Debug)]
pub struct Feed {
    pub envelope: Envelope,
    /// Topics, over all connections. They come in turn.
    pub topics: usize,
    /// The part of all messages that the first topic has, in percent, while the others come in turn; 0 where it
    /// comes in turn as well.
    pub busiest_percent: usize,
    /// Endpoints that the messages are spread over, each with topics of its own.
    pub connections: usize,
    /// Of each message.
    pub frames: usize,
    /// Subscribers that each get all messages, and start when all of them are there.
    pub copies: u64,
    /// Messages a second; `None` for as many as possible.
    pub rate: Option<f64>,
}

impl Feed {
    pub const PLAIN: Self = Self {
        envelope: Envelope::Pinfeed,
        topics: 1_000,
        busiest_percent: 0,
        connections: 1,
        frames: 1,
        copies: 1,
        rate: None,
    };

    fn payload_bytes(&self) -> usize {
        MESSAGE_BYTES
            - TOPIC_BYTES
            // Heads count as bytes of the message, but for the first.
            - 2 * (self.frames - 1)
            - match &self.envelope {
                Envelope::Pinfeed => OVERHEAD_BYTES,
                Envelope::Delimited(_) => 1,
                Envelope::Raw | Envelope::Layout(_) => unreachable!("no case has it"),
            }
    }
}

/// Messages of topics that come in turn, but for the first, if that has a part of its own.
struct InTurn {
    topics: Vec<String>,
    busiest_percent: usize,
    payload_bytes: usize,
    messages: usize,
    next: usize,
}

impl Source for InTurn {
    fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<Item>> {
        if self.next == self.messages {
            return Ok(None);
        }
        payload.resize(self.payload_bytes, b'x');
        let of_busiest = |messages| messages * self.busiest_percent / 100;
        let before = of_busiest(self.next);
        let topic = if of_busiest(self.next + 1) > before {
            0
        } else {
            let first = usize::from(self.busiest_percent > 0);
            first + (self.next - before) % (self.topics.len() - first)
        };
        self.next += 1;
        Ok(Some(Item {
            topic,
            due_ns: None,
        }))
    }

    fn topic(&self, index: usize) -> &[u8] {
        self.topics[index].as_bytes()
    }
}

fn open(feed: &Feed) -> Result<Blaster> {
    let mut source = InTurn {
        topics: (0..feed.topics)
            .map(|topic| format!("sim.{topic:05}"))
            .collect(),
        busiest_percent: feed.busiest_percent,
        payload_bytes: feed.payload_bytes(),
        messages: (feed.connections * CONNECTION_MESSAGES).max(feed.topics.max(BLOCK_MESSAGES)),
        next: 0,
    };
    let options = PublisherOptions {
        bind: vec!["tcp://127.0.0.1:*".to_owned(); feed.connections],
        connect: Vec::new(),
        envelope: feed.envelope.clone(),
        epoch: None,
    };
    let schedule = Schedule {
        rate: feed.rate,
        burst: 1,
    };
    let wire = Wire {
        frames: feed.frames,
        split: feed.connections > 1,
    };
    let messages = source.messages;
    Blaster::open_as(wire, &options, &mut source, messages, schedule)
}

/// Says on standard output where it listens, sends subscribers `messages` messages each, and waits for them to go.
///
/// One thread serves all connections: one for each would take more of the machine the more there are.
fn serve(feed: &Feed, messages: u64) -> Result<()> {
    let mut blaster = open(feed)?;
    println!("{}", blaster.endpoints().join(" "));
    let stop = Stop::default();
    blaster.wait_for_subscriptions(feed.copies * feed.connections as u64, &stop)?;
    let until = Until {
        messages: Some(messages),
        elapsed: None,
    };
    blaster.publish(until, &stop)?;
    blaster.wait_for_departure(DEPARTURE_LIMIT, &stop)
}

/// The publisher's process; it ends when its subscribers have gone.
pub struct Publisher {
    child: Child,
    pub endpoints: Vec<String>,
}

impl Publisher {
    pub fn start(feed: &Feed, messages: u64) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let rate = feed
            .rate
            .map_or_else(|| "max".to_owned(), |rate| rate.to_string());
        let mut child = Command::new(program)
            .args([WORD, &feed.envelope.to_string(), &rate])
            .args([feed.topics, feed.busiest_percent].map(|number| number.to_string()))
            .args([feed.connections, feed.frames].map(|number| number.to_string()))
            .args([feed.copies, messages / feed.copies].map(|number| number.to_string()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the publisher starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output is a pipe");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it says where it listens");
        Self {
            child,
            endpoints: line.split_whitespace().map(str::to_owned).collect(),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let status = self.child.wait().expect("the publisher can be waited for");
        assert!(status.success(), "the publisher failed");
    }
}

/// Runs the publisher's process, if that is what the arguments ask for.
pub fn serve_if_asked(arguments: &[String]) -> bool {
    let [
        word,
        envelope,
        rate,
        topics,
        busiest_percent,
        connections,
        frames,
        copies,
        messages,
    ] = arguments
    else {
        return false;
    };
    if word != WORD {
        return false;
    }
    let feed = Feed {
        envelope: envelope.parse().expect("an envelope"),
        topics: topics.parse().expect("a number of topics"),
        busiest_percent: busiest_percent.parse().expect("a part in percent"),
        connections: connections.parse().expect("a number of connections"),
        frames: frames.parse().expect("a number of frames"),
        copies: copies.parse().expect("a number of copies"),
        rate: rate.parse().ok(),
    };
    let messages = messages.parse().expect("a number of messages");
    serve(&feed, messages).expect("subscribers stay until they have all");
    true
}
