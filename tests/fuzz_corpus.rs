//! Goal: what the fuzzer has gone through holds in every build, without the fuzzer: what libzmq really
//! sends, what is wrong on purpose, and what once was found to fail.

mod support;
#[path = "support/zmtp_stream.rs"]
mod zmtp_stream;

use std::{fs, path::Path};

use zmtp_stream::check;

#[test]
fn zmtp_streams() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/zmtp_stream");
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
