//! Goal: lanes that share a number of messages receive exactly that many between them, and stop, even
//! where no more than these are ever published.

mod support;

use std::thread;

use pinfeed::{
    config::{Config, Lane, Line},
    envelope::Envelope,
    lane::Quota,
    pipeline::Pipeline,
    stop::Stop,
    worker::handlers::Null,
};
use support::{
    ENGINES, finish,
    peer::{Peer, message},
};

const LANES: usize = 2;
const MESSAGES_EACH: usize = 20_000;
const ROUNDS: usize = 10;

#[test]
fn used_up_to_the_last_message() {
    let stream = message(&[b"topic and payload"]).repeat(MESSAGES_EACH);
    for engine in ENGINES {
        for _ in 0..ROUNDS {
            let mut config = Config::bind("tcp://127.0.0.1:*", Envelope::Raw);
            config.engine = Some(engine);
            config.lanes.push(Lane::named("other"));
            let mut line = Line::on("other");
            line.bind.push("tcp://127.0.0.1:*".to_owned());
            config.feeds[0].lines.push(line);
            let all = (LANES * MESSAGES_EACH) as u64;
            let pipeline = Pipeline::start(&config, Quota::of(all), Stop::default(), |_| Null)
                .expect("the pipeline starts");
            let publishers: Vec<_> = pipeline
                .endpoints()
                .iter()
                .map(|endpoint| {
                    let (endpoint, stream) = (endpoint.clone(), stream.clone());
                    thread::spawn(move || {
                        let mut peer = Peer::connect(&endpoint);
                        peer.welcome(1);
                        peer.send(&stream);
                        peer
                    })
                })
                .collect();
            let totals = finish(pipeline).totals;
            assert_eq!(totals.delivered, all, "{engine:?}");
            for publisher in publishers {
                publisher.join().expect("the publisher does not panic");
            }
        }
    }
}
