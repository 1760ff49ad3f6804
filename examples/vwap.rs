//! The volume-weighted average price of each symbol of the synthetic exchange.
//!
//! ```text
//! pinfeed publish --messages 1000000 &
//! cargo run --release --example vwap -- tcp://127.0.0.1:5556 1000000
//! ```
//!
//! Each worker keeps the symbols of its own shards, without locks; they come together at the end.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use pinfeed::{
    config::Config, envelope::Envelope, lane::Quota, message::Message, pipeline::Pipeline,
    publish::exchange::Tick, stop::Stop, worker::Handler,
};

#[derive(Default)]
struct Vwap {
    /// By topic: the sum of price times quantity, and of quantity.
    traded: BTreeMap<Vec<u8>, (i128, u64)>,
}

impl Handler for Vwap {
    fn on_message(&mut self, message: &Message<'_>) {
        let Some(Tick::Trade(trade)) = Tick::decode(message.payload()) else {
            return;
        };
        if !self.traded.contains_key(message.topic()) {
            self.traded.insert(message.topic().to_vec(), (0, 0));
        }
        if let Some((turnover, quantity)) = self.traded.get_mut(message.topic()) {
            *turnover += i128::from(trade.price) * i128::from(trade.quantity);
            *quantity += u64::from(trade.quantity);
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(endpoint), Some(Ok(messages))) = (
        arguments.next(),
        arguments.next().map(|number| number.parse()),
    ) else {
        eprintln!("usage: vwap ENDPOINT MESSAGES");
        return ExitCode::from(2);
    };
    if let Err(error) = run(&endpoint, messages) {
        eprintln!("Error: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(endpoint: &str, messages: u64) -> Result<(), Box<dyn Error>> {
    let config = Config::connect(endpoint, Envelope::Pinfeed);
    let pipeline = Pipeline::start(&config, Quota::of(messages), Stop::default(), |_| {
        Vwap::default()
    })?;
    let outcome = pipeline.finish();
    let mut out = io::stdout().lock();
    writeln!(out, "topic,vwap,quantity")?;
    // With keyed sharding no topic is in two handlers.
    let traded: BTreeMap<_, _> = outcome
        .handlers
        .into_iter()
        .flat_map(|handler| handler.traded)
        .collect();
    for (topic, (turnover, quantity)) in traded {
        let vwap = turnover as f64 / quantity as f64 / 10_000.0;
        writeln!(out, "{},{vwap:.6},{quantity}", topic.escape_ascii())?;
    }
    outcome.failure.map_or(Ok(()), |error| Err(error.into()))
}
