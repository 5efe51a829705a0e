//! The command line of the orchestrator: a client of its REST interface and its queues. `dev` runs the server (`tasker-server`).

mod action;
mod client;
mod db;
mod deployment;
mod dev;
mod dlq;
mod doctor;
mod error;
mod input;
mod output;
mod pauses;
mod postgres;
mod queues;
mod step;
mod task;
mod template;

use std::process::ExitCode;

use clap::{Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use reqwest::Url;
use tasker_process::{LAST_WORDS, as_init, flush, settings, styles_are_refused};

use crate::{client::Client, output::Format};

/// Submit, watch and repair workflows.
///
/// Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 5 conflict, 6 timeout, 7 the awaited task failed.
#[derive(Debug, Parser)]
#[command(name = "tasker-ctl", version, propagate_version = false)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Debug, Args)]
struct Global {
    /// How to print results: table or json. For commands that call the server, json is its response
    #[arg(short, long, global = true, value_enum, hide_possible_values = true, default_value_t = Format::Table)]
    output: Format,
    /// The same as --output json
    #[arg(long, global = true, conflicts_with = "output")]
    json: bool,
    /// The server's address [env: TASKER_URL] [default: http://127.0.0.1:8080]
    #[arg(long, global = true, value_parser = client::parse_url)]
    url: Option<Url>,
}

impl Global {
    fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }

    fn client(&self) -> error::Result<Client> {
        let url = match &self.url {
            None => settings::read("TASKER_URL", client::parse_url)?,
            given => given.clone(),
        };
        Client::new(url.unwrap_or_else(|| Url::parse("http://127.0.0.1:8080").expect("the default is a URL")))
    }
}

#[derive(Debug, Subcommand)]
enum CtlCommand {
    /// Run the whole system in this process
    Dev(dev::DevArgs),
    /// Submit, show, wait for and operate tasks
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Retry, redo, resolve or skip a step
    #[command(subcommand)]
    Step(step::StepCommand),
    /// Hold the steps of a namespace or template, until it is resumed
    Pause(pauses::PauseArgs),
    /// End a pause: what it held goes on
    Resume(pauses::PauseArgs),
    /// List the paused namespaces and templates
    Pauses,
    /// Check, register and show workflow templates
    #[command(subcommand)]
    Template(template::TemplateCommand),
    /// Compare the server's counters with the rows they count
    Doctor,
    /// List, show and recover tasks that wait for an operator; list, show, redrive and delete the dead letters of a deployment on SQS
    ///
    /// About tasks the commands ask the server. About messages they ask SQS. AWS's standard variables configure the client (AWS_REGION, AWS_PROFILE or AWS_ACCESS_KEY_ID, …); AWS_ENDPOINT_URL selects another endpoint.
    Dlq(Box<dlq::DlqArgs>),
    /// Show what is in the queues of a deployment on SQS
    ///
    /// The counts are those of SQS, which may lag by a minute. Only dead letters have an age: SQS reports the age of the oldest message only
    /// to CloudWatch (ApproximateAgeOfOldestMessage), and receiving a message from a working queue would use up one of its receives.
    #[command(after_help = dlq::JSON)]
    Queues(deployment::DeploymentArgs),
    /// Bring a database to this version's schema
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Run a private PostgreSQL, for tests and scripts
    #[command(subcommand)]
    Postgres(postgres::PostgresCommand),
}

fn main() -> ExitCode {
    settings::forget_empty();
    let cli = parse();
    match cli.command {
        // In a container, handlers leave orphans.
        CtlCommand::Dev(_) => as_init().map_or_else(|| run_to_exit(cli), ExitCode::from),
        _ => run_to_exit(cli),
    }
}

/// The arguments. Help and errors are coloured by the rule of all other output: clap's own takes the variable `CI` for a terminal with colours.
fn parse() -> Cli {
    let color = if styles_are_refused() { ColorChoice::Never } else { ColorChoice::Auto };
    let matches = Cli::command().color(color).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

#[tokio::main]
async fn run_to_exit(cli: Cli) -> ExitCode {
    let ended = run(cli).await;
    flush(LAST_WORDS);
    let Err(failure) = ended else { return ExitCode::SUCCESS };
    output::report(&failure);
    failure.exit.code().into()
}

async fn run(Cli { global, command }: Cli) -> error::Result {
    let (client, output) = (|| global.client(), global.format());
    match command {
        CtlCommand::Dev(args) => dev::run(args).await,
        CtlCommand::Task(command) => task::run(&command, &client()?, output).await,
        CtlCommand::Step(command) => step::run(&command, &client()?, output).await,
        CtlCommand::Pause(args) => pauses::pause(&args, &client()?, output).await,
        CtlCommand::Resume(args) => pauses::resume(&args, &client()?, output).await,
        CtlCommand::Pauses => pauses::list(&client()?, output).await,
        CtlCommand::Template(command) => template::run(&command, &client()?, output).await,
        CtlCommand::Doctor => doctor::run(&client()?, output).await,
        CtlCommand::Dlq(args) => dlq::run(&args, client, output).await,
        CtlCommand::Queues(args) => queues::run(&args, output).await,
        CtlCommand::Db(command) => db::run(&command, output).await,
        CtlCommand::Postgres(command) => postgres::run(command).await,
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_options_of_taskers_own_create_are_accepted() {
        let line = [
            "tasker-ctl",
            "task",
            "create",
            "-n",
            "shop",
            "--name",
            "order",
            "-v",
            "1.0.0",
            "-i",
            r#"{"a":1}"#,
            "-d",
            "text",
            "-p",
            "5",
        ];
        Cli::try_parse_from(line).unwrap();
    }

    #[test]
    fn a_wait_takes_its_seconds_only_after_an_equals_sign() {
        for line in [&["--wait"][..], &["--wait=60"], &["--wait", "-o", "json"]] {
            let line = ["tasker-ctl", "task", "create", "--name", "order"].iter().chain(line);
            Cli::try_parse_from(line).unwrap();
        }
    }

    #[test]
    fn invalid_arguments_are_usage_errors() {
        for line in [
            "task get not-an-id",
            "task list --limit 101",
            "task list --page 0",
            "task create",
            "step retry 01990000-0000-7000-8000-000000000000 a",
            "task cancel 01990000-0000-7000-8000-000000000000",
            "step skip 01990000-0000-7000-8000-000000000000 a --reason x --dry-run --seen y",
            "step resolve 01990000-0000-7000-8000-000000000000 a --reason x --result 1 --result-of-lease 1",
            "pause shop",
            "task list --json --output table",
            "--url localhost:8080 doctor",
            "--url ftp://h doctor",
            "dev --worker python",
        ] {
            let error = Cli::try_parse_from(["tasker-ctl"].into_iter().chain(line.split(' '))).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
