//! The Guide's rules, and what was added to them, one transition at a time.

use super::*;

const OLD: Freshness = Freshness {
    epoch: 1,
    sequence: 9,
};
const NEW: Freshness = Freshness {
    epoch: 2,
    sequence: 3,
};

fn star(side: Side) -> Star {
    Star::new(side, false, 1, 0)
}

fn passive() -> Star {
    let mut star = star(Side::Backup);
    assert_eq!(
        star.on_peer(Role::Active, OLD, OLD, 0),
        Ok(Some(Change::BecamePassive))
    );
    star
}

fn active(side: Side) -> Star {
    let mut star = star(side);
    assert_eq!(
        star.on_peer(Role::Passive, OLD, NEW, 0),
        Ok(Some(Change::BecameActive))
    );
    star
}

#[test]
fn of_two_that_start_the_newer_one_is_active_or_the_primary() {
    for (own, peer, primary_wins) in [(OLD, OLD, true), (NEW, OLD, true), (OLD, NEW, false)] {
        let change = |wins| {
            Ok(if wins {
                Some(Change::BecameActive)
            } else {
                None
            })
        };
        let mut primary = star(Side::Primary);
        assert_eq!(
            primary.on_peer(Role::Backup, peer, own, 0),
            change(primary_wins)
        );
        let mut backup = star(Side::Backup);
        assert_eq!(
            backup.on_peer(Role::Primary, own, peer, 0),
            change(!primary_wins)
        );
    }
}

#[test]
fn one_that_starts_follows_an_active_peer() {
    for side in [Side::Primary, Side::Backup] {
        let mut star = star(side);
        assert_eq!(
            star.on_peer(Role::Active, OLD, NEW, 0),
            Ok(Some(Change::BecamePassive))
        );
    }
}

#[test]
fn a_passive_one_takes_over_from_a_peer_that_starts_unless_that_is_newer() {
    assert_eq!(
        passive().on_peer(Role::Primary, OLD, OLD, 0),
        Ok(Some(Change::BecameActive))
    );
    assert_eq!(passive().on_peer(Role::Primary, NEW, OLD, 0), Ok(None));
}

#[test]
fn a_request_makes_a_passive_one_active_only_when_its_peer_is_silent() {
    let mut star = passive();
    assert_eq!(star.on_request(true, PEER_EXPIRY_NS - 1), (false, None));
    assert_eq!(
        star.on_request(false, PEER_EXPIRY_NS),
        (false, None),
        "it lacks something"
    );
    assert_eq!(
        star.on_request(true, PEER_EXPIRY_NS),
        (true, Some(Change::BecameActive))
    );
    assert_eq!(star.on_request(true, PEER_EXPIRY_NS), (true, None));
}

#[test]
fn a_primary_alone_waits_for_its_peer_first_and_a_backup_alone_for_ever() {
    let mut primary = star(Side::Primary);
    assert_eq!(primary.on_request(false, PEER_EXPIRY_NS - 1), (false, None));
    assert_eq!(
        primary.on_request(false, PEER_EXPIRY_NS),
        (true, Some(Change::BecameActive))
    );
    assert_eq!(
        star(Side::Backup).on_request(true, 100 * PEER_EXPIRY_NS),
        (false, None)
    );
}

#[test]
fn of_two_active_ones_the_earlier_one_or_the_backup_ends() {
    assert_eq!(
        active(Side::Primary).on_peer(Role::Active, NEW, OLD, 0),
        Err(Fatal::BothActive)
    );
    assert_eq!(
        active(Side::Primary).on_peer(Role::Active, OLD, NEW, 0),
        Ok(None)
    );
    assert_eq!(
        active(Side::Primary).on_peer(Role::Active, NEW, NEW, 0),
        Ok(None)
    );
    assert_eq!(
        active(Side::Backup).on_peer(Role::Active, NEW, NEW, 0),
        Err(Fatal::BothActive)
    );
}

#[test]
fn two_that_follow_or_are_the_same_side_end() {
    assert_eq!(
        passive().on_peer(Role::Passive, OLD, OLD, 0),
        Err(Fatal::BothPassive)
    );
    assert_eq!(
        star(Side::Backup).on_peer(Role::Backup, OLD, OLD, 0),
        Err(Fatal::SameSide)
    );
}

#[test]
fn an_active_one_that_was_stopped_starts_over_in_a_new_round() {
    let mut star = active(Side::Backup);
    star.on_sent(5);
    assert_eq!(star.on_time(5 + PEER_EXPIRY_NS - 1), None);
    let (round, _) = star.rounds();
    assert_eq!(star.on_time(5 + PEER_EXPIRY_NS), Some(Change::StartedOver));
    assert_eq!(star.role(), Role::Backup);
    assert_eq!(
        star.on_rounds(7, round),
        (false, true),
        "said before the stop"
    );
    assert_eq!(star.on_rounds(7, round + 1), (true, false));
    // It has served, so it knows what it misses: clients may have it back.
    let later_ns = 5 + 2 * PEER_EXPIRY_NS;
    assert_eq!(
        star.on_request(true, later_ns),
        (true, Some(Change::BecameActive))
    );
}
