//! Goal: handlers are told how far a line and its topics can be trusted: silence, gaps and lost connections
//! show, and pass, while another topic of the same line stays well.

mod support;

use std::sync::{Arc, Mutex};

use pinfeed::{
    config::{Config, StaleTopics},
    envelope::Envelope,
    lane::Quota,
    message::{Message, Notice},
    pipeline::Pipeline,
    sequence::Quality::{self, Disconnected, Gapped, Ok as Well, Recovering, Stale},
    stop::Stop,
    worker::Handler,
};
use support::{ENGINES, bound_xpub, finish, sealed, wait_until};

/// A topic, or the line, and what its quality became.
type Change = (Option<Vec<u8>>, Quality);

/// Keeps what it is told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Change>>>);

impl Handler for Told {
    fn on_message(&mut self, _message: &Message<'_>) {}

    fn on_quality(&mut self, notice: &Notice<'_>, _from: Quality, to: Quality) {
        let topic = notice.topic.map(<[u8]>::to_vec);
        self.0.lock().unwrap().push((topic, to));
    }
}

impl Told {
    /// What became of a topic, or of the line, in order.
    fn of(&self, topic: Option<&str>) -> Vec<Quality> {
        let topic = topic.map(|topic| topic.as_bytes().to_vec());
        let changes = self.0.lock().unwrap();
        let of_topic = changes.iter().filter(|(of, _)| *of == topic);
        of_topic.map(|&(_, quality)| quality).collect()
    }
}

#[test]
fn silence_gaps_and_lost_connections_are_told_and_pass() {
    for engine in ENGINES {
        let context = zmq::Context::new();
        let (publisher, endpoint) = bound_xpub(&context);
        let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
        config.engine = Some(engine);
        config.workers.count = 1;
        config.feeds[0].quality.recover_ms = 200;
        config.feeds[0].quality.stale_after_ms = 600;
        config.feeds[0].quality.topics = vec![StaleTopics {
            prefix: "quick".to_owned(),
            stale_after_ms: 300,
        }];
        let told = Told::default();
        let stop = Stop::default();
        let pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| told.clone());
        let pipeline = pipeline.unwrap();
        publisher.recv_bytes(0).unwrap();
        let send = |topic: &str, sequence| publisher.send(sealed(topic, 1, sequence), 0).unwrap();

        send("quick", 0);
        send("slow", 0);
        wait_until("silence shows", || told.of(Some("quick")) == [Stale]);
        assert_eq!(told.of(Some("slow")), [], "nothing is expected of it");

        // What ends the silence, and what is missing then.
        send("quick", 1);
        send("slow", 5);
        send("slow", 6);
        wait_until("the gap shows and passes", || {
            told.of(Some("slow")) == [Gapped, Recovering, Well]
        });
        assert_eq!(told.of(Some("quick"))[..2], [Stale, Well]);
        wait_until("the line's silence shows", || {
            told.of(None).contains(&Stale)
        });
        send("slow", 7);
        wait_until("it ends", || {
            let changes = told.of(None);
            changes.windows(2).any(|two| two == [Stale, Well])
        });

        publisher.unbind(&endpoint).unwrap();
        drop(publisher);
        wait_until("the lost connection shows", || {
            told.of(None).last() == Some(&Disconnected)
        });
        stop.request();
        let outcome = finish(pipeline);
        assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
        assert_eq!(outcome.totals.lost(), 4, "numbers 1 to 4 of slow");
        assert!(outcome.totals.balanced());
    }
}
