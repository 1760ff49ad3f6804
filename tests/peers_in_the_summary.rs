//! Goal: the summary of a run says what its peers did wrong, each by its name and counted, and text and JSON agree.

mod support;

use rustix::process::Signal;
use support::{
    Pinfeed, number,
    peer::{Peer, command, greeting, message},
};

#[test]
fn what_peers_did_wrong_is_named_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let feeds = folder.path().join("feeds.toml");
    let text = "[[lane]]\nname = \"a\"\n[receive]\nhandshake_timeout_ms = 3000\nheartbeat_ms = 100\n\
                heartbeat_timeout_ms = 2000\n[[feed]]\nname = \"f\"\nenvelope = \"raw\"\n\
                [[feed.line]]\nlane = \"a\"\nbind = [\"tcp://127.0.0.1:*\"]\n";
    std::fs::write(&feeds, text).unwrap();
    let mut run = Pinfeed::start(&["run", feeds.to_str().unwrap(), "--json"]);
    let endpoint = &run.wait_for_line("listening on ");
    let secret = greeting(1, b"CURVE");
    let refusal = [greeting(1, b"NULL"), command(b"ERROR", b"\x02no")].concat();
    let no_ready = [greeting(1, b"NULL"), message(&[b"x"])].concat();
    let pull = b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PULL";
    let pull = [&greeting(1, b"NULL")[..], pull].concat();
    let strangers = [
        ("not_zmtp", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("wrong_mechanism", secret),
        ("refused_by_peer", refusal),
        ("not_ready", no_ready),
        ("wrong_socket_type", pull),
    ];
    let guests = [
        ("reserved_flags", b"\xf0\0".to_vec()),
        ("command_with_more", b"\x05\x05\x04PING".to_vec()),
        ("frame_too_large", [&[2_u8][..], &[0x80; 8]].concat()),
        ("malformed_command", command(b"PING", b"")),
    ];
    for (_, words) in &strangers {
        let mut peer = Peer::connect(endpoint);
        peer.send(words);
        peer.wait_for_end();
    }
    for (_, words) in &guests {
        let mut peer = Peer::connect(endpoint);
        peer.welcome(1);
        peer.send(words);
        peer.wait_for_end();
    }
    // One says nothing, one falls silent, and one does so within a message.
    Peer::connect(endpoint).wait_for_end();
    for words in [&b""[..], b"\0\x05cut"] {
        let mut peer = Peer::connect(endpoint);
        // The older has no heartbeats.
        peer.welcome(u8::from(words.is_empty()));
        peer.send(words);
        peer.wait_for_end();
    }
    run.signal(Signal::INT);
    let summary = run.json(130);
    let named = summary["protocol_errors_by_reason"]
        .as_object()
        .expect("reasons");
    let reasons = strangers.iter().chain(&guests).map(|(reason, _)| *reason);
    for reason in reasons.clone() {
        assert_eq!(named[reason], 1, "{reason}");
        let said = format!(", 1 ended for {reason}");
        assert!(run.said.contains(&said), "{}", run.said);
    }
    assert_eq!(named.len(), reasons.clone().count(), "{named:?}");
    assert_eq!(number(&summary, "protocol_errors"), reasons.count() as u64);
    for (counter, expected, said) in [
        ("handshake_timeouts", 1, "too long a handshake"),
        ("heartbeat_timeouts", 1, "silence"),
        ("message_timeouts", 1, "silence within a message"),
        // Also what is too large, which is part of a message.
        ("truncated", 2, ""),
        ("handshake_failures", strangers.len() as u64 + 1, ""),
        ("disconnects", guests.len() as u64 + 2, ""),
        ("received", 0, ""),
    ] {
        assert_eq!(number(&summary, counter), expected, "{counter}: {summary}");
        assert!(
            said.is_empty() || run.said.contains(&format!(", 1 ended for {said}")),
            "{}",
            run.said
        );
    }
}
