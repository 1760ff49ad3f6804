//! What a running `pinfeed run` may be asked for by `pinfeed ctl`: a Unix socket, a request a connection.
//!
//! A request is a line: `status`, `shards`, `topic NAME`, or `move SHARD WORKER`. The answer is a line too, one
//! JSON object; that of a request which could not be met has an `error`. Connections are served by a thread of
//! their own, so that one that stalls holds up others for [`PATIENCE`] at most, and never the pipeline.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crossbeam::channel::{self, Receiver, Sender};
use serde_json::{Value, json};

use crate::{
    cli::say,
    clock::Deadline,
    config::Config,
    error::{Error, Result},
    pipeline::Pipeline,
    shard::ShardMove,
    stop::Stop,
    worker::Handler,
};

/// How long a connection may take to ask, or to take its answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How long to rest where the kernel refuses a connection.
const REST: Duration = Duration::from_millis(100);
/// The most bytes of a request, without what ends its line: there are long topics.
pub(super) const REQUEST_MAX: usize = 2_048;
/// How often shards are looked at for one worker to have too many.
const REBALANCE_EVERY: Duration = Duration::from_secs(1);

/// What a running pipeline is told while it runs.
pub(super) struct Control {
    server: Option<Server>,
    /// The names of lanes.
    lanes: Vec<String>,
    /// When to look at shards next, if at all.
    rebalance: Option<Deadline>,
}

impl Control {
    /// Listens at `socket`, if there is to be one, and evens out shards if the configuration has them move.
    ///
    /// # Errors
    /// [`Error::Config`]: the socket's path is taken, or can't be made.
    pub(super) fn new(socket: Option<&Path>, config: &Config) -> Result<Self> {
        Ok(Self {
            server: socket.map(Server::start).transpose()?,
            lanes: config.lanes.iter().map(|lane| lane.name.clone()).collect(),
            rebalance: config
                .sharding
                .rebalance
                .then(|| Deadline::after(REBALANCE_EVERY)),
        })
    }

    /// Does what was asked for since the last call: to be called some times a second.
    pub(super) fn serve<H: Handler>(&mut self, pipeline: &mut Pipeline<H>) {
        let requests = self
            .server
            .iter()
            .flat_map(|server| server.requests.try_iter());
        for request in requests {
            let answer = answer(&request.line, pipeline, &self.lanes);
            // It may have gone away.
            let _ = request.reply.send(answer);
        }
        if self.rebalance.as_ref().is_some_and(Deadline::passed) {
            // A lane that has ended is why nothing can move any more.
            if let Ok(moves) = pipeline.rebalance() {
                tell(&moves);
            }
            self.rebalance = Some(Deadline::after(REBALANCE_EVERY));
        }
    }
}

/// Says how many shards go from which workers to which by themselves.
fn tell(moves: &[ShardMove]) {
    let mut by_way = BTreeMap::new();
    for step in moves {
        *by_way.entry((step.from, step.to)).or_insert(0) += 1;
    }
    let by_way: Vec<String> = by_way
        .iter()
        .map(|((from, to), shards)| format!("{shards} from worker {from} to {to}"))
        .collect();
    if !moves.is_empty() {
        say(format_args!(
            "shards move to workers that get fewer messages: {}",
            by_way.join(", ")
        ));
    }
}

fn answer<H: Handler>(line: &str, pipeline: &mut Pipeline<H>, lanes: &[String]) -> Value {
    let line = line.split('\n').next().unwrap_or_default();
    if line.len() > REQUEST_MAX {
        return json!({ "error": format!("a request has up to {REQUEST_MAX} bytes") });
    }
    if let Some(topic) = line.strip_prefix("topic ") {
        let owner = pipeline.owner_of(topic.as_bytes());
        return json!({
            "topic": topic,
            "shard": owner.and_then(|owner| owner.shard),
            "worker": owner.map(|owner| owner.worker),
        });
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let answered = match words[..] {
        ["status"] => Ok(status(pipeline, lanes)),
        ["shards"] => Ok(json!({
            "workers": pipeline.shards().map(|table| table.to_vec()),
            "moving": pipeline.is_moving(),
        })),
        ["move", shard, worker] => match (shard.parse(), worker.parse()) {
            (Ok(shard), Ok(worker)) => {
                let owners = pipeline.shards();
                let from = owners.and_then(|owners| owners.get(shard).copied());
                let moved = pipeline.move_shard(shard, worker);
                moved
                    .map(|()| json!({ "shard": shard, "from": from, "worker": worker }))
                    .map_err(|error| error.to_string())
            }
            _ => Err("a shard and a worker are numbers".to_owned()),
        },
        _ => Err(
            "there are the requests status, shards, topic NAME, and move SHARD WORKER".to_owned(),
        ),
    };
    answered.unwrap_or_else(|error| json!({ "error": error }))
}

fn status<H: Handler>(pipeline: &mut Pipeline<H>, lanes: &[String]) -> Value {
    let totals = pipeline.look();
    let workers: Vec<Value> = pipeline
        .by_worker()
        .iter()
        .map(|one| {
            json!({
                "delivered": one.delivered,
                "batches_under_way": one.batches_under_way,
                "messages_under_way": one.messages_under_way,
            })
        })
        .collect();
    let lanes: Vec<Value> = pipeline
        .by_lane()
        .iter()
        .zip(lanes)
        .map(|(one, name)| {
            json!({
                "name": name,
                "received": one.received,
                "connects": one.connects,
                "disconnects": one.disconnects,
            })
        })
        .collect();
    json!({
        "received": totals.received,
        "delivered": totals.delivered,
        "conflated": totals.conflated,
        "dropped": totals.dropped,
        "duplicates": totals.duplicates,
        "rejected": totals.rejected(),
        "lost": totals.lost(),
        "under_way": totals.under_way(),
        "moving": pipeline.is_moving(),
        "lanes": lanes,
        "workers": workers,
    })
}

/// A request, and where its answer goes.
struct Request {
    line: String,
    reply: Sender<Value>,
}

/// The thread that talks to those who ask.
struct Server {
    path: PathBuf,
    requests: Receiver<Request>,
    stop: Stop,
}

impl Server {
    fn start(path: &Path) -> Result<Self> {
        let refused = |error: io::Error| {
            let (problem, remedy) = match error.kind() {
                io::ErrorKind::AddrInUse => (
                    "another process listens there".to_owned(),
                    "give another path, or end that process",
                ),
                io::ErrorKind::AlreadyExists => (
                    "there is a file that is no socket".to_owned(),
                    "give another path; the file is left as it is",
                ),
                _ => (
                    format!("the socket could not be made ({error})"),
                    "give a path in a directory that exists and that you may write to",
                ),
            };
            Error::config("--control", path.display(), problem, remedy)
        };
        let listener = bind(path).map_err(refused)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(refused)?;
        let (sender, requests) = channel::bounded(1);
        let stop = Stop::default();
        let run = {
            let stop = stop.clone();
            move || {
                for connection in listener.incoming() {
                    if stop.requested() {
                        return;
                    }
                    match connection {
                        // What goes wrong with a connection is its own matter.
                        Ok(connection) => drop(converse(connection, &sender)),
                        // Too many open files, mostly: it would be refused again at once.
                        Err(_) => thread::sleep(REST),
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("control".to_owned()).spawn(run);
        thread.map_err(|source| Error::Thread {
            thread: "control".to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.into(),
            requests,
            stop,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.request();
        // Wakes its thread, if that waits for a connection. It is not waited for: it may be listening to somebody.
        let _ = UnixStream::connect(&self.path);
        let _ = fs::remove_file(&self.path);
    }
}

/// Binds the socket; in place of one that nobody listens at, which a killed process leaves behind.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            match UnixStream::connect(path) {
                // Nobody listens, and nobody will.
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(refused) if refused.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(refused);
                }
                _ => return Err(error),
            }
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

/// Reads a line, or what there is of it when its time is over.
fn hear(mut connection: &UnixStream) -> io::Result<String> {
    let deadline = Deadline::after(PATIENCE);
    let (mut line, mut buffer) = (Vec::new(), [0; REQUEST_MAX]);
    while line.len() <= REQUEST_MAX && !line.contains(&b'\n') && !deadline.passed() {
        // A time of nothing would be no limit at all.
        let left = deadline.left().max(Duration::from_millis(1));
        connection.set_read_timeout(Some(left))?;
        match connection.read(&mut buffer)? {
            0 => break,
            read => line.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn converse(mut connection: UnixStream, requests: &Sender<Request>) -> io::Result<()> {
    connection.set_write_timeout(Some(PATIENCE))?;
    let line = hear(&connection)?;
    let (reply, answer) = channel::bounded(1);
    let answer = match requests.send(Request { line, reply }) {
        Ok(()) => answer.recv().ok(),
        Err(_) => None,
    };
    let answer = answer.unwrap_or_else(|| json!({ "error": "it has stopped" }));
    writeln!(connection, "{answer}")
}
