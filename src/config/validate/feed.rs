//! Checking a feed: what is expected of its numbers and of its silence, and whether snapshots suit it.

use std::collections::HashSet;

use crate::{
    config::{
        Feed, Lane, Snapshot, SocketKind, endpoint,
        limits::{
            BATCHES_BYTES_MAX, BYTES_MAX, HELD_BYTES_MIN, HELD_MESSAGES_MAX, MILLISECONDS_MAX,
            STALE_RULES_MAX, TOPICS_MAX, within,
        },
        validate::{check_prefix, unique},
    },
    error::{Error, Result},
    policy::Policy,
    sequence::{Scope, arbiter},
};

/// Checks what is expected of a feed's numbers and of its silence.
pub(super) fn check_numbers(key: &str, feed: &Feed) -> Result<()> {
    let topics_key = format!("{key}.sequence.topics_max");
    within(&topics_key, feed.sequence.topics_max, 1, TOPICS_MAX)?;
    let stale_topics = &feed.quality.topics;
    let rules_key = format!("{key}.quality.topic");
    within(&rules_key, stale_topics.len(), 0, STALE_RULES_MAX)?;
    let mut prefixes = HashSet::new();
    for (index, rule) in stale_topics.iter().enumerate() {
        let rule_key = format!("{rules_key}[{index}]");
        let prefix_key = format!("{rule_key}.prefix");
        let remedy = "leave the * out; \"\" is for all topics";
        check_prefix(&prefix_key, &rule.prefix, remedy)?;
        unique(&mut prefixes, prefix_key, &rule.prefix)?;
        let limit_key = format!("{rule_key}.stale_after_ms");
        let limit = rule.stale_after_ms as usize;
        within(&limit_key, limit, 1, MILLISECONDS_MAX)?;
    }
    let limits = [
        ("stale_after_ms", feed.quality.stale_after_ms),
        ("recover_ms", feed.quality.recover_ms),
    ];
    for (name, value) in limits {
        within(
            &format!("{key}.quality.{name}"),
            value as usize,
            0,
            MILLISECONDS_MAX,
        )?;
    }
    let Some(arbitration) = &feed.arbitration else {
        return Ok(());
    };
    let key = format!("{key}.arbitration");
    if feed.lines.len() < 2 {
        return Err(Error::config(
            key,
            format!("{} line", feed.lines.len()),
            "there is nothing to choose from",
            "add a second [[feed.line]] that carries a copy of the first, or remove the table",
        ));
    }
    within(
        &format!("{key} (lines)"),
        feed.lines.len(),
        2,
        arbiter::LINES_MAX,
    )?;
    if !feed.is_numbered() {
        return Err(Error::config(
            key,
            &feed.envelope,
            "only numbers tell which messages are copies, and this feed's have none that are looked at",
            "give an envelope with sequence numbers and `track = true`, or remove the table",
        ));
    }
    within(
        &format!("{key}.wait_ms"),
        arbitration.wait_ms as usize,
        1,
        MILLISECONDS_MAX,
    )?;
    let held = arbitration.held_messages_max;
    within(
        &format!("{key}.held_messages_max"),
        held,
        1,
        HELD_MESSAGES_MAX,
    )?;
    let held = arbitration.held_bytes_max;
    within(&format!("{key}.held_bytes_max"), held, 1, BATCHES_BYTES_MAX)
}

/// Checks whether a feed, whose key is given, can be joined by a snapshot.
pub(super) fn check_snapshot(key: &str, snapshot: &Snapshot, feed: &Feed) -> Result<()> {
    let key = format!("{key}.snapshot");
    endpoint::check_connect(
        &format!("{key}.connect"),
        &snapshot.connect,
        &Lane::named(""),
    )?;
    let endpoints = feed
        .lines
        .iter()
        .map(|line| line.connect.len() + line.bind.len());
    within(
        &format!("{key}.held_bytes_max"),
        snapshot.held_bytes_max,
        HELD_BYTES_MIN,
        BYTES_MAX,
    )?;
    let counts_all = feed.sequence.track
        && (feed.envelope.numbering()).is_some_and(|numbering| numbering.scope == Scope::Line);
    let problem = if endpoints.sum::<usize>() != 1 {
        "a snapshot goes with the messages of one publisher, and the feed has several endpoints"
    } else if feed.arbitration.is_some() {
        "lines that are copies of each other take no snapshots"
    } else if feed.socket != SocketKind::Sub {
        "what is pushed has no snapshot"
    } else if feed.subscribe.len() > 1 || !feed.topics.is_empty() {
        "a snapshot is of one prefix, and the feed wants several or whole topics"
    } else if counts_all && !feed.subtree().is_empty() {
        return Err(Error::config(
            key,
            &snapshot.connect,
            "the feed's numbers count all updates, and it takes those of one prefix: the others would be \
                 taken for lost, and a snapshot for each",
            "set `sequence.track = false`, or subscribe to all",
        ));
    } else if feed.envelope.inflation().is_some() {
        "what is compressed has no snapshot"
    } else if feed
        .policies
        .iter()
        .any(|rule| rule.policy == Policy::Snail)
    {
        "messages that are held for a snapshot are late, and `snail` would end the run for that"
    } else {
        return Ok(());
    };
    Err(Error::config(
        key,
        &snapshot.connect,
        problem,
        "give the feed one endpoint, one `subscribe` prefix at most, no `arbitration` and no `snail`, or \
             leave `snapshot` out",
    ))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    /// Checks a feed with these keys of its own, of its snapshots and of its line, and with tables behind them.
    fn check(feed: &str, snapshot: &str, line: &str, tables: &str) -> Result<(), String> {
        let envelope = if feed.contains("envelope") {
            ""
        } else {
            "envelope = \"kvmsg\""
        };
        let text = format!(
            "[[lane]]\nname = \"a\"\n[[feed]]\nname = \"f\"\n{envelope}\n{feed}\n[feed.snapshot]\n{snapshot}\n\
             [[feed.line]]\nlane = \"a\"\n{line}\n{tables}"
        );
        let config: Config = toml::from_str(&text).unwrap();
        config.validate().map_err(|error| {
            assert!(error.is_bad_input());
            error.to_string()
        })
    }

    #[test]
    fn feeds_that_snapshots_do_not_suit_are_refused() {
        const SERVER: &str = "connect = \"tcp://127.0.0.1:5556\"";
        const LINE: &str = "connect = [\"tcp://127.0.0.1:5557\"]";
        check("", SERVER, LINE, "").unwrap();
        let one_prefix = "subscribe = [\"a\"]\nsequence = { track = false }";
        check(one_prefix, SERVER, LINE, "").unwrap();
        let several = "connect = [\"tcp://127.0.0.1:5557\", \"tcp://127.0.0.1:5558\"]";
        let inflated = "envelope = { topic = { frame = 0 }, inflate = { format = \"zlib\", frame = 0, bytes_max = 1024 } }";
        for (feed, snapshot, line, tables, expected) in [
            ("", SERVER, several, "", "several endpoints"),
            ("socket = \"pull\"", SERVER, LINE, "", "what is pushed"),
            ("subscribe = [\"a\", \"b\"]", SERVER, LINE, "", "one prefix"),
            ("topics = [\"a\"]", SERVER, LINE, "", "one prefix"),
            (
                "subscribe = [\"a\"]",
                SERVER,
                LINE,
                "",
                "sequence.track = false",
            ),
            (inflated, SERVER, LINE, "", "what is compressed"),
            (
                "",
                SERVER,
                LINE,
                "[[feed.policy]]\ntopic = \"a\"\npolicy = \"drop-oldest\"",
                "2 policies",
            ),
            (
                "",
                SERVER,
                LINE,
                "[[feed.policy]]\npolicy = \"snail\"",
                "`snail` would end the run",
            ),
            (
                "",
                "connect = \"tcp://127.0.0.1:5556\"\nheld_bytes_max = 0",
                LINE,
                "",
                "feed[0].snapshot.held_bytes_max = 0",
            ),
            (
                "",
                "connect = \"nonsense\"",
                LINE,
                "",
                "feed[0].snapshot.connect = nonsense",
            ),
        ] {
            let said = check(feed, snapshot, line, tables).unwrap_err();
            assert!(said.starts_with("feed"), "{said}");
            assert!(said.contains(expected), "{said}");
        }
    }
}
