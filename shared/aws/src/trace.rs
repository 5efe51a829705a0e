//! The header of AWS's services for a trace, to and from W3C's `traceparent`.

use tasker_wire::message::trace_id;

/// The header of AWS's services for the trace of a `traceparent`.
pub fn trace_header(traceparent: &str) -> Option<String> {
    let trace = trace_id(traceparent)?;
    let mut parts = traceparent.split('-').skip(2);
    let (span, flags) = (parts.next()?, parts.next()?);
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1;
    Some(format!("Root=1-{}-{};Parent={span};Sampled={sampled}", trace.get(..8)?, trace.get(8..)?))
}

/// The `traceparent` of a header such as `Root=1-…;Parent=…;Sampled=1`. A trace without a parent starts here, with a span id from the
/// trace id.
pub fn traceparent_of(header: &str) -> Option<String> {
    let field = |name: &str| header.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let mut root = field("Root")?.split('-');
    let (Some("1"), Some(time), Some(rest)) = (root.next(), root.next(), root.next()) else { return None };
    let trace = format!("{time}{rest}").to_ascii_lowercase();
    let is_id = |text: &str, digits: usize| {
        text.len() == digits && text.chars().all(|c| c.is_ascii_hexdigit()) && text.chars().any(|c| c != '0')
    };
    if !is_id(&trace, 32) {
        return None;
    }
    let parent = field("Parent").map(str::to_ascii_lowercase).filter(|p| is_id(p, 16));
    let parent = parent.or_else(|| trace.get(16..).filter(|p| is_id(p, 16)).map(str::to_owned))?;
    let sampled = if field("Sampled") == Some("1") { "01" } else { "00" };
    Some(format!("00-{trace}-{parent}-{sampled}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_the_same_in_both_forms() {
        let w3c = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let aws = trace_header(w3c).unwrap();
        assert_eq!(aws, "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1");
        assert_eq!(traceparent_of(&aws).as_deref(), Some(w3c));
        assert_eq!(trace_id(w3c), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    }

    #[test]
    fn a_trace_without_a_parent_starts_here_and_a_malformed_header_is_ignored() {
        let begun = traceparent_of("Root=1-4bf92f35-77b34da6a3ce929d0e0e4736").unwrap();
        assert_eq!(begun, "00-4bf92f3577b34da6a3ce929d0e0e4736-a3ce929d0e0e4736-00");
        for text in ["", "Root=2-a-b", "Root=1-x-y", "Root=1-00000000-000000000000000000000000"] {
            assert_eq!(traceparent_of(text), None, "{text}");
        }
        for text in ["", "00-short-x-01", "00-4bf92f3577b34da6a3ce929d0e0e4736"] {
            assert_eq!(trace_header(text), None, "{text}");
        }
    }
}
