//! Measures the whole system as its clients see it, beside the floor of this machine and other engines; `scripts/bench` starts it.

mod adapter;
mod database;
mod distance;
mod engine;
mod floor;
mod http;
mod measure;
mod pairs;
mod past;
mod process;
mod report;
mod sections;
mod shape;
mod tables;
mod tasker;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use database::Server;
use report::Report;
use sections::Bench;

/// What to measure.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench", bin_name = "scripts/bench")]
struct Arguments {
    /// Only these sections
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Section>,
    /// Fewer and shorter runs: to try something out, not to publish
    #[arg(long)]
    quick: bool,
    /// Where everything that was measured is written to as JSON
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// A page whose tables are replaced by those of this run, which must be complete
    #[arg(long, conflicts_with_all = ["only", "quick"])]
    markdown: Option<PathBuf>,
    /// The adapter of another engine (see tests/bench/src/adapter.rs). May be repeated
    #[arg(long, value_name = "COMMAND")]
    peer: Vec<String>,
    /// The folder of the programs of an earlier build: it and this one are measured in turn, and nothing else is
    #[arg(long, value_name = "DIR", conflicts_with_all = ["only", "quick", "markdown"])]
    against: Option<PathBuf>,
    /// How often both builds are measured, with --against
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=100))]
    pairs: u16,
    /// Minutes of load of the section `long`
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1440))]
    minutes: u16,
    /// The folder of the programs that are measured
    #[arg(long, hide = true, default_value = "target/release")]
    bin: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// One workflow at a time, Rust handlers; what a step costs
    Latency,
    /// An increasing number of callers, then overload by eight times the best number
    Load,
    /// Submits without waiting; the widest task
    Batch,
    /// The same with Python handlers
    Python,
    /// Beside finished and waiting workflows
    Past,
    /// A database that is further away
    Distance,
    /// Sizes of programs, and how fast they start
    Start,
    /// Other engines
    Peers,
    /// Minutes of load: what tables and indexes grow to. Runs only when it is named
    Long,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let bin = arguments.bin.canonicalize().context("the programs are not built; run scripts/bench")?;
    let server = Server::find().await?;
    let mut report = Report::default();
    conditions(&server, &mut report).await?;
    if let Some(before) = arguments.against {
        let before = before.canonicalize().with_context(|| format!("{} is no folder of programs", before.display()))?;
        report.detail("pairs", pairs::compare(&server, &before, &bin, arguments.pairs.into()).await?)?;
        return report.write_json(&arguments.json);
    }
    println!("== the floor of this machine");
    let floor = floor::measure(&server).await?;
    let mut bench =
        Bench { bin, server, floor, report, quick: arguments.quick, shape_seconds: if arguments.quick { 2 } else { 5 } };
    bench.floor()?;
    for section in Section::value_variants() {
        let is_meant = if arguments.only.is_empty() { *section != Section::Long } else { arguments.only.contains(section) };
        if !is_meant {
            continue;
        }
        match section {
            Section::Latency => bench.latency().await?,
            Section::Load => bench.load().await?,
            Section::Batch => bench.batch().await?,
            Section::Python => bench.python().await?,
            Section::Past => bench.past().await?,
            Section::Distance => bench.distance().await?,
            Section::Start => bench.start().await?,
            Section::Long => bench.long(arguments.minutes.into()).await?,
            Section::Peers => {
                for peer in &arguments.peer {
                    let command: Vec<String> = peer.split_whitespace().map(str::to_owned).collect();
                    bench.peer(&command).await?;
                }
            }
        }
    }
    let report = bench.report;
    println!();
    report.print();
    report.write_json(&arguments.json)?;
    if let Some(page) = arguments.markdown {
        report.write_into(&page)?;
    }
    Ok(())
}

async fn conditions(server: &Server, report: &mut Report) -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        model.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("unknown").trim_start_matches([' ', '\t', ':']);
    report.condition("machine", format!("{cores} cores of {model}; callers, workers, engine and PostgreSQL share them"));
    let mut settings = Vec::new();
    for name in ["fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size"] {
        settings.push(format!("{name} {}", server.setting(name).await?));
    }
    report.condition("PostgreSQL", format!("{}, {}", server.version, settings.join(", ")));
    let before = (std::time::Instant::now(), process::cpu_of_all());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let busy = (process::cpu_of_all().saturating_sub(before.1)).as_secs_f64() / before.0.elapsed().as_secs_f64();
    report.condition("other load before", format!("{busy:.2} cores"));
    Ok(())
}
