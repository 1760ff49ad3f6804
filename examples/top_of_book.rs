//! The best bid and ask of each symbol of the synthetic exchange, and how often they changed.
//!
//! ```text
//! pinfeed publish --messages 1000000 &
//! cargo run --release --example top_of_book -- tcp://127.0.0.1:5556 1000000
//! ```

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use pinfeed::{
    config::Config,
    envelope::Envelope,
    lane::Quota,
    message::Message,
    pipeline::Pipeline,
    publish::exchange::{Level, Tick},
    stop::Stop,
    worker::Handler,
};

struct Top {
    bid: Level,
    ask: Level,
    changes: u64,
}

#[derive(Default)]
struct TopOfBook {
    tops: BTreeMap<Vec<u8>, Top>,
}

impl Handler for TopOfBook {
    fn on_message(&mut self, message: &Message<'_>) {
        let Some(Tick::Quote { bid, ask }) = Tick::decode(message.payload()) else {
            return;
        };
        match self.tops.get_mut(message.topic()) {
            Some(top) => {
                top.changes += u64::from((top.bid, top.ask) != (bid, ask));
                (top.bid, top.ask) = (bid, ask);
            }
            None => {
                let top = Top {
                    bid,
                    ask,
                    changes: 1,
                };
                self.tops.insert(message.topic().to_vec(), top);
            }
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(endpoint), Some(Ok(messages))) = (
        arguments.next(),
        arguments.next().map(|number| number.parse()),
    ) else {
        eprintln!("usage: top_of_book ENDPOINT MESSAGES");
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
        TopOfBook::default()
    })?;
    let outcome = pipeline.finish();
    let mut out = io::stdout().lock();
    writeln!(out, "topic,bid,bid_quantity,ask,ask_quantity,changes")?;
    let tops: BTreeMap<_, _> = outcome
        .handlers
        .into_iter()
        .flat_map(|handler| handler.tops)
        .collect();
    for (topic, Top { bid, ask, changes }) in tops {
        writeln!(
            out,
            "{},{:.4},{},{:.4},{},{changes}",
            topic.escape_ascii(),
            bid.price as f64 / 10_000.0,
            bid.quantity,
            ask.price as f64 / 10_000.0,
            ask.quantity,
        )?;
    }
    outcome.failure.map_or(Ok(()), |error| Err(error.into()))
}
