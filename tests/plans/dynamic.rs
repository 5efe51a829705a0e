//! What it costs to make many steps, to let them go on, and to repeat them: rows, pages and log in proportion to the steps that are touched, in
//! a number of statements that does not depend on it.

use std::{sync::Arc, time::Instant};

use serde_json::{Value, json, value::RawValue};
use tasker_domain::{
    Decided, Expansion,
    dynamic::Redo,
    request::parse_task_request,
    template::{Workflow, parse},
};
use tasker_engine::Engine;
use tasker_queue::InProcess;
use tasker_store::Planned;
use tasker_test_support::Database;
use tasker_wire::{Outcome, ids::step_no};

use crate::cost::{Cost, Meter, Session};

/// Steps that are made: a few, with which the plans are made, and two numbers of which the second is ten times the first. A template may
/// declare hardly more.
const FEW: usize = 3;
const SIZES: [usize; 2] = [999, 9_990];
/// The most that ten times the steps may cost, with room for whole pages that the log takes up. Were it a square, it would be a hundred times.
const TEN_TIMES: f64 = 16.0;
/// The same of what touches only some of them, whatever their number.
const AS_MUCH: f64 = 2.0;
/// Workers that end together.
const ENDED: usize = 3;
/// Pages below which a ratio says nothing.
const PAGES: u64 = 200;

/// A template, and the success of its decider, that make so many steps.
struct Case {
    name: String,
    template: Value,
    decider: &'static str,
    outcome: Outcome,
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

fn cases(steps: usize) -> Vec<Case> {
    let case = |what: &str, decider, template_steps: Vec<Value>, decision: Option<Value>, batches: Option<Value>| {
        let name = format!("{what}{steps}");
        let template = json!({"name": name, "version": "1.0.0", "identity_strategy": "always_unique", "steps": template_steps});
        let [decision, batches] = [decision, batches].map(|said| said.as_ref().map(raw));
        Case { name, template, decider, outcome: Outcome::Success { result: raw(&json!(1)), metadata: None, decision, batches } }
    };
    let step = |name: &str, more: Value| {
        let mut step = json!({"name": name, "handler": {"callable": "x"}});
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step
    };
    let batch = |config: Value| {
        vec![
            step("split", json!({"type": "batchable", "batch_config": config})),
            step("work", json!({"type": "batch_worker", "dependencies": ["split"]})),
            step("join", json!({"type": "deferred_convergence", "dependencies": ["work"]})),
        ]
    };
    let cursors: Vec<Value> = (0..steps).map(|n| json!({"batch_id": n.to_string(), "start": n, "end": n + 1})).collect();
    let cursors = json!({ "cursors": cursors });
    let names: Vec<String> = (0..steps).map(|n| format!("s{n}")).collect();
    let mut chosen = vec![step("start", json!({})), step("route", json!({"type": "decision", "dependencies": ["start"]}))];
    chosen.extend(names.iter().map(|name| step(name, json!({"dependencies": ["route"]}))));
    chosen.push(step("join", json!({"type": "deferred_convergence", "dependencies": names})));
    vec![
        case("batch", "split", batch(json!({"worker_template": "work"})), None, Some(cursors.clone())),
        case("places", "split", batch(json!({"worker_template": "work", "parallelism": 10})), None, Some(cursors)),
        case("decision", "route", chosen, Some(json!({ "create": names })), None),
    ]
}

/// A task that waits for its decider.
struct Undecided {
    workflow: Workflow,
    decider: usize,
    expansion: Expansion,
    task: String,
    no: String,
}

impl Undecided {
    async fn submit(engine: &Arc<Engine<InProcess>>, case: &Case) -> Self {
        let text = case.template.to_string();
        engine.register_template(&text).await.unwrap_or_else(|e| panic!("{e}"));
        let workflow = parse(&text).unwrap().0.workflow("test").unwrap();
        let decider = workflow.steps.iter().position(|step| step.name == case.decider).unwrap();
        let expansion = workflow.expansion(decider, &case.outcome).unwrap();
        let request = parse_task_request(json!({"name": case.name}).to_string().as_bytes()).unwrap();
        let task = engine.submit(request, None).await.unwrap().task;
        let run = tasker_test_support::receive(engine, 1).await.remove(0);
        if run.step_name != case.decider {
            engine.complete(vec![run.complete(Outcome::success(raw(&json!(1)), None), "w", 1)]).await.unwrap();
            tasker_test_support::receive(engine, 1).await;
        }
        Self { workflow, decider, expansion, task: format!("'{task}'"), no: step_no(decider).to_string() }
    }

    fn growth(&self) -> String {
        let growth = self.workflow.growth(&Decided::new(), self.decider, &self.expansion.created);
        let (workflow, decider, expansion) = (&self.workflow, self.decider, &self.expansion);
        Planned { workflow, decider, expansion, growth: &growth, others: &[], seen: &[] }.text()
    }

    /// The plan of a repetition of the decider.
    fn redo(&self) -> Value {
        let decided = Decided::from([(self.decider, self.expansion.created.clone())]);
        let Redo { reset, deleted, parents } = self.workflow.redo(&decided, step_no(self.decider));
        let no = step_no(self.decider);
        let touched = [&reset[..], &deleted[..]].concat();
        let parents: Vec<Value> = parents.iter().map(|(no, parents)| json!({"no": no, "parents": parents})).collect();
        json!({"others": [no], "seen": [[no, 1]], "touched": touched, "reset": reset, "deleted": deleted, "parents": parents})
    }

    async fn run(&self, session: &mut Session, meter: Meter) {
        let dispatch = ["null", "200", "1000000"];
        let growth = format!("$g${}$g$", self.growth());
        let success = [&self.task, &self.no, "1", "1", "'1'", "null", "1", "'w'", "1", &growth];
        session.run(meter, "expand", "makes them", &[&success[..], &dispatch[..]].concat(), u64::MAX).await;
        if let Some(batch) = &self.workflow.steps[self.decider].batch {
            let each = |text: &str| format!("'{{{}}}'", [text; ENDED].join(","));
            let nos: Vec<String> = (1..=ENDED as i32).map(|worker| (step_no(batch.pattern) + worker).to_string()).collect();
            let key = [each(self.task.trim_matches('\'')), format!("'{{{}}}'", nos.join(",")), each("1"), each("1")];
            let verdict = ["complete", "0", "1", "null", "null", "1", "w", "1", "false"].map(each);
            let params: Vec<&str> = key.iter().chain(&verdict).map(String::as_str).chain(dispatch).collect();
            session.run(meter, "complete", SOME, &params, u64::MAX).await;
        }
        for (verb, no, plan) in [
            ("cancel_task", "null", Value::Null),
            ("reopen_task", "null", Value::Null),
            ("redo_step", self.no.as_str(), self.redo()),
        ] {
            let args = format!("'{}'", json!({ "plan": plan }));
            let action = [&format!("'{verb}'"), self.task.as_str(), no, &args, "'me'", "'why'", "null", "false"];
            session.run(meter, "operate", verb, &[&action[..], &dispatch[..]].concat(), u64::MAX).await;
        }
    }
}

const SOME: &str = "some of them end";

/// What costs too much, in sentences.
pub async fn faults(db: &Database, session: &mut Session, situation: &'static str) -> Vec<String> {
    let engine = tasker_test_support::engine(&db.url, InProcess::default());
    let mut faults = Vec::new();
    // The first run makes the query plans, and reads the catalogs for that.
    for case in cases(FEW) {
        Undecided::submit(&engine, &case).await.run(session, Meter::Idle).await;
    }
    let [small, large] = SIZES.map(cases);
    for (small, large) in small.iter().zip(&large) {
        let mut measured = Vec::new();
        for case in [small, large] {
            session.costs.clear();
            let begun = Instant::now();
            Undecided::submit(&engine, case).await.run(session, Meter::Running(situation)).await;
            println!("{}, {situation}: {:.0?}", case.name, begun.elapsed());
            measured.push(std::mem::take(&mut session.costs));
        }
        for (small_cost, large_cost) in measured[0].iter().zip(&measured[1]) {
            let of = format!("{} ({situation})", large.name);
            faults.extend(compare(small_cost, large_cost).into_iter().map(|fault| format!("{of}: {fault}")));
        }
    }
    faults
}

fn compare(small: &Cost, large: &Cost) -> Vec<String> {
    let ratio = |count: fn(&Cost) -> u64| count(large) as f64 / count(small).max(1) as f64;
    let (pages, log, rows) = (ratio(|c| c.pages), ratio(|c| c.log_bytes), ratio(|c| c.rows));
    println!(
        "  {:<28} {:>7} {:>8} pages ({pages:.1} times), {:>9} {:>9} bytes of log ({log:.1} times), {} rows ({rows:.1} times), {} statements, {:>5.0} {:>6.0} ms",
        large.statement, small.pages, large.pages, small.log_bytes, large.log_bytes, large.rows, large.inner, small.ms, large.ms
    );
    let most = if large.statement.contains(SOME) { AS_MUCH } else { TEN_TIMES };
    let mut faults = Vec::new();
    if large.pages > PAGES && pages > most {
        faults.push(format!("{} touches {pages:.1} times the pages, at most {most} are allowed", large.statement));
    }
    if large.pages > PAGES && rows > most {
        faults.push(format!("{} looks at {rows:.1} times the rows, at most {most} are allowed", large.statement));
    }
    // A checkpoint of the server may come at any time: then whole pages are logged.
    if large.full_pages + small.full_pages == 0 && large.pages > PAGES && log > most {
        faults.push(format!("{} writes {log:.1} times the log, at most {most} are allowed", large.statement));
    }
    if small.inner != large.inner {
        faults.push(format!("{} runs {} and {} statements", large.statement, small.inner, large.inner));
    }
    faults.extend(large.scans());
    faults
}
