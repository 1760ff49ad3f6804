//! Goal: what `pinfeed doctor` says of four recorded machines, in text, in JSON and as its exit code, is what is
//! written down for them. `tests/machines/README.md` says how to renew that.

mod support;

use std::{env, fs};

use serde_json::Value;
use support::{
    Pinfeed,
    machine::{Recorded, recorded_file},
};

/// Compares with a file, or writes it where that is asked for.
fn compare(name: &str, found: &str) {
    let path = recorded_file(name);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, found).expect("it is written");
        return;
    }
    let expected = fs::read_to_string(&path).expect("UPDATE_GOLDEN=1 writes it");
    assert!(
        found == expected,
        "{name} says otherwise; see tests/machines/README.md if that is meant:\n{found}"
    );
}

fn says_what_is_written_down(name: &str, exit_code: i32) {
    let machine = Recorded::named(name);
    let root = machine.root().to_str().expect("UTF-8");
    let mut arguments = vec!["doctor", "--json", "--root", root];
    // As it is said.
    let config = format!("tests/machines/{name}.toml");
    if recorded_file(&format!("{name}.toml")).exists() {
        arguments.push(&config);
    }
    let mut process = Pinfeed::start(&arguments);
    let report: Value = process.json(exit_code);
    compare(&format!("{name}.doctor.txt"), &process.said);
    let json = serde_json::to_string_pretty(&report).expect("JSON") + "\n";
    compare(&format!("{name}.doctor.json"), &json);
}

#[test]
fn two_sockets_with_a_configuration() {
    says_what_is_written_down("two-socket", 0);
}

#[test]
fn a_desktop_as_it_was_installed() {
    says_what_is_written_down("desktop", 0);
}

#[test]
fn a_virtual_machine() {
    says_what_is_written_down("virtual", 0);
}

/// Two cores' time are not enough for four busy threads.
#[test]
fn a_container_with_a_quota() {
    says_what_is_written_down("container", 1);
}
