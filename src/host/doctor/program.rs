//! Asking other programs, within a time.

use std::{
    io::Read,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crossbeam::channel;

use crate::host::machine::{Fact, Unavailable};

/// How long a program may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Runs a program, and returns what it writes to standard output.
pub(super) fn ask(program: &str, arguments: &[&str]) -> Fact<String> {
    let line = format!("{program} {}", arguments.join(" "));
    let failed = |reason: String| Unavailable::new(line.clone(), reason);
    let child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => failed(format!("install {program}")),
        _ => failed(error.to_string()),
    })?;
    let output = child.stdout.take();
    let (say, answer) = channel::bounded(1);
    let read = move || {
        let mut text = String::new();
        let output = output.map(|output| output.take(ANSWER_BYTES_MAX));
        let read = output.map(|mut output| output.read_to_string(&mut text));
        // Nobody hears it who has waited for too long.
        let _ = say.send(matches!(read, Some(Ok(_))).then_some(text));
    };
    let reader = thread::Builder::new().name("answer".to_owned()).spawn(read);
    let text = match reader {
        Ok(_) => answer.recv_timeout(ANSWER_LIMIT).ok().flatten(),
        Err(_) => None,
    };
    // One that has answered ends by itself, or has written more than is read.
    if text.is_none() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    match text {
        Some(text) if status.success() => Ok(text),
        Some(_) => Err(failed(format!("it ended with {status}"))),
        None => Err(failed(format!(
            "no answer within {} s",
            ANSWER_LIMIT.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_and_failures_are_named() {
        assert_eq!(ask("echo", &["one", "two"]), Ok("one two\n".to_owned()));
        let absent = ask("no-such-program", &["-c"]).unwrap_err();
        assert_eq!(
            absent.to_string(),
            "no-such-program -c: install no-such-program"
        );
        let failed = ask("false", &[]).unwrap_err();
        assert!(failed.reason.contains("exit status: 1"), "{failed}");
    }
}
