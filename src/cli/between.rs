//! What the commands between publishers and subscribers share: their ends, when to stop, and a thread to work on.

use std::{
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::Duration,
};

use crate::{
    cli::{Failure, say, signals::Signals},
    clock::Deadline,
    config::check_bind,
    error::Error,
    patterns::{
        ends::{Ends, EndsPlan, Flow},
        tap::Watched,
    },
    report::{count, rate},
};

/// How often to look whether a command is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What people have not been told yet, at most.
const NEWS_MAX: usize = 1_000;
/// The thread that takes turns.
const FORWARDING: &str = "forwarding";
/// Subscribers whose losses are told in text.
const SHOWN_MAX: usize = 10;

/// Where messages come from and go to, and for how long.
#[derive(Debug, clap::Args)]
pub(super) struct Between {
    /// Stop when standard input ends: so that it does not outlive the command that started it
    #[arg(long, hide = true)]
    until_stdin_ends: bool,

    /// Connect to a publisher (repeatable)
    #[arg(long, value_name = "ENDPOINT")]
    connect: Vec<String>,

    /// Bind for publishers that connect (repeatable)
    #[arg(long, value_name = "ENDPOINT")]
    bind: Vec<String>,

    /// Bind for subscribers (repeatable)
    #[arg(long, value_name = "ENDPOINT", required = true)]
    serve: Vec<String>,

    /// The most that may wait for one subscriber; messages beyond are lost to it, and counted
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    queue_max: usize,

    /// Stop after this many messages
    #[arg(long, value_name = "N")]
    messages: Option<u64>,

    /// Stop after this time, for instance 10s or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    run_for: Option<Duration>,
}

impl Between {
    /// Returns the ends that were asked for.
    pub(super) fn ends(&self) -> Result<EndsPlan, Error> {
        if self.connect.is_empty() && self.bind.is_empty() {
            let problem = "no publisher could be heard";
            let remedy = "give --connect or --bind for publishers";
            return Err(Error::config("--connect", "", problem, remedy));
        }
        for (place, endpoint) in self.connect.iter().enumerate() {
            if self.connect[..place].contains(endpoint) {
                let problem = "it was given twice, and so would each of its messages be";
                let remedy = "give each publisher once";
                return Err(Error::config("--connect", endpoint, problem, remedy));
            }
        }
        for (flag, endpoints) in [("--bind", &self.bind), ("--serve", &self.serve)] {
            for endpoint in endpoints {
                check_bind(flag, endpoint)?;
            }
        }
        Ok(EndsPlan {
            connect: self.connect.clone(),
            bind: self.bind.clone(),
            serve: self.serve.clone(),
            waiting_bytes_max: self.queue_max,
        })
    }

    /// Returns after how many messages to stop.
    pub(super) fn messages_max(&self) -> u64 {
        self.messages.unwrap_or(u64::MAX)
    }

    /// Listens for signals, and for the end of standard input where that was asked for.
    pub(super) fn signals(&self) -> Result<Signals, Failure> {
        let signals = Signals::listen()?;
        if self.until_stdin_ends {
            signals.stop_when_stdin_ends();
        }
        Ok(signals)
    }

    /// Says which endpoints there are, behind what is `first`, takes turns [aside](work_aside) until it is time to stop,
    /// and finishes there as well: who is waited for to take what is said keeps no port.
    pub(super) fn run<P: Send, S: Send>(
        &self,
        signals: &Signals,
        (first, ends): (Vec<String>, Ends),
        mut proxy: P,
        mut turn: impl FnMut(&mut P, Duration) -> Result<Vec<String>, Error> + Send,
        finish: impl FnOnce(P) -> Result<S, Error> + Send,
    ) -> Result<S, Failure> {
        let deadline = self.run_for.map(Deadline::after);
        let stop = signals.stop();
        work_aside(FORWARDING, |desk| {
            let listening = ends.bound.iter().map(|at| format!("listening on {at}"));
            let serving = ends.served.iter().map(|at| format!("serving on {at}"));
            for news in first.into_iter().chain(listening).chain(serving) {
                desk.tell(news);
            }
            while !stop.requested() && !deadline.is_some_and(|deadline| deadline.passed()) {
                let wait = deadline.map_or(LOOK_EVERY, |deadline| deadline.left().min(LOOK_EVERY));
                for news in turn(&mut proxy, wait)? {
                    desk.tell(news);
                }
            }
            finish(proxy)
        })
    }
}

/// Takes what people should know from a thread that waits for nobody.
pub(super) struct NewsDesk(SyncSender<String>);

impl NewsDesk {
    pub(super) fn tell(&self, news: String) {
        // Where nobody reads them, there are enough.
        let _ = self.0.try_send(news);
    }
}

/// Works on a thread of its own, and says what that tells: a terminal may take no text for as long as it likes.
pub(super) fn work_aside<T: Send>(
    name: &str,
    work: impl FnOnce(NewsDesk) -> Result<T, Error> + Send,
) -> Result<T, Failure> {
    let (tell, told) = sync_channel(NEWS_MAX);
    thread::scope(|scope| {
        let builder = thread::Builder::new().name(name.to_owned());
        let working = builder.spawn_scoped(scope, || work(NewsDesk(tell)));
        let working = working.map_err(|source| Error::Thread {
            thread: name.to_owned(),
            source,
        })?;
        for news in told {
            say(format_args!("{news}"));
        }
        let thread = name.to_owned();
        let panicked = |_| Error::ThreadPanicked { thread };
        Ok(working.join().map_err(panicked)??)
    })
}

/// Says how much came, and why connections were ended.
pub(super) fn say_flow(flow: &Flow) {
    say(format_args!(
        "{:>15} received in {:.2} s, {} msg/s; {} sent on as they came",
        count(flow.received),
        flow.elapsed_s,
        rate(flow.per_s()),
        count(flow.forwarded)
    ));
    if flow.oversize > 0 {
        say(format_args!(
            "{} thrown away, larger than 16 MiB",
            plural(flow.oversize, "message")
        ));
    }
    for (reason, &number) in &flow.connections_ended_by_reason {
        say(format_args!(
            "{} ended for {reason}",
            plural(number, "connection")
        ));
    }
}

/// A number in its column and what it counts.
pub(super) fn plural(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{:>15} {noun}{ending}", count(number))
}

/// Says what became of copies.
pub(super) fn say_watched(watchers: &[Watched]) {
    for one in watchers {
        let copied = &one.copied;
        let skipped = match copied.skipped {
            0 => String::new(),
            skipped => format!(", {} skipped", count(skipped)),
        };
        let copies = if copied.written == 1 {
            "copy"
        } else {
            "copies"
        };
        say(format_args!(
            "{:>15} {copies} to {}, {} lost{skipped}",
            count(copied.written),
            one.watcher,
            count(copied.lost)
        ));
    }
}

/// Says what subscribers lost.
pub(super) fn say_losses(flow: &Flow) {
    if flow.lost == 0 {
        return;
    }
    say(format_args!(
        "{:>15} lost to subscribers that were too slow, or hung up before",
        count(flow.lost)
    ));
    let mut by_subscriber: Vec<_> = flow.lost_by_subscriber.iter().collect();
    by_subscriber.sort_by_key(|lost| std::cmp::Reverse(lost.messages));
    for lost in by_subscriber.into_iter().take(SHOWN_MAX) {
        say(format_args!(
            "{:>15} of these to {}",
            count(lost.messages),
            lost.subscriber
        ));
    }
}
