//! Looking up host names without keeping a lane, or another thread of sockets, waiting.
//!
//! Names are looked up again at every attempt to connect, since a publisher may come back somewhere
//! else, and an answer can take seconds. So a thread of its own asks, one for each lane that has
//! names, and the lane goes on.

use std::{io, thread};

use crossbeam::channel::{self, Receiver, Sender};
use socket2::SockAddr;

use crate::{
    error::{Error, Result},
    net::Endpoint,
};

/// An answer, with the number of the dialer that asked.
pub type Answer = (usize, io::Result<Vec<SockAddr>>);

/// A thread that looks names up. It ends with its owner.
#[derive(Debug)]
pub struct Resolver {
    questions: Sender<(usize, Endpoint)>,
    answers: Receiver<Answer>,
}

impl Resolver {
    /// Starts the thread for a lane of this name. It has room for one question of each of `dialers` dialers.
    ///
    /// # Errors
    /// [`Error::Thread`].
    pub fn start(lane: &str, dialers: usize) -> Result<Self> {
        let (questions, asked) = channel::bounded::<(usize, Endpoint)>(dialers);
        let (answer, answers) = channel::bounded(dialers);
        let name = format!("names-{lane}");
        let answer_all = move || {
            for (dialer, endpoint) in asked {
                if answer.send((dialer, endpoint.addresses())).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name(name.clone())
            .spawn(answer_all)
            .map_err(|source| Error::Thread {
                thread: name,
                source,
            })?;
        Ok(Self { questions, answers })
    }

    /// Asks for the addresses of an endpoint. There may be one question of a dialer at a time.
    pub fn ask(&self, dialer: usize, endpoint: &Endpoint) {
        // There is room, and the thread lives as long as this.
        let _ = self.questions.try_send((dialer, endpoint.clone()));
    }

    /// Takes the next answer, if there is one.
    pub fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}
