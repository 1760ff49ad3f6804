//! Goal: what the fuzzers have gone through holds in every build, without them: what libzmq and Clone's servers and
//! clients really send, what is wrong on purpose, and what once was found to fail.

#[path = "support/kvmsg_frames.rs"]
mod kvmsg_frames;
mod support;
#[path = "support/zmtp_stream.rs"]
mod zmtp_stream;

use std::{fs, path::Path};

/// Replays a corpus.
fn replay(name: &str, check: impl Fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let Ok(files) = fs::read_dir(&corpus) else {
        // The package on crates.io comes without it.
        return support::skip("there is no corpus");
    };
    let mut count = 0;
    for file in files {
        let path = file.expect("a folder that can be read").path();
        // Seen where it fails.
        println!("{}", path.display());
        check(&fs::read(&path).expect("a file that can be read"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", corpus.display());
}

#[test]
fn zmtp_streams() {
    replay("zmtp_stream", zmtp_stream::check);
}

#[test]
fn kvmsg_frames() {
    replay("kvmsg", kvmsg_frames::check);
}
