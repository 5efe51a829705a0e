//! A workload of a few tasks, made of the statements of the store only, each with the pages that it may touch.

use tasker_wire::{ids::step_no, limits};
use uuid::Uuid;

use crate::cost::{Meter, Session};

/// Tasks of a batch; one step of each is completed with the batch.
const BATCH: usize = 50;
/// Milliseconds of a send lease, bodies, and bytes of inputs.
pub const DISPATCH: [&str; 3] = ["30000", "100", "1000000"];

/// Four steps: of each its parents, its children, and its further ancestors.
pub struct Shape([&'static str; 3]);

pub const DIAMOND: Shape = Shape([
    r#"'{"{}","{16384}","{16384}","{32768,49152}"}'"#,
    r#"'{"{32768,49152}","{65536}","{65536}","{}"}'"#,
    r#"'{"{}","{}","{}","{16384}"}'"#,
]);
pub const LINEAR: Shape = Shape([
    r#"'{"{}","{16384}","{32768}","{49152}"}'"#,
    r#"'{"{32768}","{49152}","{65536}","{}"}'"#,
    r#"'{"{}","{}","{16384}","{16384,32768}"}'"#,
]);

/// Everything that happens to tasks: a diamond step by step, a batch, an operator.
pub async fn run(session: &mut Session, meter: Meter) {
    let task = Uuid::now_v7();
    diamond(session, meter, task).await;
    read(session, meter, task).await;
    batch(session, meter).await;
    time(session, meter).await;
    operate(session, meter).await;
    pause(session, meter).await;
}

/// Lists and counts, by filter. Other filters are not bounded: a state that few tasks have, an initiator only, or a source only
/// needs a look at all tasks, and so does a count by template without statistics.
pub async fn list(session: &mut Session, situation: &'static str) {
    let (meter, counted) = (Meter::Running(situation), limits::COUNTED_ROWS.to_string());
    let pages = [
        ("everything", ["null", "null", "null"], 40),
        ("a namespace", ["'ns3'", "null", "null"], 400),
        ("a template", ["'ns3'", "'name3'", "null"], 150),
        ("what is complete", ["null", "null", "'{complete}'"], 400),
        ("what failed", ["null", "null", "'{error}'"], 600),
        // The planner may prefer to read all tasks of the template, a hundredth of all.
        ("a template and a state", ["'ns0'", "'name0'", "'{error}'"], 12_000),
        ("a template and a state of none", ["'ns0'", "'name0'", "'{running}'"], 12_000),
    ];
    for (what, [namespace, name, states], bound) in pages {
        session.run(meter, "list_tasks", what, &[namespace, name, states, "null", "null", "20", "0"], bound).await;
    }
    let last_page = ["null", "null", "null", "null", "null", "100", "99900"];
    session.run(meter, "list_tasks", "the last page of everything", &last_page, 6_000).await;
    // A count stops at a number of rows, so a scan ends long before the end of the table.
    for (what, states) in [("everything", "null"), ("what is complete", "'{complete}'")] {
        session.run(meter, "count_tasks", what, &["null", "null", states, "null", "null", &counted], 6_000).await;
        session.may_begin_a_scan();
    }
}

/// What an operator asks about entries, of which a twentieth of all tasks has one. Some look at a fixed number of them, or at all if
/// there are fewer.
pub async fn dead_letters(session: &mut Session, situation: &'static str) {
    let meter = Meter::Running(situation);
    let nobody = "'00000000-0000-0000-0000-000000000000'";
    let counted = limits::COUNTED_ROWS.to_string();
    let page = ["0", "50", "0", "4194304", &counted];
    for (what, [status, namespace, fingerprint], bound) in [
        ("everything", ["null", "null", "null"], 150),
        ("what is pending", ["'pending'", "null", "null"], 150),
        ("of a namespace", ["'pending'", "'ns0'", "null"], 150),
        ("of a cause", ["'pending'", "null", "'f40'"], 400),
        ("of a namespace without any", ["'pending'", "'ns1'", "null"], 6_000),
    ] {
        let filter = [status, "null", namespace, "null", "null", fingerprint];
        session.run(meter, "list_dlq_entries", what, &[&filter[..], &page[..]].concat(), bound).await;
        session.may_begin_a_scan();
    }
    session.run(meter, "get_dlq_entry", "of a task", &[&format!("'{}'", crate::finished_tasks::task(40)), "null"], 20).await;
    session.run(meter, "get_dlq_entry", "by its id", &["null", nobody], 20).await;
    session.run(meter, "dlq_stats", "everything", &[&counted], 6_000).await;
    session.may_begin_a_scan();
    session.run(meter, "dlq_causes", "of everything", &[&counted, "20"], 6_000).await;
    session.may_begin_a_scan();
    let looked = limits::MATCHED_ENTRIES.to_string();
    let queue = ["'{max_retries_exceeded}'", "'{500}'", "100", &looked];
    session.run(meter, "investigation_queue", "a hundred", &queue, 3_000).await;
    for (what, namespace, fingerprint) in
        [("of a namespace", "'ns0'", "null"), ("of none", "'ns1'", "null"), ("of a cause", "null", "'f40'")]
    {
        let filter = ["null", namespace, "null", "null", fingerprint, "null", "0"];
        let from = ["null", "'-infinity'", nobody, &looked, "100"];
        session.run(meter, "matching_dlq_entries", what, &[&filter[..], &from[..]].concat(), 3_000).await;
    }
}

/// Counts by template: they read as many pages as the template has tasks, if there are statistics.
pub async fn count(session: &mut Session, situation: &'static str) {
    let (meter, counted) = (Meter::Running(situation), limits::COUNTED_ROWS.to_string());
    for (what, states) in
        [("a template", "null"), ("a template and a state", "'{error}'"), ("a template and none", "'{running}'")]
    {
        session.run(meter, "count_tasks", what, &["'ns0'", "'name0'", states, "null", "null", &counted], 12_000).await;
    }
}

/// A diamond whose steps succeed one after the other.
pub async fn succeed(session: &mut Session, meter: Meter) {
    let task = Uuid::now_v7();
    submit(session, meter, &[task], "a task of four steps", 120).await;
    for position in 0..4 {
        complete(session, meter, &[(task, position, 1)], "complete", "of one", 100).await;
    }
}

async fn diamond(session: &mut Session, meter: Meter, task: Uuid) {
    submit(session, meter, &[task], "a task of four steps", 120).await;
    submit(session, meter, &[task], "the same again", 30).await;
    let key = keys(&[(task, 0, 1)]);
    let [tasks, nos, leases] = key.each_ref().map(String::as_str);
    session.run(meter, "load_run_steps", "one", &[tasks, nos, "1000000"], 30).await;
    session.run(meter, "mark_sent", "one", &[tasks, nos, leases, "'{60000}'"], 30).await;
    session.run(meter, "locked_steps", "one", &[tasks, nos], 60).await;
    session.may_scan_what_is_small();
    complete(session, meter, &[(task, 0, 1)], "started", "of one", 60).await;
    complete(session, meter, &[(task, 0, 1)], "retry", "of one", 60).await;
    session.run(meter, "dispatch", "one", &[tasks, nos, leases, DISPATCH[0], DISPATCH[1], DISPATCH[2]], 60).await;
    complete(session, meter, &[(task, 0, 1)], "complete", "under an old lease", 60).await;
    complete(session, meter, &[(task, 0, 2)], "complete", "of the first of a diamond", 100).await;
    complete(session, meter, &[(task, 0, 2)], "complete", "again", 60).await;
    complete(session, meter, &[(task, 1, 1), (task, 2, 1)], "complete", "of two parents of one", 100).await;
    complete(session, meter, &[(task, 3, 1)], "complete", "of the last", 100).await;
}

async fn read(session: &mut Session, meter: Meter, task: Uuid) {
    let one = format!("'{task}'");
    session.run(meter, "task_state", "one", &[&one], 10).await;
    session.run(meter, "get_tasks", "one", &[&format!("'{{{task}}}'"), "1000000"], 20).await;
    session.run(meter, "task_details", "one", &[&format!("'{{{task}}}'")], 50).await;
    session.run(meter, "explain", "one", &[&one, "1000"], 60).await;
    session.run(meter, "list_steps", "of a task", &[&one, "null", "1000000"], 50).await;
    session.run(meter, "list_steps", "one of a task", &[&one, &step_no(3).to_string(), "1000000"], 30).await;
    session.run(meter, "list_resolutions", "of a task", &[&one], 10).await;
    let listed = format!("'{{{task}}}'");
    session.run(meter, "lifecycle_facts", "of a finished task", &[&listed], 20).await;
    session.run(meter, "unsound", "of a finished task", &[&listed], 20).await;
}

/// A batch costs at most as much as its tasks and steps one by one.
async fn batch(session: &mut Session, meter: Meter) {
    let tasks: Vec<Uuid> = (0..BATCH).map(|_| Uuid::now_v7()).collect();
    let steps = |position, lease| tasks.iter().map(|&task| (task, position, lease)).collect::<Vec<_>>();
    let many = BATCH as u64;
    submit(session, meter, &tasks, "fifty tasks of four steps", 120 * many).await;
    let key = keys(&steps(0, 1));
    let [ids, nos, leases] = key.each_ref().map(String::as_str);
    session.run(meter, "load_run_steps", "fifty", &[ids, nos, "1000000"], 20 * many).await;
    let ms = format!("'{{{}}}'", vec!["60000"; BATCH].join(","));
    session.run(meter, "mark_sent", "fifty", &[ids, nos, leases, &ms], 20 * many).await;
    session.run(meter, "locked_steps", "fifty", &[ids, nos], 60 * many).await;
    session.may_scan_what_is_small();
    complete(session, meter, &steps(0, 1), "complete", "of fifty", 100 * many).await;
    let listed = format!("'{{{}}}'", tasks.iter().map(Uuid::to_string).collect::<Vec<_>>().join(","));
    session.run(meter, "get_tasks", "fifty", &[&listed, "1000000"], 20 * many).await;
    session.run(meter, "task_details", "fifty", &[&listed], 40 * many).await;
    session.run(meter, "lifecycle_facts", "of fifty", &[&listed], 60 * many).await;
    session.run(meter, "unsound", "of fifty", &[&listed], 80 * many).await;
    session.run(meter, "explain", "one that runs", &[&format!("'{}'", tasks[0]), "1000"], 100).await;
    // The other steps wait for a retry that is due immediately.
    for position in [1, 2] {
        complete(session, meter, &steps(position, 1), "retry", "of fifty", 60 * many).await;
    }
}

/// Two steps of each of the fifty tasks are due: a hundred.
async fn time(session: &mut Session, meter: Meter) {
    session.run(meter, "sweep", "a hundred due", &["500", "null", DISPATCH[1], DISPATCH[2]], 6_000).await;
    session.run(meter, "sweep", "nothing due", &["500", "null", DISPATCH[1], DISPATCH[2]], 60).await;
    session.run(meter, "list_unsent", "the first ten", &["'00000000-0000-0000-0000-000000000000'", "10", "100"], 150).await;
    session.may_scan_what_is_small();
    session.run(meter, "return_started", "of nothing", &["null", "null", "null"], 1_000).await;
    session.run(meter, "after_set_back", "of nothing", &["5000"], 1_000).await;
    session.run(meter, "blockers", "none", &[], 1_000).await;
    let nobody = "'00000000-0000-0000-0000-000000000000'";
    session.run(meter, "has_lifecycles", "of one", &[], 10).await;
    session.run(meter, "stale_by_wake", "the first hundred", &["'-infinity'", nobody, "0", "100", "true"], 1_500).await;
    session.run(meter, "stale_in_process", "the first hundred", &[nobody, "100", "true"], 1_500).await;
    session.may_scan_what_is_small();
    session.run(meter, "stale_walk", "a thousand", &["1000"], 3_000).await;
    session.run(meter, "close_dlq_entries", "none", &["500"], 60).await;
}

async fn operate(session: &mut Session, meter: Meter) {
    let task = Uuid::now_v7();
    submit(session, meter, &[task], "for an operator", 120).await;
    complete(session, meter, &[(task, 0, 1)], "error", "that fails its task", 120).await;
    let (one, no) = (format!("'{task}'"), step_no(0).to_string());
    for (verb, no, bound) in [("retry_step", no.as_str(), 200), ("resolve_step", &no, 200), ("cancel_task", "null", 150)] {
        let args = [&format!("'{verb}'"), &one, no, r#"'{"result": 1}'"#, "'me'", "'why'", "null", "false"];
        session.run(meter, "operate", verb, &[&args[..], &DISPATCH[..]].concat(), bound).await;
    }
}

/// Holds the roots of a batch of tasks, and lets them go.
async fn pause(session: &mut Session, meter: Meter) {
    let tasks: Vec<Uuid> = (0..BATCH).map(|_| Uuid::now_v7()).collect();
    let (scope, by, page) = (["'ns3'", "''"], ["'me'", "'why'"], ["'00000000-0000-0000-0000-000000000000'", "0", "1000"]);
    let many = BATCH as u64;
    session.run(meter, "pause", "a namespace", &[scope, by].concat(), 50).await;
    submit(session, meter, &tasks, "of fifty that are held", 100 * many).await;
    session.run(meter, "list_pauses", "of one", &["100"], 50).await;
    session.run(meter, "count_held", "of fifty", &[&scope[..], &page[..]].concat(), 20 * many).await;
    session.run(meter, "resume", "a namespace", &[scope, by].concat(), 50).await;
    session.run(meter, "release_held", "of fifty", &[&scope[..], &page[..]].concat(), 40 * many).await;
    session.run(meter, "sweep", "of fifty that were held", &["500", "null", DISPATCH[1], DISPATCH[2]], 80 * many).await;
    let step = [&format!("'{}'", tasks[0]), step_no(0).to_string().as_str()].map(str::to_owned);
    let both = format!("array[{}, {}]", step_no(0), step_no(1));
    session.run(meter, "step_risks", "of two", &[&step[0], &both, &step[1], "21"], 40).await;
    session.run(meter, "late_result", "of none", &[&step[0], &step[1], "1"], 30).await;
}

/// Submits diamonds.
async fn submit(session: &mut Session, meter: Meter, tasks: &[Uuid], what: &str, bound: u64) {
    submit_of(session, meter, (tasks, &DIAMOND, DISPATCH[0]), what, bound).await;
}

/// Submits tasks of a shape, as the store does; their ids are also their identities. The last of the three is the send lease.
pub async fn submit_of(
    session: &mut Session,
    meter: Meter,
    (tasks, shape, send_ms): (&[Uuid], &Shape, &str),
    what: &str,
    bound: u64,
) {
    let each = |text: &str| format!("'{{{}}}'", vec![text; tasks.len()].join(","));
    let identity = |task: &Uuid| format!("sha256('{task}'::bytea)");
    let template = ["00000000-0000-0000-0000-000000000000", "ns3", "name3", "1.0.0", "test", "1", "4"];
    let steps = ["'{16384,32768,49152,65536}'", "'{a,b,c,d}'", "'{3,3,3,3}'", shape.0[0], shape.0[1], shape.0[2], send_ms];
    let (file, params) = if let [task] = tasks {
        let id = format!("'{task}'");
        let of_task = [id.clone(), identity(task)].into_iter();
        let of_request = ["'{}'", "1", "'{}'", "'me'", "'here'", "'why'", &id, "null", "null"].map(str::to_owned);
        ("submit_one", of_task.chain(of_request).chain(template.map(|value| format!("'{value}'"))).collect::<Vec<_>>())
    } else {
        let ids = keys(&tasks.iter().map(|&task| (task, 0, 0)).collect::<Vec<_>>())[0].clone();
        let identities = format!("array[{}]", tasks.iter().map(identity).collect::<Vec<_>>().join(","));
        let of_request = ["\"{}\"", "1", "\"{}\"", "me", "here", "why"].map(each);
        let correlation = [ids.clone(), each("null"), each("null"), "'{0}'".into()];
        let of_template = template.map(|value| format!("'{{{value}}}'")).into_iter().chain(["'{0,0,0,0}'".into()]);
        let of_task = [ids, each("0"), identities].into_iter();
        ("submit", of_task.chain(of_request).chain(correlation).chain(of_template).collect())
    };
    let params: Vec<&str> = params.iter().map(String::as_str).chain(steps).collect();
    session.run(meter, file, what, &params, bound).await;
}

/// Applies one verdict to each of these steps. A retry is due immediately.
async fn complete(session: &mut Session, meter: Meter, steps: &[(Uuid, usize, i32)], verdict: &str, what: &str, bound: u64) {
    complete_with(session, meter, (steps, verdict, DISPATCH[0]), what, bound).await;
}

/// Applies one verdict to each of these steps, as the store does. The last of the three is the send lease.
pub async fn complete_with(
    session: &mut Session,
    meter: Meter,
    (steps, verdict, send_ms): (&[(Uuid, usize, i32)], &str, &str),
    what: &str,
    bound: u64,
) {
    let each = |text: &str| format!("'{{{}}}'", vec![text; steps.len()].join(","));
    let [tasks, nos, leases] = keys(steps);
    let delay = if verdict == "started" { each("60000") } else { each("0") };
    let error = if matches!(verdict, "retry" | "error") { each(r#""{\"message\": \"no\"}""#) } else { each("null") };
    let (file, columns) = match (steps, verdict) {
        ([(task, position, lease)], "complete") => {
            let step = [format!("'{task}'"), step_no(*position).to_string(), lease.to_string()].into_iter();
            ("complete_one", step.chain(["1", "'1'", "null", "1", "'worker'", "1"].map(str::to_owned)).collect::<Vec<_>>())
        }
        (_, "complete") => {
            let outcome = ["1", "1", "null", "1", "worker", "1"].map(each);
            ("complete_many", [tasks, nos, leases].into_iter().chain(outcome).collect())
        }
        _ => {
            let before = [tasks, nos, leases, each("1"), each(verdict), delay, each("1"), error].into_iter();
            ("complete", before.chain(["null", "1", "worker", "1", "false"].map(each)).collect())
        }
    };
    let params: Vec<&str> = columns.iter().map(String::as_str).chain([send_ms, DISPATCH[1], DISPATCH[2]]).collect();
    session.run(meter, file, &format!("{verdict} {what}"), &params, bound).await;
}

/// Tasks, numbers and leases as array literals; a step is given by its position.
fn keys(steps: &[(Uuid, usize, i32)]) -> [String; 3] {
    let literal = |texts: Vec<String>| format!("'{{{}}}'", texts.join(","));
    [
        literal(steps.iter().map(|s| s.0.to_string()).collect()),
        literal(steps.iter().map(|s| step_no(s.1).to_string()).collect()),
        literal(steps.iter().map(|s| s.2.to_string()).collect()),
    ]
}
