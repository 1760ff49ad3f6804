//! Rules for what this process may do, and for the program itself.

use super::{Case, check::Finding};

/// The first kernel that ties sockets to cards for everybody.
const TIES_FOR_ALL: [u64; 2] = [5, 7];
/// The oldest libzmq that will do.
const LIBZMQ_MIN: [i32; 3] = [4, 3, 5];

pub(super) fn open_files(case: &Case) -> Finding {
    let wanted = case.wanted.open_files;
    let required = if case.wanted.is_configured {
        format!("at least {wanted}")
    } else {
        "as many as a configuration takes".to_owned()
    };
    let limit = &case.machine.process.open_files_max;
    Finding::number(required, limit, |limit| limit.allows(wanted))
}

pub(super) fn tie_to_card(case: &Case) -> Finding {
    let required = "CAP_NET_RAW, or Linux 5.7 or newer";
    if case.wanted.nics.is_empty() {
        return Finding::new(required, "no lane is tied to a card", true);
    }
    let release = &case.machine.settings.release;
    let mut numbers = release.iter().flat_map(|release| release.split(['.', '-']));
    let mut number = || numbers.next()?.parse::<u64>().ok();
    let version = number().zip(number());
    if let (Some((major, minor)), Ok(release)) = (version, release)
        && [major, minor] >= TIES_FOR_ALL
    {
        return Finding::new(required, format!("Linux {release}"), true);
    }
    Finding::of(required, &case.machine.process.may_net_raw, |may| {
        let shown = if *may { "CAP_NET_RAW" } else { "neither" };
        (shown.to_owned(), *may)
    })
}

pub(super) fn realtime_rights(case: &Case) -> Finding {
    let process = &case.machine.process;
    let facts = (
        &process.realtime_priority_max,
        &process.locked_memory_bytes_max,
    );
    let (fifo, lock_memory) = (case.wanted.fifo, case.wanted.lock_memory);
    let mut rights = Vec::new();
    if fifo > 0 {
        rights.push(format!("RTPRIO {fifo} or CAP_SYS_NICE"));
    }
    if lock_memory {
        rights.push("MEMLOCK unlimited or CAP_IPC_LOCK".to_owned());
    }
    let required = if rights.is_empty() {
        "none: pinfeed asks for no real-time priority and locks no memory".to_owned()
    } else {
        rights.join(", ")
    };
    match (facts, &process.may_sys_nice) {
        ((Ok(priority), Ok(bytes)), Ok(nice)) => {
            let has = |right: bool| if right { "with" } else { "without" };
            let mut shown = format!(
                "RTPRIO {priority}, MEMLOCK {bytes}, {} CAP_SYS_NICE",
                has(*nice)
            );
            let may_lock = process.may_ipc_lock.as_ref().is_ok_and(|may| *may);
            if lock_memory {
                shown += &format!(", {} CAP_IPC_LOCK", has(may_lock));
            }
            let holds = (fifo == 0 || *nice || priority.allows(u64::from(fifo)))
                && (!lock_memory || may_lock || bytes.0.is_none());
            Finding::new(required, shown, holds)
        }
        ((Err(unavailable), _) | (_, Err(unavailable)), _) | (_, Err(unavailable)) => {
            Finding::unavailable(required, unavailable)
        }
    }
}

pub(super) fn quota(case: &Case) -> Finding {
    let busy = case.wanted.threads.len();
    if !case.wanted.is_configured {
        let unknown = "depends on the threads of a configuration".to_owned();
        return Finding::unavailable("none, or more cores than busy threads", unknown);
    }
    let required = format!("none, or more cores than busy threads, {busy}");
    let group = case.machine.process.control_group.as_ref();
    match group
        .map_err(ToString::to_string)
        .map(|group| &group.quota_cores)
    {
        Ok(Ok(None)) => Finding::new(required, "none", true),
        Ok(Ok(Some(cores))) => {
            Finding::new(required, format!("{cores} cores"), *cores > busy as f64)
        }
        Ok(Err(unavailable)) => Finding::unavailable(required, unavailable),
        Err(reason) => Finding::unavailable(required, reason),
    }
}

pub(super) fn libzmq(case: &Case) -> Finding {
    let shown = |[major, minor, patch]: [i32; 3]| format!("{major}.{minor}.{patch}");
    let version = case.probed.libzmq_version;
    let required = format!("{} or newer", shown(LIBZMQ_MIN));
    Finding::new(required, shown(version), version >= LIBZMQ_MIN)
}

pub(super) fn curve(case: &Case) -> Finding {
    let has = case.probed.libzmq_has_curve;
    Finding::new(
        "built in",
        if has { "built in" } else { "not built in" },
        has,
    )
}

pub(super) fn hiccups(case: &Case) -> Finding {
    let required = "no thread that spins is held up for more than 1 ms";
    case.measured(required, |measured| {
        let hiccups = measured.hiccups.iter();
        Finding::by_core(
            required,
            hiccups.map(|core| match core.over_1_ms {
                0 => (core.core, Ok(("none".to_owned(), true))),
                over => (core.core, Ok((format!("{over} of {}", core.count), false))),
            }),
        )
    })
}
