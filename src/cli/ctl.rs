//! `pinfeed ctl`: ask a running `pinfeed run --control SOCKET` for something.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
};

use clap::Subcommand;
use serde_json::Value;

use crate::{
    cli::{
        Ending, Failure,
        control::{PATIENCE, REQUEST_MAX},
        print_json,
    },
    error::Error,
};

/// Ask a running `pinfeed run --control SOCKET` for something; the answer is one JSON object.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The path given to --control
    socket: PathBuf,

    #[command(subcommand)]
    request: Request,
}

#[derive(Debug, Subcommand)]
enum Request {
    /// Tell the ledger, the connections of each lane, and how much is under way to each worker
    Status,
    /// Tell which worker has which shard
    Shards,
    /// Tell which shard a topic has, none where an override places it, and which worker
    Topic {
        /// The topic, by its whole name
        topic: String,
    },
    /// Move a shard to another worker, in order and without loss
    Move {
        /// The shard, from 0 to 255
        shard: usize,
        /// The worker, counted from 0
        worker: usize,
    },
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    let request = match &args.request {
        Request::Status => "status".to_owned(),
        Request::Shards => "shards".to_owned(),
        Request::Topic { topic } => format!("topic {topic}"),
        Request::Move { shard, worker } => format!("move {shard} {worker}"),
    };
    if request.len() > REQUEST_MAX || request.contains('\n') {
        let problem = format!("a request is a line of up to {REQUEST_MAX} bytes");
        let remedy = "give a topic of one line, and of less";
        return Err(Error::config("TOPIC", request.len(), problem, remedy).into());
    }
    let answer = ask(args, &request).map_err(|error| {
        Error::config(
            "SOCKET",
            args.socket.display(),
            format!("nobody answers there ({error})"),
            "give the path that `pinfeed run --control` was given, while it runs",
        )
    })?;
    let answer: Value = serde_json::from_str(&answer)
        .map_err(|error| Failure::running("reading the answer", &error))?;
    match answer["error"].as_str() {
        Some(error) => Err(Failure::refused(error)),
        None => print_json(&answer).map(|()| Ending::Ok),
    }
}

fn ask(args: &Args, request: &str) -> io::Result<String> {
    let mut connection = UnixStream::connect(&args.socket)?;
    // It may have to wait for another one's turn.
    connection.set_read_timeout(Some(2 * PATIENCE))?;
    writeln!(connection, "{request}")?;
    connection.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}
