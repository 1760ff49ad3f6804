//! Lists of cores as the kernel and people write them: `0-3,8`, and the kernel's masks, `ff,00000000`.

use std::fmt;

/// The most entries that a list may have: as many cores as the kernel can be built for.
pub const CORES_MAX: usize = 8_192;

/// Reads a list such as `2,3,4-7`, in the order it has.
///
/// # Errors
/// [`BadCoreList`] where it is none, an empty one included.
pub fn parse(list: &str) -> Result<Vec<usize>, BadCoreList> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| BadCoreList);
        let (first, last) = (number(first)?, number(last)?);
        if first > last || cores.len() + usize::from(last - first) >= CORES_MAX {
            return Err(BadCoreList);
        }
        cores.extend((first..=last).map(usize::from));
    }
    Ok(cores)
}

/// Reads a list of the kernel's, which may be empty; what it returns is sorted.
///
/// # Errors
/// As [`parse`].
pub fn parse_kernel(list: &str) -> Result<Vec<usize>, BadCoreList> {
    // What `isolated` and `nohz_full` hold where there is nothing in them depends on the kernel.
    if matches!(list.trim(), "" | "(null)") {
        return Ok(Vec::new());
    }
    let mut cores = parse(list)?;
    cores.sort_unstable();
    cores.dedup();
    Ok(cores)
}

/// Reads a mask of the kernel's: hexadecimal words of 32 cores, the highest first.
///
/// # Errors
/// [`BadCoreList`] where it is none.
pub fn parse_mask(mask: &str) -> Result<Vec<usize>, BadCoreList> {
    let mut cores = Vec::new();
    for (index, word) in mask.trim().rsplit(',').enumerate() {
        let bits = u32::from_str_radix(word, 16).map_err(|_| BadCoreList)?;
        if index * 32 >= CORES_MAX {
            return Err(BadCoreList);
        }
        let set = (0..32).filter(|bit| bits >> bit & 1 == 1);
        cores.extend(set.map(|bit| index * 32 + bit));
    }
    Ok(cores)
}

/// Writes ascending cores as a list, `none` where there is none.
#[must_use]
pub fn show(cores: &[usize]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let runs = cores.chunk_by(|one, next| one + 1 == *next);
    for run in runs {
        match run {
            [only] => parts.push(only.to_string()),
            [first, .., last] => parts.push(format!("{first}-{last}")),
            [] => {}
        }
    }
    if parts.is_empty() {
        return "none".to_owned();
    }
    parts.join(",")
}

/// The text was not a list of cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCoreList;

impl std::error::Error for BadCoreList {}

impl fmt::Display for BadCoreList {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("not a list of cores; write numbers and ranges like 2,3,4-7")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_keep_their_order_and_the_kernels_are_sorted() {
        assert_eq!(parse("7,2, 4-5"), Ok(vec![7, 2, 4, 5]));
        assert_eq!(parse_kernel("4-5,2,4\n"), Ok(vec![2, 4, 5]));
        assert_eq!(parse_kernel("\n"), Ok(vec![]));
        assert_eq!(parse_mask("00000001,80000003"), Ok(vec![0, 1, 31, 32]));
        let endless = "0-8191,".repeat(2) + "0";
        for bad in [
            "",
            "-",
            "3-1",
            "1,",
            "a",
            "70000",
            "0-8192",
            "0-4294967295",
            &endless,
        ] {
            assert_eq!(parse(bad), Err(BadCoreList), "{bad}");
        }
        for bad in ["", "g", "1,,1", "100000000"] {
            assert_eq!(parse_mask(bad), Err(BadCoreList), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(cores in prop::collection::btree_set(0_usize..300, 1..100)) {
            let cores: Vec<usize> = cores.into_iter().collect();
            prop_assert_eq!(parse(&show(&cores)), Ok(cores));
        }

        #[test]
        fn no_text_is_too_odd(text in ".*") {
            let _ = (parse(&text), parse_kernel(&text), parse_mask(&text));
        }
    }
}
