//! Goal: `tuning/irq-affinity` moves all of a card's interrupts or none, a dry run changes nothing, and `undo` restores
//! every byte. On a made tree of /sys and /proc.

mod support;

use std::fs;

use support::tuned_host::{Host, REFUSES, UNWRITABLE, affinity, assert_explains_itself};

#[test]
fn interrupts_move_to_the_given_cores_and_back() {
    let host = Host::new();
    let before = host.all();
    let plan = host.done(
        "irq-affinity",
        &["--dry-run", "0-1", "eth1", "eth2", "eth3"],
    );
    let wanted = [
        "interrupt 40 of eth1: 0-3 -> 0",
        "interrupt 41 of eth1: 2 -> 1",
        "interrupt 42 of eth1: 0,3 -> 0",
        "interrupt 50 of eth2: 1-2 -> 1",
        "interrupt 60 of eth3: 3 -> 0",
    ];
    assert_eq!(plan.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(host.all(), before, "a dry run changes nothing");

    host.done("irq-affinity", &["0-1", "eth1", "eth2", "eth3"]);
    for (interrupt, core) in [(40, 0), (41, 1), (42, 0), (50, 1), (60, 0)] {
        assert_eq!(host.read(&affinity(interrupt)), format!("{core}\n"));
    }
    let again = host.done("irq-affinity", &["0-1", "eth1", "eth2", "eth3"]);
    assert!(again.starts_with("nothing to change"), "{again}");
    // What was there first is what counts, not what another move found.
    host.done("irq-affinity", &["3", "eth1"]);
    assert_eq!(host.read(&affinity(40)), "3\n");

    let moved = host.all();
    let plan = host.done("irq-affinity", &["undo", "--dry-run"]);
    assert!(plan.contains("interrupt 40: 3 -> 0-3\n"), "{plan}");
    assert_eq!(host.all(), moved, "a dry run changes nothing");
    host.done("irq-affinity", &["undo"]);
    assert_eq!(host.all(), before);
}

#[test]
fn all_interrupts_move_or_none() {
    let host = Host::new();
    host.lead(&affinity(42), REFUSES);
    host.refused("irq-affinity", &["3", "eth1"], 1, "interrupt 42 of eth1");
    // Also where some were moved before, which can still be undone.
    let before = host.all();
    host.done("irq-affinity", &["3", "eth2"]);
    host.refused("irq-affinity", &["3", "eth1"], 1, "interrupt 42 of eth1");
    host.done("irq-affinity", &["undo"]);
    assert_eq!(host.all(), before);

    host.lead(&affinity(42), UNWRITABLE);
    host.refused("irq-affinity", &["3", "eth1"], 1, "be root");
}

#[test]
fn an_interrupt_that_is_of_another_card_by_now_is_left_alone() {
    let host = Host::new();
    host.done("irq-affinity", &["3", "eth1", "eth2", "eth3"]);
    let vector = |card, irq| format!("sys/class/net/{card}/device/msi_irqs/{irq}");
    fs::remove_file(host.path(&vector("eth1", 42))).unwrap();
    host.put(&vector("eth4", 42), "msix\n");
    // And a card that is gone altogether.
    host.put("proc/interrupts", "      CPU0  CPU1  CPU2  CPU3\n");
    let output = host.command("irq-affinity", &["undo"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("interrupt 42, which went to cores 0,3, is not of eth1"));
    assert!(said.contains("interrupt 50, which went to cores 1-2, is not of eth2"));
    for (interrupt, cores) in [(40, "0-3"), (41, "2"), (42, "3"), (50, "3"), (60, "3")] {
        assert_eq!(host.read(&affinity(interrupt)), format!("{cores}\n"));
    }
}

#[test]
fn bad_input_is_one_error_and_no_change() {
    let host = Host::new();
    for (arguments, text) in [
        (&["0", "eth9"][..], "no network card eth9"),
        (&["0", "eth1", "eth9"], "no network card eth9"),
        (&["0", "../net/eth1"], "no name of a network card"),
        (&["4", "eth1"], "core 4 is not online"),
        (&["2-5", "eth1"], "core 4 is not online"),
        (&["3-2", "eth1"], "no list of cores"),
        (&["0,,1", "eth1"], "no list of cores"),
        (&["0-99999999", "eth1"], "no list of cores"),
        (&["", "eth1"], "no list of cores"),
        (&["0"], "give the cards"),
        (&["0", "lo"], "no interrupts"),
        (&["--fast", "0", "eth1"], "no option --fast"),
        (&["undo"], "nothing to undo"),
    ] {
        host.refused("irq-affinity", arguments, 2, text);
    }
}

#[test]
fn where_nothing_can_be_saved_nothing_is_changed() {
    let host = Host::new();
    host.refused_unsaved("irq-affinity", &["3", "eth1"]);
}

#[test]
fn what_was_saved_before_a_restart_is_not_put_back() {
    let host = Host::new();
    host.done("irq-affinity", &["3", "eth1"]);
    host.put("proc/sys/kernel/random/boot_id", "b\n");
    host.put(&affinity(40), "0-1\n");
    host.refused("irq-affinity", &["undo"], 2, "nothing to undo");
    let before = host.read(&affinity(40));
    host.done("irq-affinity", &["2", "eth1"]);
    host.done("irq-affinity", &["undo"]);
    assert_eq!(host.read(&affinity(40)), before);
}

#[test]
fn who_moves_interrupts_back_is_named() {
    let host = Host::new();
    host.put("sys/devices/system/cpu/isolated", "3\n");
    let said = |core| {
        let output = host.command("irq-affinity", &[core, "eth1"]).output();
        String::from_utf8(output.unwrap().stderr).unwrap()
    };
    assert_eq!(said("0"), "");
    assert!(said("3").contains("core 3 is isolated"));
    host.put("proc/777/comm", "irqbalance\n");
    assert!(said("0").contains("IRQBALANCE_BANNED_CPULIST"));
}

#[test]
fn it_explains_itself() {
    assert_explains_itself("irq-affinity");
}
