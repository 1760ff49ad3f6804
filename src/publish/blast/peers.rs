//! Everyone that the blaster is connected to: whom it listens for, whom it dials, and whom it has.

use std::{io, ops::Range, time::Duration};

use crate::{
    clock::Deadline,
    error::{Error, Result},
    net::{Endpoint, Interest, Listener, Malformed, Poller, Ready, SocketOptions, begin_connect},
    publish::blast::{
        block::Block,
        subscriber::{Parting, Subscriber},
    },
    stop::Stop,
};

/// How long a subscriber's host may leave what it was sent unacknowledged.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// The most subscribers at once; more are hung up on.
const SUBSCRIBERS_MAX: usize = 1_024;
/// How long a listener rests after the kernel refused a connection.
const REST: Duration = Duration::from_millis(100);
/// How long to wait before dialling again.
const REDIAL_AFTER: Duration = Duration::from_millis(100);
/// Bytes read from a subscriber at once.
const READ_BYTES: usize = 64 * 1024;
/// Listeners' numbers for the poller have this bit; subscribers' are their places.
const LISTENER: u64 = 1 << 32;
/// The longest wait, so that a request to stop is noticed, and dials and overdue handshakes are.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(50);

const REMEDY: &str =
    "give an endpoint like tcp://127.0.0.1:5556 or ipc:///tmp/feed, with a free port to bind";

/// A subscriber that binds.
struct Dial {
    endpoint: Endpoint,
    /// The subscriber's place, from when dialling starts to when the connection is lost.
    place: Option<usize>,
    /// When to dial, where there is no connection.
    again: Deadline,
    /// How often it was dialled, which goes through a name's addresses.
    attempts: usize,
}

/// A listener, and until when it rests, after the kernel refused a connection.
struct Bound {
    listener: Listener,
    rests: Option<Deadline>,
}

/// What is called with the kernel's reason for the first connection that it refused.
type OnRefused = Box<dyn FnOnce(&io::Error) + Send>;

/// Everyone that the blaster is connected to.
pub(super) struct Peers {
    poller: Poller,
    listeners: Vec<Bound>,
    dials: Vec<Dial>,
    places: Vec<Option<Subscriber>>,
    endpoints: Vec<String>,
    /// Subscriptions that have come.
    subscriptions: u64,
    /// Peers that were hung up on.
    rejected: u64,
    on_refused: Option<OnRefused>,
    ready: Vec<Ready>,
    scratch: Box<[u8]>,
}

/// A subscriber whose host is gone must not hold up the others for long.
fn options() -> SocketOptions {
    SocketOptions {
        user_timeout: Some(GONE_AFTER),
        keepalive: Some(GONE_AFTER / 4),
        ..SocketOptions::default()
    }
}

impl Peers {
    /// Binds and dials.
    pub(super) fn open(bind: &[String], connect: &[String]) -> Result<Self> {
        let parse = |flag: &str, endpoint: &String| {
            endpoint.parse::<Endpoint>().map_err(|problem: Malformed| {
                Error::config(flag, endpoint.escape_debug(), problem.0, REMEDY)
            })
        };
        let poller = Poller::new().map_err(Error::socket("waiting for subscribers"))?;
        let mut listeners = Vec::new();
        for endpoint in bind {
            let listener =
                Listener::bind(&parse("--bind", endpoint)?, &options()).and_then(|listener| {
                    let token = LISTENER | listeners.len() as u64;
                    poller.add(listener.socket(), token, Interest::Read)?;
                    Ok(listener)
                });
            let listener = listener.map_err(|refused| {
                Error::config(
                    "--bind",
                    endpoint,
                    format!("it can't be bound ({refused})"),
                    REMEDY,
                )
            })?;
            listeners.push(Bound {
                listener,
                rests: None,
            });
        }
        let mut dials = Vec::new();
        for endpoint in connect {
            dials.push(Dial {
                endpoint: parse("--connect", endpoint)?,
                place: None,
                again: Deadline::after(Duration::ZERO),
                attempts: 0,
            });
        }
        let bound = listeners
            .iter()
            .map(|bound| bound.listener.endpoint().to_owned());
        Ok(Self {
            poller,
            dials,
            places: Vec::new(),
            endpoints: bound.chain(connect.iter().cloned()).collect(),
            listeners,
            subscriptions: 0,
            rejected: 0,
            on_refused: None,
            ready: Vec::new(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
        })
    }

    /// Returns the endpoints, with the ports that wildcards were given.
    pub(super) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Returns how many subscriptions have come, one for each prefix of each subscriber.
    pub(super) fn subscriptions(&self) -> u64 {
        self.subscriptions
    }

    /// Returns how many peers were hung up on.
    pub(super) fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Has `tell` called with the kernel's reason for the first connection that it refuses.
    pub(super) fn on_refused(&mut self, tell: OnRefused) {
        self.on_refused = Some(tell);
    }

    /// Tells whether anyone is subscribed to anything.
    pub(super) fn has_subscriber(&self) -> bool {
        let mut subscribers = self.places.iter().flatten();
        subscribers.any(Subscriber::is_subscribed)
    }

    /// Waits for at most `timeout`, and no longer than [`WAIT_MAX`], for something to do, and does it.
    pub(super) fn attend(&mut self, block: &Block, timeout: Duration) -> Result<()> {
        self.poller
            .wait(Some(timeout.min(WAIT_MAX)))
            .map_err(Error::socket("waiting for subscribers"))?;
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        ready.extend(self.poller.ready());
        for &ready in &ready {
            if ready.token & LISTENER != 0 {
                self.accept((ready.token ^ LISTENER) as usize);
            } else {
                self.attend_one(ready, block);
            }
        }
        self.ready = ready;
        for place in 0..self.places.len() {
            if self.places[place]
                .as_ref()
                .is_some_and(Subscriber::is_overdue)
            {
                self.part(place, &Parting::Misbehaved);
            }
        }
        self.dial();
        self.listen_again();
        Ok(())
    }

    /// Hands messages over to all subscribers, or to those of one endpoint, which must have caught up.
    pub(super) fn hand_over(
        &mut self,
        block: &Block,
        messages: &Range<usize>,
        endpoint: Option<usize>,
    ) {
        for place in 0..self.places.len() {
            if let Some(subscriber) = &mut self.places[place]
                && endpoint.is_none_or(|one| one == subscriber.endpoint())
                && let Err(parting) = subscriber.hand_over(block, messages.clone(), &self.poller)
            {
                self.part(place, &parting);
            }
        }
    }

    /// Tells whether a subscriber has not taken all that was handed over to it.
    pub(super) fn are_behind(&self) -> bool {
        self.places.iter().flatten().any(Subscriber::is_behind)
    }

    /// Waits until all subscribers have taken what was handed over to them, `end` has passed, or `stop` is
    /// requested.
    pub(super) fn catch_up(
        &mut self,
        block: &Block,
        end: Option<Deadline>,
        stop: &Stop,
    ) -> Result<()> {
        while self.are_behind() && !stop.requested() {
            let left = end.map_or(WAIT_MAX, |end| end.left());
            if left.is_zero() {
                break;
            }
            self.attend(block, left)?;
        }
        Ok(())
    }

    /// Returns how many of these messages, which were handed over last, the subscriber that is furthest
    /// behind has not been sent in full.
    pub(super) fn unsent(&self, block: &Block, messages: &Range<usize>) -> u64 {
        let subscribers = self.places.iter().flatten();
        let unsent = subscribers.map(|one| one.unsent(block, messages.clone()));
        unsent.max().unwrap_or(0)
    }

    fn attend_one(&mut self, ready: Ready, block: &Block) {
        let place = ready.token as usize;
        // It may have parted since the poller found it.
        let Some(Some(subscriber)) = self.places.get_mut(place) else {
            return;
        };
        match subscriber.attend(ready, block, &mut self.scratch, &self.poller) {
            Ok(started) => self.subscriptions += started,
            Err(parting) => self.part(place, &parting),
        }
    }

    fn accept(&mut self, listener: usize) {
        loop {
            match self.listeners[listener].listener.accept() {
                Ok(Some(socket)) => {
                    // Dropping the socket hangs up.
                    if let Some(place) = self.free_place() {
                        let accepted = Subscriber::new(socket, false, place as u64, &self.poller);
                        self.places[place] = accepted.ok().map(|one| one.of(listener));
                    } else {
                        self.rejected += 1;
                    }
                }
                Ok(None) => return,
                Err(refused) => {
                    // Perhaps the process has too many files open, and would be told so again and again.
                    self.rest(listener);
                    if let Some(tell) = self.on_refused.take() {
                        tell(&refused);
                    }
                    return;
                }
            }
        }
    }

    /// Lets those who want to connect wait for a while.
    fn rest(&mut self, listener: usize) {
        let bound = &mut self.listeners[listener];
        if self.poller.remove(bound.listener.socket()).is_ok() {
            bound.rests = Some(Deadline::after(REST));
        }
    }

    fn listen_again(&mut self) {
        for (index, bound) in self.listeners.iter_mut().enumerate() {
            let socket = bound.listener.socket();
            let token = LISTENER | index as u64;
            if bound.rests.is_some_and(|until| until.passed())
                && self.poller.add(socket, token, Interest::Read).is_ok()
            {
                bound.rests = None;
            }
        }
    }

    fn dial(&mut self) {
        for index in 0..self.dials.len() {
            let dial = &self.dials[index];
            if dial.place.is_some() || !dial.again.passed() {
                continue;
            }
            let Some(place) = self.free_place() else {
                return;
            };
            let dial = &mut self.dials[index];
            dial.again = Deadline::after(REDIAL_AFTER);
            let attempt = dial.attempts;
            dial.attempts += 1;
            let connected = dial.endpoint.addresses().and_then(|addresses| {
                let address = &addresses[attempt % addresses.len()];
                let socket = begin_connect(address, &options())?;
                Subscriber::new(socket, true, place as u64, &self.poller)
            });
            // What the kernel refuses at once may be there later.
            if let Ok(subscriber) = connected {
                self.dials[index].place = Some(place);
                self.places[place] = Some(subscriber.of(self.listeners.len() + index));
            }
        }
    }

    fn free_place(&mut self) -> Option<usize> {
        let free = self.places.iter().position(Option::is_none);
        if free.is_none() && self.places.len() < SUBSCRIBERS_MAX {
            self.places.push(None);
            return Some(self.places.len() - 1);
        }
        free
    }

    fn part(&mut self, place: usize, parting: &Parting) {
        self.rejected += u64::from(matches!(parting, Parting::Misbehaved));
        self.places[place] = None;
        for dial in &mut self.dials {
            if dial.place == Some(place) {
                dial.place = None;
                dial.again = Deadline::after(REDIAL_AFTER);
            }
        }
    }
}
