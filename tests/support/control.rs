//! Asking a running `pinfeed run --control SOCKET`.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::Value;

use super::LIMIT;

/// Asks at the socket itself, and returns the answer.
pub fn ask(socket: &Path, request: &str) -> Value {
    let mut connection = UnixStream::connect(socket).expect("someone listens");
    connection.set_read_timeout(Some(LIMIT)).expect("a limit");
    writeln!(connection, "{request}").expect("it takes a line");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("text");
    serde_json::from_str(&answer).expect("one JSON object")
}

/// Adds a counter up over lanes: `connects` or `disconnects`, for instance.
pub fn of_lanes(socket: &Path, counter: &str) -> u64 {
    let status = ask(socket, "status");
    let lanes = status["lanes"].as_array().expect("lanes").iter();
    lanes.map(|lane| super::number(lane, counter)).sum()
}
