//! What was found: a table for the terminal, JSON for programs, and the table of `docs/performance.md`.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;
use serde_json::{Map, Value};

const BEGIN: &str = "<!-- what scripts/bench found: begin -->";
const END: &str = "<!-- what scripts/bench found: end -->";

#[derive(Default, Serialize)]
pub struct Report {
    /// The machine, the server, the version, and what else ran.
    pub conditions: Vec<(String, String)>,
    pub figures: Vec<Figure>,
    /// Every measurement, whole.
    pub details: Map<String, Value>,
}

#[derive(Debug, Serialize)]
pub struct Figure {
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
    /// The figure as a multiple of the machine's floor; for throughput, as a fraction of it.
    pub floors: Option<f64>,
    pub target: Option<Target>,
}

/// What a figure should be; and what would be better still.
#[derive(Debug, Clone, Copy, Serialize)]
pub enum Target {
    AtMost(f64, Option<f64>),
    AtLeast(f64, Option<f64>),
}

impl Target {
    fn shown(self) -> String {
        let (sign, target, stretch) = match self {
            Self::AtMost(target, stretch) => ("≤", target, stretch),
            Self::AtLeast(target, stretch) => ("≥", target, stretch),
        };
        let stretch = stretch.map(|s| format!(" ({sign} {})", number(s))).unwrap_or_default();
        format!("{sign} {}{stretch}", number(target))
    }

    fn verdict(self, value: f64) -> &'static str {
        let (met, stretched) = match self {
            Self::AtMost(target, stretch) => (value <= target, stretch.is_some_and(|s| value <= s)),
            Self::AtLeast(target, stretch) => (value >= target, stretch.is_some_and(|s| value >= s)),
        };
        match (met, stretched) {
            (_, true) => "met, and the stretch",
            (true, false) => "met",
            (false, false) => "MISSED",
        }
    }
}

impl Report {
    pub fn condition(&mut self, what: &str, is: impl Into<String>) {
        self.conditions.push((what.to_owned(), is.into()));
    }

    pub fn figure(&mut self, what: impl Into<String>, value: f64, unit: &'static str) -> &mut Figure {
        let figure = Figure { what: what.into(), value, unit, floors: None, target: None };
        println!("  {}: {} {unit}", figure.what, number(value));
        self.figures.push(figure);
        self.figures.last_mut().expect("it was just pushed")
    }

    pub fn detail(&mut self, name: impl Into<String>, value: impl Serialize) -> Result<()> {
        self.details.insert(name.into(), serde_json::to_value(value)?);
        Ok(())
    }

    pub fn print(&self) {
        for (what, is) in &self.conditions {
            println!("{what}: {is}");
        }
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["figure", "value", "floors", "target (stretch)", ""]);
        for figure in &self.figures {
            table.add_row(figure.cells());
        }
        println!("{table}");
        let missed = self.figures.iter().filter(|f| f.verdict() == "MISSED").count();
        let aimed = self.figures.iter().filter(|f| f.target.is_some()).count();
        println!("{} of {aimed} targets met", aimed - missed);
    }

    pub fn write_json(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_string_pretty(self)?).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Puts the tables between the two marks of a page.
    pub fn write_into(&self, path: &Path) -> Result<()> {
        let page = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{} has no line `{BEGIN}`", path.display()))?;
        let (_, after) = rest.split_once(END).with_context(|| format!("{} has no line `{END}`", path.display()))?;
        let mut tables = String::from("\n\n");
        for (what, is) in &self.conditions {
            writeln!(tables, "- {what}: {is}")?;
        }
        tables.push_str("\n| figure | value | floors | target (stretch) | |\n|---|---|---|---|---|\n");
        for figure in &self.figures {
            writeln!(tables, "| {} |", figure.cells().join(" | "))?;
        }
        fs::write(path, format!("{before}{BEGIN}{tables}\n{END}{after}"))?;
        Ok(())
    }
}

impl Figure {
    pub fn at_most(&mut self, target: f64, stretch: impl Into<Option<f64>>) -> &mut Self {
        self.target = Some(Target::AtMost(target, stretch.into()));
        self
    }

    pub fn at_least(&mut self, target: f64, stretch: impl Into<Option<f64>>) -> &mut Self {
        self.target = Some(Target::AtLeast(target, stretch.into()));
        self
    }

    pub fn floors(&mut self, floors: f64) -> &mut Self {
        self.floors = Some(floors);
        self
    }

    fn verdict(&self) -> &'static str {
        self.target.map(|t| t.verdict(self.value)).unwrap_or_default()
    }

    fn cells(&self) -> [String; 5] {
        [
            self.what.clone(),
            format!("{} {}", number(self.value), self.unit).trim().to_owned(),
            self.floors.map(|f| format!("{f:.1}")).unwrap_or_default(),
            self.target.map(Target::shown).unwrap_or_default(),
            self.verdict().to_owned(),
        ]
    }
}

/// Formats a number with its significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if v < 0.1 => format!("{value:.3}"),
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_or_missed_and_the_page_says_so() {
        let folder = tempfile::tempdir().expect("there is room");
        let page = folder.path().join("page.md");
        fs::write(&page, format!("above\n{BEGIN}\nold\n{END}\nbelow\n")).expect("it can be written");
        let mut report = Report::default();
        report.figure("latency", 5.0, "ms").at_most(6.0, 4.0).floors(2.5);
        report.figure("steps", 2_000.0, "/s").at_least(2_500.0, 10_000.0);
        report.write_into(&page).expect("it has the marks");
        let text = fs::read_to_string(&page).expect("it is there");
        assert!(text.contains("| latency | 5.00 ms | 2.5 | ≤ 6.00 (≤ 4.00) | met |"), "{text}");
        assert!(text.contains("| steps | 2000 /s |  | ≥ 2500 (≥ 10000) | MISSED |"), "{text}");
        assert!(text.starts_with("above\n") && text.ends_with("\nbelow\n") && !text.contains("old"), "{text}");
    }
}
