//! Templates: YAML files from anybody.

use tasker_domain::{Fault, template};

use super::places;

/// Parsing is a function of the text. What is accepted has a plan, and reads its own definition back as itself.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = template::parse(text);
    assert_eq!(parsed, template::parse(text), "the parser changed its mind");
    match parsed {
        Ok((template, _)) => {
            let definition = serde_json::to_string(&template).expect("a template can be written");
            let (again, _) = template::parse(&definition).unwrap_or_else(|faults| panic!("{definition} is refused: {faults}"));
            assert_eq!(template, again, "a definition is read as itself");
            assert_eq!(template.sha256(), again.sha256(), "the same template has the same sum");
            for environment in template.environments.keys().map(String::as_str).chain(["test"]) {
                template.workflow(environment).unwrap_or_else(|faults| panic!("no plan for {environment}: {faults}"));
            }
        }
        Err(faults) => {
            assert!(!faults.0.is_empty(), "refused without a fault");
            // Only JSON says here what the pointers lead into: YAML that is read by another parser may be another document.
            if let Ok(value) = serde_json::from_str(text) {
                places::resolve(&faults.0, &value, "meta-schema");
            }
            faults.0.iter().for_each(printable);
        }
    }
}

fn printable(fault: &Fault) {
    assert!(!fault.place.chars().any(char::is_control), "{:?} would move a terminal's cursor", fault.place);
}
