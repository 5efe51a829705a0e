//! The workflows that are measured.

use std::fmt::Write;

use clap::ValueEnum;

/// A graph of steps that all do the same: read what they are given, and answer about 110 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Shape {
    /// Four steps in a row.
    Linear4,
    /// One, two, one.
    Diamond,
    /// One, fifty, one.
    Fan50,
    /// Seven steps: a fork whose branches join twice.
    Complex7,
    /// One, 9,998, one: as wide as a declared workflow may be.
    Fan9998,
    /// A batch of 10,000 workers with ten places: as wide as a batch may be. The steps of it are the declared ones.
    Batch10000,
}

impl Shape {
    /// Those that are measured one at a time.
    pub const LATENCY: [Self; 4] = [Self::Linear4, Self::Diamond, Self::Fan50, Self::Complex7];

    pub fn name(self) -> &'static str {
        match self {
            Self::Linear4 => "linear4",
            Self::Diamond => "diamond",
            Self::Fan50 => "fan50",
            Self::Complex7 => "complex7",
            Self::Fan9998 => "fan9998",
            Self::Batch10000 => "batch10000",
        }
    }

    /// Steps by name, each with the names of its parents, which come before it.
    pub fn steps(self) -> Vec<(String, Vec<String>)> {
        let steps = |steps: &[(&str, &[&str])]| {
            steps.iter().map(|(name, parents)| (name.to_string(), parents.iter().map(ToString::to_string).collect())).collect()
        };
        match self {
            Self::Linear4 => steps(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["c"])]),
            Self::Diamond => steps(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])]),
            Self::Complex7 => steps(&[
                ("init", &[]),
                ("left", &["init"]),
                ("right", &["init"]),
                ("validate", &["left", "right"]),
                ("transform", &["left"]),
                ("analyze", &["right"]),
                ("finalize", &["validate", "transform", "analyze"]),
            ]),
            Self::Fan50 => fan(50),
            Self::Fan9998 => fan(9_998),
            Self::Batch10000 => steps(&[("split", &[]), ("part", &["split"]), ("last", &["part"])]),
        }
    }

    /// What a step has beside its name, parents and handler.
    fn further(self, step: &str) -> &'static str {
        match (self, step) {
            (Self::Batch10000, "split") => ", type: batchable",
            (Self::Batch10000, "part") => ", type: batch_worker, batch_config: {worker_template: part, parallelism: 10}",
            _ => "",
        }
    }

    /// A template of it for a pool of workers; its namespace is the pool's name.
    pub fn template(self, pool: &str) -> String {
        let name = self.name();
        let mut yaml =
            format!("name: {name}\nnamespace_name: {pool}\nversion: 1.0.0\nidentity_strategy: always_unique\nsteps:\n");
        for (step, parents) in self.steps() {
            let (parents, further) = (parents.join(", "), self.further(&step));
            let handler = if further.contains("batchable") { "split" } else { "work" };
            writeln!(yaml, "  - {{name: {step}, dependencies: [{parents}], handler: {{callable: {handler}}}{further}}}")
                .expect("a string takes everything");
        }
        yaml
    }
}

fn fan(width: usize) -> Vec<(String, Vec<String>)> {
    let middle: Vec<String> = (0..width).map(|n| format!("m{n}")).collect();
    let mut steps = vec![("first".to_owned(), Vec::new())];
    steps.extend(middle.iter().map(|name| (name.clone(), vec!["first".to_owned()])));
    steps.push(("last".to_owned(), middle));
    steps
}
