//! Times, durations and lists, as sentences have them.

use jiff::Timestamp;
use tasker_wire::limits;

/// A time ahead, such as `in 41 s (14:33:02 UTC)`; one that has passed is `now`.
pub(super) fn ahead(time: Timestamp, now: Timestamp) -> String {
    if time <= now {
        return format!("now (due since {})", clock(time, now));
    }
    format!("in {} ({})", span(time, now), clock(time, now))
}

/// A time that has passed, such as `since 14:33:02 UTC (26 min)`.
pub(super) fn since(time: Timestamp, now: Timestamp) -> String {
    format!("since {} ({})", clock(time, now), span(now, time))
}

/// The time of day, with the date if that is another one than now.
pub(super) fn clock(time: Timestamp, now: Timestamp) -> String {
    let is_today = time.strftime("%F").to_string() == now.strftime("%F").to_string();
    time.strftime(if is_today { "%T UTC" } else { "%F %T UTC" }).to_string()
}

/// The time between two moments, in its two largest units.
pub(super) fn span(to: Timestamp, from: Timestamp) -> String {
    // A part of a second counts as one: what is ahead is never said to be sooner than it is.
    let seconds = (to.duration_since(from).as_millis().max(0) as u64).div_ceil(1000);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

fn two(large: u64, unit: &str, small: u64, smaller: &str) -> String {
    if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {smaller}") }
}

/// The first names of a list.
pub(super) fn listed(names: &[String], all: i64) -> String {
    let shown = &names[..names.len().min(limits::LISTED_NAMES)];
    match all - shown.len() as i64 {
        ..=0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

pub(super) fn counted(count: i64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_durations_and_as_moments() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = time("2026-11-28T14:32:21Z");
        assert_eq!(ahead(time("2026-11-28T14:33:02Z"), now), "in 41 s (14:33:02 UTC)");
        assert_eq!(ahead(time("2026-11-28T14:32:21.001Z"), now), "in 1 s (14:32:21 UTC)");
        assert_eq!(ahead(now, now), "now (due since 14:32:21 UTC)");
        assert_eq!(ahead(time("2026-11-29T00:32:21Z"), now), "in 10 h (2026-11-29 00:32:21 UTC)");
        assert_eq!(since(time("2026-11-28T14:05:31Z"), now), "since 14:05:31 UTC (26 min 50 s)");
        assert_eq!(since(time("2026-11-25T13:05:31Z"), now), "since 2026-11-25 13:05:31 UTC (3 d 1 h)");
    }

    #[test]
    fn a_list_of_many_names_ends_with_their_number() {
        let names: Vec<String> = (0..12).map(|n| format!("s{n}")).collect();
        assert_eq!(listed(&names[..2], 2), "s0, s1");
        assert_eq!(listed(&names, 300), "s0, s1, s2, s3, s4, s5, s6, s7, s8, s9 and 290 more");
    }
}
