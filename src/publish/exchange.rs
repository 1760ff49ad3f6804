//! A synthetic exchange: symbols whose prices walk at random, some of them far busier than others.
//!
//! For the same parameters it publishes the same messages, so that what a subscriber computed can be
//! compared with what was published. Topics are `sim.00000`, `sim.00001`, ..., the first the
//! busiest where popularity is skewed. Each message is a [`Tick`].

use rand::{RngExt, rngs::StdRng};
use rand_distr::{Distribution, weighted::WeightedAliasIndex};

use crate::{
    error::{Error, Result},
    publish::{Item, RATE_MAX, Schedule, Source},
    random,
};

/// The most topics.
pub const TOPICS_MAX: usize = 10_000_000;
/// The most bytes of a payload.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// What to publish.
#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    /// The number of topics.
    pub topics: usize,
    /// The exponent of the Zipf law that messages are spread over topics by: the topic of rank `r`
    /// gets `1 / r^skew` of what the first gets. 0 is uniform.
    pub skew: f64,
    /// Messages a second; `None` for as many as possible.
    pub rate: Option<f64>,
    /// Messages that are sent back to back, at an unchanged rate on average.
    pub burst: u64,
    /// Bytes of a payload: shorter ones are padded with zeros.
    pub payload_bytes: usize,
    /// What makes one run differ from another.
    pub seed: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            topics: 1_000,
            skew: 1.0,
            rate: Some(100_000.0),
            burst: 1,
            payload_bytes: QUOTE_BYTES,
            seed: 1,
        }
    }
}

impl Parameters {
    /// Returns when messages are due.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        Schedule {
            rate: self.rate,
            burst: self.burst,
        }
    }
}

/// A price with its quantity. Prices are in units of 1/10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The price, times 10,000.
    pub price: i64,
    /// The quantity.
    pub quantity: u32,
}

/// What the synthetic exchange publishes, little-endian:
///
/// | offset | trade          | quote        |
/// |--------|----------------|--------------|
/// | 0      | `01`           | `02`         |
/// | 1–3    | zeros          | zeros        |
/// | 4      | quantity, u32  | bid quantity, u32 |
/// | 8      | price, i64     | bid price, i64    |
/// | 16     | end            | ask price, i64    |
/// | 24     |                | ask quantity, u32 |
/// | 28     |                | end          |
///
/// What follows the end is padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// Someone bought.
    Trade(Level),
    /// What can be bought and sold at best.
    Quote {
        /// The highest bid.
        bid: Level,
        /// The lowest ask.
        ask: Level,
    },
}

const QUOTE_BYTES: usize = 28;
const TRADE: u8 = 1;
const QUOTE: u8 = 2;

impl Tick {
    /// Reads a payload, or returns `None` where it is not a tick.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let quantity = |at| Some(u32::from_le_bytes(*payload.get(at..)?.first_chunk()?));
        let price = |at| Some(i64::from_le_bytes(*payload.get(at..)?.first_chunk()?));
        let level = Level {
            price: price(8)?,
            quantity: quantity(4)?,
        };
        match payload[0] {
            TRADE => Some(Self::Trade(level)),
            QUOTE => Some(Self::Quote {
                bid: level,
                ask: Level {
                    price: price(16)?,
                    quantity: quantity(24)?,
                },
            }),
            _ => None,
        }
    }

    /// Appends the tick to a payload.
    pub fn encode(&self, payload: &mut Vec<u8>) {
        let (kind, level) = match *self {
            Self::Trade(level) => (TRADE, level),
            Self::Quote { bid, .. } => (QUOTE, bid),
        };
        payload.extend_from_slice(&[kind, 0, 0, 0]);
        payload.extend_from_slice(&level.quantity.to_le_bytes());
        payload.extend_from_slice(&level.price.to_le_bytes());
        if let Self::Quote { ask, .. } = self {
            payload.extend_from_slice(&ask.price.to_le_bytes());
            payload.extend_from_slice(&ask.quantity.to_le_bytes());
        }
    }
}

/// A synthetic exchange.
#[derive(Debug)]
pub struct Exchange {
    parameters: Parameters,
    random: StdRng,
    popularity: WeightedAliasIndex<f64>,
    symbols: Vec<Symbol>,
    published: u64,
}

#[derive(Debug)]
struct Symbol {
    topic: Box<[u8]>,
    mid_price: i64,
}

impl Exchange {
    /// Opens the exchange.
    ///
    /// # Errors
    /// [`Error::Config`], naming the flag of `pinfeed publish`, for a parameter out of range.
    pub fn new(parameters: Parameters) -> Result<Self> {
        Self::share(parameters, 0, 1)
    }

    /// Opens one of `of` exchanges that share the topics: the one at `index`, counted from 0, has every `of`th, of
    /// which the first is the busiest again.
    ///
    /// # Errors
    /// As [`new`](Self::new), and where there is no such share, or no topic in it.
    pub fn share(parameters: Parameters, index: usize, of: usize) -> Result<Self> {
        let Parameters {
            topics,
            skew,
            rate,
            burst,
            payload_bytes,
            seed,
        } = parameters;
        let refuse = |flag: &str, value: String, range: String| {
            Err(Error::config(
                flag,
                value,
                "it is out of range",
                format!("give {range}"),
            ))
        };
        if topics == 0 || topics > TOPICS_MAX {
            return refuse("--topics", topics.to_string(), format!("1 to {TOPICS_MAX}"));
        }
        if !(0.0..=10.0).contains(&skew) {
            return refuse("--skew", skew.to_string(), "0 (uniform) to 10".into());
        }
        if let Some(rate) = rate.filter(|rate| !(*rate > 0.0 && *rate <= RATE_MAX)) {
            let range = format!("a number above 0, up to {RATE_MAX}, or max");
            return refuse("--rate", rate.to_string(), range);
        }
        if burst == 0 {
            return refuse("--burst", burst.to_string(), "1 or more".into());
        }
        if !(QUOTE_BYTES..=PAYLOAD_BYTES_MAX).contains(&payload_bytes) {
            let range = format!("{QUOTE_BYTES} to {PAYLOAD_BYTES_MAX} bytes");
            return refuse("--size", payload_bytes.to_string(), range);
        }
        if index >= of || of > topics {
            let shares = format!("1/N to N/N, with N up to {topics}, the number of topics");
            return refuse("--share", format!("{}/{of}", index + 1), shares);
        }
        let topics: Vec<usize> = (index..topics).step_by(of).collect();
        let weights = (1..=topics.len())
            .map(|rank| (rank as f64).powf(-skew))
            .collect();
        let mut random = random::seeded(seed);
        Ok(Self {
            popularity: WeightedAliasIndex::new(weights)
                .expect("all weights are finite and some above 0"),
            symbols: topics
                .iter()
                .map(|topic| Symbol {
                    topic: format!("sim.{topic:05}").into_bytes().into(),
                    mid_price: random.random_range(100_000..10_000_000),
                })
                .collect(),
            parameters,
            random,
            published: 0,
        })
    }

    fn tick(&mut self, index: usize) -> Tick {
        let symbol = &mut self.symbols[index];
        let step = self.random.random_range(-5..=5);
        symbol.mid_price = (symbol.mid_price + step).max(10_000);
        let mid_price = symbol.mid_price;
        let mut quantity = || self.random.random_range(1..1_000);
        let (first, second) = (quantity(), quantity());
        if self.published.is_multiple_of(4) {
            return Tick::Trade(Level {
                price: mid_price,
                quantity: first,
            });
        }
        Tick::Quote {
            bid: Level {
                price: mid_price - 5,
                quantity: first,
            },
            ask: Level {
                price: mid_price + 5,
                quantity: second,
            },
        }
    }
}

impl Source for Exchange {
    fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<Item>> {
        let topic = self.popularity.sample(&mut self.random);
        self.tick(topic).encode(payload);
        payload.resize(self.parameters.payload_bytes, 0);
        let due_ns = self.parameters.schedule().due_ns(self.published);
        self.published += 1;
        Ok(Some(Item { topic, due_ns }))
    }

    fn topic(&self, index: usize) -> &[u8] {
        &self.symbols[index].topic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(parameters: Parameters, count: usize) -> Vec<(usize, Vec<u8>)> {
        let mut exchange = Exchange::new(parameters).unwrap();
        (0..count)
            .map(|_| {
                let mut payload = Vec::new();
                let item = exchange.next(&mut payload).unwrap().unwrap();
                (item.topic, payload)
            })
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_messages() {
        let parameters = Parameters::default();
        assert_eq!(messages(parameters, 1_000), messages(parameters, 1_000));
        let other = Parameters {
            seed: 2,
            ..parameters
        };
        assert_ne!(messages(parameters, 1_000), messages(other, 1_000));
    }

    #[test]
    fn every_payload_is_a_tick_of_the_size_asked_for() {
        let parameters = Parameters {
            payload_bytes: 100,
            ..Parameters::default()
        };
        let mut trades = 0;
        for (_, payload) in messages(parameters, 1_000) {
            assert_eq!(payload.len(), 100);
            let tick = Tick::decode(&payload).expect("a tick");
            trades += u32::from(matches!(tick, Tick::Trade(_)));
            let mut again = Vec::new();
            tick.encode(&mut again);
            assert_eq!(again, payload[..again.len()]);
        }
        assert_eq!(trades, 250);
    }

    #[test]
    fn what_is_too_short_is_no_tick() {
        let mut payload = Vec::new();
        let level = Level {
            price: 1,
            quantity: 2,
        };
        Tick::Quote {
            bid: level,
            ask: level,
        }
        .encode(&mut payload);
        assert_eq!(payload.len(), QUOTE_BYTES);
        for length in 0..QUOTE_BYTES {
            assert_eq!(Tick::decode(&payload[..length]), None, "{length} bytes");
        }
        assert_eq!(Tick::decode(&[9; QUOTE_BYTES]), None);
    }

    #[test]
    fn skew_makes_the_first_topics_the_busiest() {
        let count = |skew| {
            let parameters = Parameters {
                topics: 100,
                skew,
                ..Parameters::default()
            };
            let drawn = messages(parameters, 10_000);
            drawn.iter().filter(|(topic, _)| *topic == 0).count()
        };
        // 1 / H(100) of the messages, 19.3 %, against 1 %.
        assert!((1_700..2_200).contains(&count(1.0)), "{}", count(1.0));
        assert!((50..150).contains(&count(0.0)), "{}", count(0.0));
    }

    #[test]
    fn bursts_share_their_due_time_and_keep_the_rate() {
        let mut exchange = Exchange::new(Parameters {
            rate: Some(1_000.0),
            burst: 10,
            ..Parameters::default()
        })
        .unwrap();
        let due: Vec<u64> = (0..30)
            .map(|_| {
                exchange
                    .next(&mut Vec::new())
                    .unwrap()
                    .unwrap()
                    .due_ns
                    .unwrap()
            })
            .collect();
        assert_eq!(due[0..10], [0; 10]);
        assert_eq!(due[10..20], [10_000_000; 10]);
        assert_eq!(due[20..30], [20_000_000; 10]);
    }
}
