//! Goal: what numbers tell to be lost is counted and judged by `--max-loss` whatever feeds without numbers come beside
//! it, and the summary names those.

mod support;

use std::fs;

use support::{Pinfeed, bound_xpub, number, sealed};

const NUMBERED: [u64; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 18, 19];

#[test]
fn a_feed_without_numbers_hides_no_loss() {
    for (max_loss, code) in [("4", 3), ("5", 0)] {
        let context = zmq::Context::new();
        let [prices, ticks] = [(); 2].map(|()| bound_xpub(&context));
        let file = tempfile::NamedTempFile::new().expect("a file");
        let feed = |name: &str, envelope: &str, endpoint: &str| {
            format!(
                "[[feed]]\nname = \"{name}\"\nenvelope = \"{envelope}\"\n[[feed.line]]\nlane = \"0\"\nconnect = \
                 [\"{endpoint}\"]\n"
            )
        };
        let text = [
            "[[lane]]\nname = \"0\"\n".to_owned(),
            feed("prices", "pinfeed", &prices.1),
            feed("ticks", "raw", &ticks.1),
        ];
        fs::write(file.path(), text.concat()).expect("a file");
        let path = file.path().to_str().expect("UTF-8");
        let mut run = Pinfeed::start(&[
            "run",
            path,
            "--json",
            "--messages",
            "16",
            "--max-loss",
            max_loss,
        ]);
        for (publisher, _) in [&prices, &ticks] {
            publisher.recv_bytes(0).expect("a subscription");
        }
        for sequence in NUMBERED {
            prices.0.send(sealed("BTC", 1, sequence), 0).expect("sent");
        }
        ticks.0.send("BTC 1", 0).expect("sent");
        let summary = run.json(code);
        assert_eq!(number(&summary, "received"), 16, "{summary}");
        assert_eq!(number(&summary, "lost"), 5, "{summary}");
        assert_eq!(summary["unnumbered"], serde_json::json!(["ticks"]));
        for text in [
            "warning: --max-loss sees no loss of ticks",
            "5   1 gap, nobody knows of ticks",
        ] {
            assert!(run.said.contains(text), "{text} in:\n{}", run.said);
        }
    }
}
