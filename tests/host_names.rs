//! Goal: a publisher's name is looked up again whenever it is connected to again, so a publisher may
//! come back on another host.
//!
//! The name stands in a hosts file that only the subscriber sees: in a mount namespace of its own,
//! which takes root.

mod support;

use std::{fs, io::Write, net::TcpListener, process::Command};

use support::{Pinfeed, skip};

const NAME: &str = "feed.pinfeed.test";

fn publish_at(address: &str, port: u16) -> Pinfeed {
    let endpoint = format!("tcp://{address}:{port}");
    let mut publisher = Pinfeed::start(&[
        "publish", "--bind", &endpoint, "--topics", "1", "--rate", "1000",
    ]);
    publisher.wait_for_line("publishing on ");
    publisher
}

#[test]
fn a_publisher_that_moves_is_found_again() {
    let may_mount = Command::new("unshare")
        .args(["--mount", "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !may_mount {
        skip("a mount namespace takes root and unshare");
        return;
    }
    // Free on all addresses.
    let port = TcpListener::bind("0.0.0.0:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut hosts = tempfile::NamedTempFile::new().unwrap();
    writeln!(hosts, "127.0.0.2 {NAME}").unwrap();
    hosts.flush().unwrap();

    let first = publish_at("127.0.0.2", port);
    let mut run = Pinfeed::spawn(
        Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-c",
                "mount --bind \"$0\" /etc/hosts && exec \"$@\"",
            ])
            .arg(hosts.path())
            .arg(env!("CARGO_BIN_EXE_pinfeed"))
            .args([
                "run",
                "--engine",
                "native",
                "--envelope",
                "pinfeed",
                "--handler",
                "print",
            ])
            .args(["--connect", &format!("tcp://{NAME}:{port}")]),
    );
    // The first message of its life.
    run.wait_for_line("0 sim.");
    // In place, for the file itself is what the namespace sees.
    fs::write(hosts.path(), format!("127.0.0.3 {NAME}\n")).unwrap();
    let _second = publish_at("127.0.0.3", port);
    drop(first);
    run.wait_for_line("0 sim.");
}
