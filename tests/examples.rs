//! Goal: the examples compute what they say, seen against the same synthetic feed computed here.

mod support;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use pinfeed::publish::{
    Source,
    exchange::{Exchange, Level, Parameters, Tick},
};
use support::{Pinfeed, publisher};

const MESSAGES: u64 = 50_000;

/// Returns an example's program, which Cargo builds beside the tests.
fn example(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_pinfeed"))
        .parent()
        .expect("a folder");
    folder.join("examples").join(name)
}

/// Runs an example on the feed that `pinfeed publish` makes by default, and returns its lines by
/// topic.
fn rows_of(name: &str) -> BTreeMap<String, Vec<String>> {
    let messages = MESSAGES.to_string();
    let (_publish, endpoint) = publisher(&["--rate", "max", "--messages", &messages]);
    let mut process = Pinfeed::spawn(Command::new(example(name)).args([&endpoint, &messages]));
    let (status, output) = process.finish();
    assert!(status.success(), "{}", process.said);
    output
        .lines()
        .skip(1)
        .map(|line| {
            let mut fields = line.split(',').map(str::to_owned);
            (fields.next().expect("a topic"), fields.collect())
        })
        .collect()
}

/// Returns the same feed, by topic.
fn ticks() -> BTreeMap<String, Vec<Tick>> {
    let mut exchange = Exchange::new(Parameters::default()).expect("the defaults are in range");
    let mut ticks: BTreeMap<String, Vec<Tick>> = BTreeMap::new();
    for _ in 0..MESSAGES {
        let mut payload = Vec::new();
        let item = exchange
            .next(&mut payload)
            .expect("it never fails")
            .expect("it never ends");
        let topic = String::from_utf8(exchange.topic(item.topic).to_vec()).expect("text");
        ticks
            .entry(topic)
            .or_default()
            .push(Tick::decode(&payload).expect("a tick"));
    }
    ticks
}

fn price(level: Level) -> String {
    format!("{}.{:04}", level.price / 10_000, level.price % 10_000)
}

#[test]
fn vwap_weighs_prices_by_volume() {
    let rows = rows_of("vwap");
    let mut traded = 0;
    for (topic, ticks) in ticks() {
        let trades: Vec<Level> = ticks
            .iter()
            .filter_map(|tick| match tick {
                Tick::Trade(trade) => Some(*trade),
                Tick::Quote { .. } => None,
            })
            .collect();
        if trades.is_empty() {
            assert!(!rows.contains_key(&topic));
            continue;
        }
        traded += 1;
        let quantity: u64 = trades.iter().map(|trade| u64::from(trade.quantity)).sum();
        let weighted: f64 = trades
            .iter()
            .map(|trade| {
                trade.price as f64 / 10_000.0 * f64::from(trade.quantity) / quantity as f64
            })
            .sum();
        let row = &rows[&topic];
        let vwap: f64 = row[0].parse().expect("a number");
        assert!(
            (vwap - weighted).abs() < 1e-5,
            "{topic}: {vwap} or {weighted}"
        );
        assert_eq!(row[1], quantity.to_string(), "{topic}");
    }
    assert_eq!(rows.len(), traded);
    assert!(traded > 900, "most of 1,000 topics trade: {traded}");
}

#[test]
fn top_of_book_ends_with_the_last_quote() {
    let rows = rows_of("top_of_book");
    let mut quoted = 0;
    for (topic, ticks) in ticks() {
        let mut quotes: Vec<(Level, Level)> = ticks
            .iter()
            .filter_map(|tick| match tick {
                Tick::Quote { bid, ask } => Some((*bid, *ask)),
                Tick::Trade(_) => None,
            })
            .collect();
        quotes.dedup();
        let Some(&(bid, ask)) = quotes.last() else {
            assert!(!rows.contains_key(&topic));
            continue;
        };
        quoted += 1;
        let expected = [
            price(bid),
            bid.quantity.to_string(),
            price(ask),
            ask.quantity.to_string(),
            quotes.len().to_string(),
        ];
        assert_eq!(rows[&topic], expected, "{topic}");
    }
    assert_eq!(rows.len(), quoted);
    assert!(quoted > 900, "most of 1,000 topics are quoted: {quoted}");
}
