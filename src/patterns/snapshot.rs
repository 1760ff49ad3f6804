//! Asking for a snapshot: what a Clone server or a cache holds of a subtree, and how far that reaches.
//!
//! The protocol is that of the Guide's Clone pattern: `ICANHAZ?` and the subtree, answered by a message for
//! each value and `KTHXBAI` with the number of the last update in it. A thread asks, again and again until
//! it has an answer, so that a lane never waits; what has come waits in a bounded queue.

use std::{thread, time::Duration};

use crossbeam::channel::{self, Receiver, Sender};

use crate::{
    clock::{Clock, Deadline},
    error::{Error, Result},
    net::{Backoff, Endpoint, Malformed},
    patterns::{
        kvmsg::{ICANHAZ, KTHXBAI},
        reactor::{Application, End, Link, Links, Reactor, SocketId, SocketPlan},
    },
    zmtp::SocketType,
};

/// Pieces that wait to be taken.
const PIECES_MAX: usize = 4_096;
/// How long a server may say nothing before it is asked again.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// The first wait before asking again, and the longest, in milliseconds.
const BACKOFF_MS: (u32, u32) = (100, 2_000);
/// How often the thread looks whether it is asked for something else.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// An answer begins. What came of one before is worth nothing.
    Begins,
    /// A value: the frames of its message.
    Value(Vec<Box<[u8]>>),
    /// All has come.
    Complete {
        /// The number of the last update in it.
        sequence: u64,
    },
    /// There was no answer, for this reason. It is asked again.
    Failed(String),
}

/// A request for a snapshot.
#[derive(Clone, Copy, Debug)]
struct Question {
    /// What its pieces are known by.
    number: u64,
    /// Whether to wait as after a failure.
    is_patient: bool,
}

/// Asks one server for snapshots of one subtree.
#[derive(Debug)]
pub struct Snapshots {
    questions: Sender<Question>,
    pieces: Receiver<(u64, Piece)>,
    /// The number of the last question, 0 before the first.
    asked: u64,
}

impl Snapshots {
    /// Starts a thread that asks `endpoint`, once it is told to. It ends with this.
    ///
    /// # Errors
    /// [`Error::Config`] where the endpoint is none, named by `key`; [`Error::Thread`].
    pub fn start(key: &str, feed: &str, endpoint: &str, subtree: &[u8]) -> Result<Self> {
        let parsed: std::result::Result<Endpoint, Malformed> = endpoint.parse();
        parsed.map_err(|problem| {
            let remedy = "give the endpoint of a server like tcp://127.0.0.1:5556";
            Error::config(key, endpoint, problem.0, remedy)
        })?;
        let (questions, asked) = channel::unbounded();
        let (answers, pieces) = channel::bounded(PIECES_MAX);
        let asker = Asker {
            endpoint: endpoint.to_owned(),
            subtree: subtree.to_vec(),
            asked,
            answers,
        };
        let name = format!("snapshot-{feed}");
        thread::Builder::new()
            .name(name.clone())
            .spawn(move || asker.run())
            .map_err(|source| Error::Thread {
                thread: name,
                source,
            })?;
        Ok(Self {
            questions,
            pieces,
            asked: 0,
        })
    }

    /// Asks for a snapshot. What still comes of one asked for before is thrown away.
    pub fn ask(&mut self) {
        self.put(false);
    }

    /// Asks for another snapshot after a while, longer from time to time: the last one was of no use.
    pub fn ask_later(&mut self) {
        self.put(true);
    }

    fn put(&mut self, is_patient: bool) {
        self.asked += 1;
        // The thread lives as long as this.
        let _ = self.questions.send(Question {
            number: self.asked,
            is_patient,
        });
    }

    /// Takes the next piece, if there is one.
    pub fn take_piece(&mut self) -> Option<Piece> {
        loop {
            let (of, piece) = self.pieces.try_recv().ok()?;
            if of == self.asked {
                return Some(piece);
            }
        }
    }
}

/// The thread's side.
struct Asker {
    endpoint: String,
    subtree: Vec<u8>,
    asked: Receiver<Question>,
    answers: Sender<(u64, Piece)>,
}

impl Asker {
    fn run(self) {
        let mut backoff = Backoff::new(BACKOFF_MS.0, BACKOFF_MS.1);
        while let Ok(mut question) = self.asked.recv() {
            loop {
                // Only the newest counts.
                question = self.asked.try_iter().last().unwrap_or(question);
                if question.is_patient {
                    question.is_patient = false;
                    if let Ok(newer) = self.asked.recv_timeout(backoff.failed().left()) {
                        question = newer;
                        continue;
                    }
                } else {
                    backoff = Backoff::new(BACKOFF_MS.0, BACKOFF_MS.1);
                }
                match self.fetch(question.number) {
                    Ok(()) => break,
                    Err(reason) => {
                        let failed = (question.number, Piece::Failed(reason));
                        if self.answers.send(failed).is_err() {
                            return;
                        }
                        question.is_patient = true;
                    }
                }
            }
        }
    }

    /// Fetches an answer. Where something else is asked for meanwhile, that is a success as well.
    fn fetch(&self, number: u64) -> std::result::Result<(), String> {
        let mut reactor = Reactor::new(Clock::start()).map_err(|error| error.to_string())?;
        let socket = reactor.socket(SocketPlan::new(SocketType::Dealer));
        reactor
            .connect(socket, &self.endpoint)
            .map_err(|error| error.to_string())?;
        let mut fetch = Fetch {
            number,
            asker: self,
            silent_by: Deadline::after(SILENCE_MAX),
            has_begun: false,
            outcome: None,
        };
        while fetch.outcome.is_none() && self.asked.is_empty() {
            reactor
                .turn(&mut fetch, LOOK_EVERY)
                .map_err(|error| error.to_string())?;
            if fetch.silent_by.passed() {
                return Err(format!("{} does not answer", self.endpoint));
            }
        }
        fetch.outcome.unwrap_or(Ok(()))
    }
}

/// One attempt.
struct Fetch<'a> {
    number: u64,
    asker: &'a Asker,
    silent_by: Deadline,
    has_begun: bool,
    outcome: Option<std::result::Result<(), String>>,
}

impl Fetch<'_> {
    fn pass_on(&mut self, piece: Piece) {
        if !self.has_begun {
            self.has_begun = true;
            let _ = self.asker.answers.send((self.number, Piece::Begins));
        }
        let is_last = matches!(piece, Piece::Complete { .. });
        let gone = self.asker.answers.send((self.number, piece)).is_err();
        if gone || is_last {
            self.outcome = Some(Ok(()));
        }
        self.silent_by = Deadline::after(SILENCE_MAX);
    }

    fn fail(&mut self, reason: &str) {
        let endpoint = &self.asker.endpoint;
        self.outcome
            .get_or_insert_with(|| Err(format!("{endpoint}: {reason}")));
    }
}

impl Application for Fetch<'_> {
    fn on_open(&mut self, links: &mut Links, link: Link) {
        if links.send(link, &[ICANHAZ, &self.asker.subtree]).is_err() {
            self.fail("the request did not fit");
        }
    }

    fn on_message(&mut self, _links: &mut Links, _link: Link, frames: &[&[u8]]) {
        if self.outcome.is_some() {
            return;
        }
        if frames[0] != KTHXBAI {
            let frames = frames.iter().map(|&frame| frame.into()).collect();
            self.pass_on(Piece::Value(frames));
            return;
        }
        match frames.get(1).and_then(|frame| (*frame).try_into().ok()) {
            Some(sequence) => self.pass_on(Piece::Complete {
                sequence: u64::from_be_bytes(sequence),
            }),
            None => self.fail("the end of the snapshot has no number of 8 bytes"),
        }
    }

    fn on_close(&mut self, _links: &mut Links, _link: Link, end: &End, _orphaned: &[Box<[u8]>]) {
        self.fail(&end.to_string());
    }

    fn on_refused(&mut self, _socket: SocketId, _endpoint: Option<&str>, end: &End) {
        self.fail(&end.to_string());
    }
}
