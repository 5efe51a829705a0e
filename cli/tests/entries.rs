//! `dlq` about tasks: exit codes and words, against a server that answers what each test says.

#![allow(clippy::unwrap_used)]

mod answering;

use answering::{Server, code, err, out};
use serde_json::{Value, json};

const TASK: &str = "01990000-0000-7000-8000-000000000000";
const ENTRY: &str = "01990000-0000-4000-8000-000000000005";
/// Everything before a filter of a recovery.
const RECOVER: [&str; 4] = ["dlq", "recover", "--reason", "the bank is back"];

fn entry() -> Value {
    json!({"dlq_entry_uuid": ENTRY, "task_uuid": TASK, "original_state": "running", "dlq_reason": "MaxRetriesExceeded",
        "dlq_timestamp": "2026-01-02T03:04:05.678901", "resolution_status": "Pending", "task_snapshot": {"steps": {"error": 1}},
        "created_at": "2026-01-02T03:04:05.678901", "updated_at": "2026-01-02T03:04:05.678901", "namespace": "shop",
        "template": "order", "step": "charge", "reason_detail": "timeout\u{1b}[2J", "fingerprint": "3f1b0c9e77aa"})
}

fn item(outcome: &str, why: Option<&str>) -> Value {
    json!({"dlq_entry_uuid": ENTRY, "task_uuid": TASK, "namespace": "shop", "template": "order", "step": "charge",
        "dlq_reason": "max_retries_exceeded", "reason_detail": "timeout", "fingerprint": "3f1b0c9e77aa", "outcome": outcome,
        "why": why, "steps": 2, "changed": [
            {"step_uuid": TASK, "name": "charge", "from_state": "error", "to_state": "enqueued"},
            {"step_uuid": TASK, "name": "ship", "from_state": "cancelled", "to_state": "pending"}]})
}

fn page(items: &[Value], next: Option<&str>) -> (u16, Value) {
    (200, json!({"applied": true, "items": items, "seen": "5ee4", "next": next}))
}

fn not_found() -> (u16, Value) {
    (404, json!({"error": {"code": "NOT_FOUND", "message": "there is no such DLQ entry"}}))
}

#[tokio::test]
async fn without_a_deployment_a_list_is_about_tasks_and_hostile_text_stays_in_its_row() {
    let server = Server::answering_once_each([(200, json!([entry()]))]).await;
    let listed = server.run(&["dlq", "list", "--namespace", "shop", "--older-than", "2m"]).await;
    assert_eq!(code(&listed), 0, "{}", err(&listed));
    let shown = out(&listed);
    assert!(shown.contains(ENTRY) && shown.contains("shop/order") && shown.ends_with("1 entry about tasks\n"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    let asked = &server.requests()[0].0;
    assert!(asked.starts_with("GET /v1/dlq?resolution_status=pending&namespace=shop&older_than_seconds=120&"), "{asked}");
}

#[tokio::test]
async fn with_a_deployment_it_is_about_messages_unless_tasks_are_meant() {
    let server = Server::answering_once_each([(200, json!([]))]).await;
    let queues = ("TASKER_QUEUES", "http://127.0.0.1:1/000000000000/none-");
    let listed = server.program(&["dlq", "list", "--tasks", "--status", "all"]).env(queues.0, queues.1).output().await.unwrap();
    assert_eq!((code(&listed), out(&listed).as_str()), (0, "no entries about tasks\n"));
    assert_eq!(server.requests()[0].0, "GET /v1/dlq?limit=100&offset=0");
    let wrong = server.program(&["dlq", "list", "--status", "all"]).env(queues.0, queues.1).output().await.unwrap();
    assert_eq!(code(&wrong), 2);
    assert!(err(&wrong).contains("are for tasks: give --tasks too"), "{}", err(&wrong));
    let both = server.run(&["dlq", "list", "--tasks", "--messages"]).await;
    assert_eq!(code(&both), 2);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_entry_is_found_by_its_id_or_by_that_of_its_task() {
    let server = Server::answering_once_each([not_found(), (200, entry()), not_found(), not_found()]).await;
    let shown = server.run(&["dlq", "show", TASK]).await;
    assert_eq!(code(&shown), 0, "{}", err(&shown));
    assert!(out(&shown).contains("fingerprint  3f1b0c9e77aa") && out(&shown).contains("\"error\": 1"), "{}", out(&shown));
    let missing = server.run(&["dlq", "show", TASK]).await;
    assert_eq!(code(&missing), 3);
    assert_eq!(code(&server.run(&["dlq", "show", "x"]).await), 2);
}

#[tokio::test]
async fn a_recovery_without_a_filter_is_refused_and_nothing_is_sent() {
    let server = Server::answering_once_each([]).await;
    let refused = server.run(&RECOVER).await;
    assert_eq!(code(&refused), 2);
    assert!(
        err(&refused).starts_with("error: no entries are selected: give one or more of --entry, --namespace"),
        "{}",
        err(&refused)
    );
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_recovery_goes_on_page_by_page_at_its_rate_and_reports_every_entry() {
    let pages = [
        page(&[item("recovered", None)], Some("a")),
        page(&[], Some("b")),
        page(&[item("skipped", Some("the task is complete"))], None),
    ];
    let server = Server::answering_once_each(pages).await;
    let done = server
        .run(&[&RECOVER[..], &["--fingerprint", "3F1B0C9E77AA", "--by", "anna", "--rate", "500", "--max", "7"]].concat())
        .await;
    assert_eq!(code(&done), 0, "{}", err(&done));
    let shown = out(&done);
    let expected = [
        format!("{ENTRY}  task {TASK} shop/order step charge  recovered: charge enqueued, ship pending"),
        format!("{ENTRY}  task {TASK} shop/order step charge  skipped: the task is complete"),
        "1 entry recovered, 1 skipped, 0 failed".to_owned(),
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    let bodies: Vec<Value> = server
        .requests()
        .into_iter()
        .map(|(line, body)| {
            assert_eq!(line, "POST /v1/dlq/recover");
            body
        })
        .collect();
    assert_eq!(
        bodies[0],
        json!({"filter": {"fingerprint": "3f1b0c9e77aa"}, "actor": "anna", "reason": "the bank is back", "max": 7})
    );
    assert_eq!((&bodies[1]["after"], &bodies[1]["max"], &bodies[2]["after"]), (&json!("a"), &json!(6), &json!("b")));
}

#[tokio::test]
async fn a_recovery_ends_at_its_maximum_and_at_an_error() {
    let server = Server::answering_once_each([page(&[item("recovered", None)], Some("a"))]).await;
    let done = server.run(&[&RECOVER[..], &["--namespace", "shop", "--max", "1", "--json"]].concat()).await;
    let document: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&document["recovered"], &document["more"], &document["applied"]), (&json!(1), &json!(true), &json!(true)));

    let pages = [page(&[item("recovered", None), item("failed", Some("the database is not available"))], Some("a"))];
    let server = Server::answering_once_each(pages).await;
    let failed = server.run(&[&RECOVER[..], &["--namespace", "shop"]].concat()).await;
    assert_eq!(code(&failed), 1);
    assert!(out(&failed).contains("failed: the database is not available"), "{}", out(&failed));
    assert!(out(&failed).contains("1 entry recovered, 0 skipped, 1 failed; more may match"), "{}", out(&failed));

    // What was done before the server went away is reported.
    let server = Server::answering_once_each([page(&[item("recovered", None)], Some("a")), not_found()]).await;
    let cut = server.run(&[&RECOVER[..], &["--namespace", "shop", "--rate", "500"]].concat()).await;
    assert_eq!(code(&cut), 3);
    assert!(out(&cut).contains("1 entry recovered"), "{}", out(&cut));
}

#[tokio::test]
async fn a_dry_run_says_how_it_is_done() {
    let server = Server::answering_once_each([page(&[item("recovered", None)], None)]).await;
    let dry = server.run(&[&RECOVER[..], &["--entry", ENTRY, "--dry-run"]].concat()).await;
    assert!(out(&dry).contains("would be recovered: charge enqueued, ship pending"), "{}", out(&dry));
    let (before, shown) =
        (format!("To do it: tasker-ctl dlq recover --reason 'the bank is back' --entry {ENTRY} --seen "), out(&dry));
    let seen = shown.split_once(&before).unwrap_or_else(|| panic!("{shown}")).1.trim();
    let body = &server.requests()[0].1;
    assert_eq!((&body["dry_run"], &body["filter"]), (&json!(true), &json!({"entries": [ENTRY]})));

    // It looks again before it acts, and says to the server what it saw.
    let server =
        Server::answering_once_each([page(&[item("recovered", None)], None), page(&[item("recovered", None)], None)]).await;
    let done = server.run(&[&RECOVER[..], &["--entry", ENTRY, "--seen", seen]].concat()).await;
    assert_eq!(code(&done), 0, "{}", err(&done));
    let requests = server.requests();
    assert_eq!((&requests[0].1["dry_run"], &requests[1].1["dry_run"]), (&json!(true), &Value::Null));
    assert_eq!((&requests[0].1["seen"], &requests[1].1["seen"]), (&Value::Null, &json!("5ee4")));
    let server = Server::answering_once_each([page(&[item("recovered", None)], None)]).await;
    let changed = server.run(&[&RECOVER[..], &["--entry", ENTRY, "--seen", "other"]].concat()).await;
    assert_eq!((code(&changed), server.requests().len()), (5, 1));
    assert!(err(&changed).contains("has changed since the dry run; nothing was done"), "{}", err(&changed));
}

#[tokio::test]
async fn a_named_entry_that_does_not_wait_is_reported() {
    let server = Server::answering_once_each([page(&[], None)]).await;
    let done = server.run(&[&RECOVER[..], &["--entry", ENTRY]].concat()).await;
    let expected = format!(
        "{ENTRY}  skipped: there is no such entry that is pending and matches\n0 entries recovered, 1 skipped, 0 failed\n"
    );
    assert_eq!((code(&done), out(&done)), (0, expected));
}

#[tokio::test]
async fn numbers_and_causes_are_one_document_for_programs() {
    let stats = json!([{"dlq_reason": "MaxRetriesExceeded", "total_entries": 2, "pending": 2, "manually_resolved": 0,
        "permanent_failures": 0, "cancelled": 0}]);
    let causes = json!([{"fingerprint": "3f1b0c9e77aa", "entries": 2, "namespace": "shop", "template": "order", "step": "charge",
        "dlq_reason": "MaxRetriesExceeded", "reason_detail": "timeout", "first_entry": "2026-01-02T03:04:05.678901",
        "last_entry": "2026-01-02T03:04:05.678901", "dlq_entry_uuid": ENTRY, "task_uuid": TASK}]);
    let answers = [(200, stats.clone()), (200, causes.clone())];
    let server = Server::answering_once_each([answers.clone(), answers].concat()).await;
    let shown = out(&server.run(&["dlq", "stats"]).await);
    assert!(shown.contains("max_retries_exceeded  2") && shown.contains("3f1b0c9e77aa  2        shop/order  charge"), "{shown}");
    let document: Value = serde_json::from_slice(&server.run(&["dlq", "stats", "--json"]).await.stdout).unwrap();
    assert_eq!(document, json!({"stats": stats, "causes": causes}));
}

#[tokio::test]
async fn an_investigation_sends_what_is_given_and_needs_something() {
    let server =
        Server::answering_once_each([(200, json!({"success": true, "message": "it is recorded", "dlq_entry_uuid": ENTRY}))])
            .await;
    let nothing = server.run(&["dlq", "investigate", ENTRY]).await;
    assert_eq!(code(&nothing), 2);
    let done = server
        .run(&[
            "dlq",
            "investigate",
            ENTRY,
            "--status",
            "permanently_failed",
            "--notes",
            "gone",
            "--by",
            "anna",
            "--metadata",
            "{\"a\": 1.50}",
        ])
        .await;
    assert_eq!((code(&done), out(&done)), (0, format!("entry {ENTRY}: it is recorded\n")));
    let (line, body) = &server.requests()[0];
    assert_eq!(line, &format!("PATCH /v1/dlq/entry/{ENTRY}"));
    assert_eq!(
        body,
        &json!({"resolution_status": "PermanentlyFailed", "resolution_notes": "gone", "resolved_by": "anna", "metadata": {"a": 1.5}})
    );
}
