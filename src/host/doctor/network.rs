//! Rules for network cards and what packets go through behind them.

use super::{
    Case,
    check::{Finding, Judged, few},
    probed::judged_nics,
};
use crate::host::cpulist::show;

/// What `tuning/90-pinfeed.conf` lets TCP grow its buffers to, in bytes.
const TCP_BUFFER_BYTES: u64 = 67_108_864;
/// What it sets the backlog to, in packets.
const BACKLOG_PACKETS: u64 = 10_000;
/// How long polling a card for a packet pays, in microseconds.
const BUSY_POLL_US: u64 = 50;

const NO_LANE_TIED: &str = "no lane is tied to a card";

pub(super) fn present(case: &Case) -> Finding {
    let names: Vec<String> = case
        .machine
        .nics
        .iter()
        .map(|nic| nic.name.clone())
        .collect();
    let judged = case.wanted.nics.iter().map(|wanted| {
        let Some(nic) = case.machine.nic(&wanted.nic) else {
            let there = names.join(", ");
            return Ok((format!("{} is not there, but {there}", wanted.nic), false));
        };
        let state = nic.state.as_deref().map_err(ToString::to_string)?;
        // Some virtual ones never say more than `unknown`.
        Ok((
            format!("{} {state}", nic.name),
            matches!(state, "up" | "unknown"),
        ))
    });
    Finding::each("there and up", NO_LANE_TIED, judged)
}

pub(super) fn locality(case: &Case) -> Finding {
    let required = "a lane's core on the node of its card";
    if !case.wanted.is_configured {
        let devices = case.machine.nics.iter().filter(|nic| nic.has_device);
        let near: Vec<String> = devices
            .map(|nic| match (nic.node, &nic.local_cores) {
                (Some(node), Ok(cores)) => format!("{}: node {node}, {}", nic.name, show(cores)),
                _ => format!("{}: any core", nic.name),
            })
            .collect();
        let why = format!("depends on the lanes; {}", few(&near));
        return Finding::unavailable(required, why.trim_end_matches("; "));
    }
    let judged = case.wanted.nics.iter().map(|wanted| -> Judged {
        let nic = case.machine.nic(&wanted.nic);
        let Some(node) = nic
            .ok_or_else(|| format!("{}: not there", wanted.nic))?
            .node
        else {
            return Ok((format!("{} is near all cores", wanted.nic), true));
        };
        let far = wanted.cores.iter().copied().filter(|core| {
            case.machine
                .core(*core)
                .and_then(|core| core.node)
                .is_some_and(|own| own != node)
        });
        let far: Vec<usize> = far.collect();
        let (nic, lane) = (&wanted.nic, &wanted.lane);
        Ok(if far.is_empty() {
            (format!("{nic} and lane {lane} on node {node}"), true)
        } else {
            (
                format!(
                    "{nic} is on node {node}, lane {lane} on core {}",
                    show(&far)
                ),
                false,
            )
        })
    });
    Finding::each(required, NO_LANE_TIED, judged)
}

pub(super) fn coalescing(case: &Case) -> Finding {
    let required =
        "adaptive-rx off, rx-usecs 0, rx-frames 1 or 0 (higher costs latency and saves CPU time)";
    let judged = judged_nics(case.machine, case.wanted)
        .into_iter()
        .map(|nic| -> Judged {
            let told = case.probed.coalescing.get(&nic);
            let told = told.ok_or_else(|| format!("ethtool -c {nic}: not asked"))?;
            let told = told.as_ref().map_err(|reason| format!("{nic}: {reason}"))?;
            let adaptive = told.adaptive_rx.unwrap_or(false);
            let rx_us = told.rx_us.unwrap_or(0);
            let switch = if adaptive { "on" } else { "off" };
            let mut shown = format!("{nic} adaptive-rx {switch}, rx-usecs {rx_us}");
            if let Some(rx_frames) = told.rx_frames {
                shown += &format!(", rx-frames {rx_frames}");
            }
            let tells_each = told.rx_frames.is_none_or(|frames| frames <= 1);
            Ok((shown, !adaptive && rx_us == 0 && tells_each))
        });
    Finding::each(required, "there is no card", judged)
}

pub(super) fn busy_poll(case: &Case) -> Finding {
    let required = format!("busy_poll and busy_read {BUSY_POLL_US}, or receive.busy_poll_us");
    let own_us = case.wanted.busy_poll_us;
    if own_us > 0 {
        return Finding::new(required, format!("receive.busy_poll_us {own_us}"), true);
    }
    let settings = &case.machine.settings;
    match (&settings.busy_poll_us, &settings.busy_read_us) {
        (Ok(poll_us), Ok(read_us)) => Finding::new(
            required,
            format!("{poll_us} and {read_us}"),
            *poll_us.min(read_us) >= BUSY_POLL_US,
        ),
        (Err(unavailable), _) | (_, Err(unavailable)) => {
            Finding::unavailable(required, unavailable)
        }
    }
}

pub(super) fn receive_buffer(case: &Case) -> Finding {
    let wanted = case.wanted.buffer_bytes;
    let rmem_max = &case.machine.settings.rmem_bytes_max;
    if wanted == 0 {
        return Finding::new("receive.buffer_bytes", "none is asked for", true);
    }
    let required = format!("at least receive.buffer_bytes, {wanted}");
    Finding::number(required, rmem_max, |bytes| *bytes >= wanted)
}

pub(super) fn tcp_buffer(case: &Case) -> Finding {
    let required = format!("at least {TCP_BUFFER_BYTES}");
    if case.wanted.buffer_bytes > 0 {
        return Finding::new(required, "receive.buffer_bytes goes before", true);
    }
    let bytes = &case.machine.settings.tcp_rmem_bytes_max;
    Finding::number(required, bytes, |bytes| *bytes >= TCP_BUFFER_BYTES)
}

pub(super) fn backlog(case: &Case) -> Finding {
    let required = format!("at least {BACKLOG_PACKETS}");
    let packets = &case.machine.settings.netdev_backlog_max;
    Finding::number(required, packets, |packets| *packets >= BACKLOG_PACKETS)
}

pub(super) fn drops(case: &Case) -> Finding {
    let required = "no growth of softnet_stat, rx_dropped, rx_missed_errors";
    case.measured(required, |measured| {
        let grown = measured.drops.iter();
        let grown = grown.map(|drops| Ok((format!("{} +{}", drops.counter, drops.count), false)));
        Finding::each(required, "none grew", grown)
    })
}
