//! The program as its users see it: exit codes and words, against a server that answers what each test says.

#![allow(clippy::unwrap_used)]

mod answering;

use answering::{Server, code, err, out, program};
use serde_json::{Value, json};

const TASK: &str = "01990000-0000-7000-8000-000000000000";
const STEP: &str = "01990000-0000-7000-8000-000000000001";

fn task(status: &str) -> Value {
    json!({"task_uuid": TASK, "name": "order", "namespace": "shop", "version": "1.0.0", "status": status, "total_steps": 1,
        "created_at": "2026-01-02T03:04:05Z", "initiator": "me", "source_system": "cli", "reason": "test", "context": {"n": 1}})
}

fn steps(state: &str) -> Value {
    json!([{"step_uuid": STEP, "task_uuid": TASK, "name": "charge", "current_state": state, "attempts": 1, "max_attempts": 3}])
}

fn error(code: &str, message: &str, details: Value) -> Value {
    json!({"error": {"code": code, "message": message, "details": details}})
}

#[tokio::test]
async fn a_created_task_is_named_and_its_context_is_sent_digit_by_digit() {
    let server = Server::answering([(201, task("running"))]).await;
    let output = server
        .run(&["task", "create", "-n", "shop", "--name", "order", "-i", r#"{"n":1.50,"big":123456789012345678901234567890}"#])
        .await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(out(&output), format!("task {TASK}: order 1.0.0 in shop, 1 step\n"));
    let asked = &server.asked()[0];
    assert!(
        asked.starts_with("POST /v1/tasks {") && asked.contains(r#""context":{"n":1.50,"big":123456789012345678901234567890}"#),
        "{asked}"
    );
    assert!(!asked.contains("version") && !asked.contains("null"), "{asked}");
}

#[tokio::test]
async fn a_context_that_is_not_json_is_a_usage_error_and_nothing_is_sent() {
    let server = Server::answering([(201, task("running"))]).await;
    let output = server.run(&["task", "create", "--name", "order", "--context", "{n: 1}"]).await;
    assert_eq!(code(&output), 2);
    assert!(err(&output).starts_with("error: --context is not valid JSON: 1:"), "{}", err(&output));
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_duplicate_is_a_conflict_that_names_the_task_and_its_state() {
    let details = json!({"task_uuid": TASK, "status": "complete"});
    let server = Server::answering([(409, error("CONFLICT", "the same task was submitted before", details))]).await;
    let output = server.run(&["task", "create", "--name", "order"]).await;
    assert_eq!(code(&output), 5);
    assert_eq!(err(&output), format!("error: the same task was submitted before\n  task {TASK} is complete\n"));
}

#[tokio::test]
async fn every_fault_of_a_refused_task_is_a_line_with_its_place() {
    let faults =
        json!({"faults": [{"place": "/context/n", "message": "is not a number"}, {"place": "/tags", "message": "are too many"}]});
    let server =
        Server::answering([(400, error("BAD_REQUEST", "/context/n: is not a number; /tags: are too many", faults))]).await;
    let output = server.run(&["task", "create", "--name", "order"]).await;
    assert_eq!(code(&output), 1);
    assert_eq!(err(&output), "error: 2 faults:\n  /context/n: is not a number\n  /tags: are too many\n");
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let server = Server::answering([(404, error("NOT_FOUND", "there is no such task", Value::Null))]).await;
    let output = server.run(&["task", "get", TASK]).await;
    assert_eq!((code(&output), err(&output).as_str()), (3, "error: there is no such task\n"));
}

#[tokio::test]
async fn an_unknown_version_is_not_found_and_the_registered_ones_are_named() {
    let details = json!({"registered_versions": ["1.0.0", "1.1.0"]});
    let server = Server::answering([(404, error("NOT_FOUND", "Task template not found: shop/order 2.0.0", details))]).await;
    let output = server.run(&["task", "create", "-n", "shop", "--name", "order", "-v", "2.0.0"]).await;
    assert_eq!(code(&output), 3);
    assert!(err(&output).ends_with("shop/order 2.0.0\n  registered versions: 1.0.0, 1.1.0\n"), "{}", err(&output));
}

#[tokio::test]
async fn a_task_is_shown_on_one_screen() {
    let server = Server::answering([(200, task("running")), (200, steps("enqueued"))]).await;
    let output = server.run(&["task", "get", TASK]).await;
    assert_eq!(code(&output), 0);
    let shown = out(&output);
    assert!(shown.contains("order 1.0.0 in shop") && shown.contains("waits for a worker"), "{shown}");
    assert_eq!(server.asked(), [format!("GET /v1/tasks/{TASK}"), format!("GET /v1/tasks/{TASK}/workflow_steps")]);
}

#[tokio::test]
async fn json_is_the_servers_own_answer() {
    let server = Server::saying([(200, r#"{"z":1.50,"a":123456789012345678901234567890}"#.into())]).await;
    let output = server.run(&["task", "get", TASK, "-o", "json"]).await;
    assert_eq!(out(&output), "{\n  \"z\": 1.50,\n  \"a\": 123456789012345678901234567890\n}\n");
}

#[tokio::test]
async fn hostile_words_of_a_server_never_reach_the_terminal_as_they_came() {
    let hostile = "gone\u{1b}[2J\nerror: forged\u{9b}31m";
    let server = Server::answering([(404, error("NOT_FOUND", hostile, Value::Null))]).await;
    let output = server.run(&["task", "get", TASK]).await;
    assert_eq!(err(&output), "error: gone\\u{1b}[2J\\nerror: forged\\u{9b}31m\n");

    let mut listed = task("running");
    listed["name"] = hostile.into();
    let server = Server::answering([(200, json!({"tasks": [listed], "pagination": {}}))]).await;
    for format in ["table", "json"] {
        let shown = out(&server.run(&["task", "list", "-o", format]).await);
        assert!(shown.contains("forged") && !shown.contains(['\u{1b}', '\u{9b}']), "{shown:?}");
    }
}

#[tokio::test]
async fn an_unreachable_server_is_named_with_the_remedy() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let output = program(&["task", "list", "--url", &format!("http://me:s3cret@{free}")]).output().await.unwrap();
    assert_eq!(code(&output), 1);
    let said = err(&output);
    assert!(said.contains(&format!("no server answers at http://{free}")) && said.contains("tasker-ctl dev"), "{said}");
    assert!(!said.contains("s3cret") && said.lines().count() <= 2, "{said}");
}

#[tokio::test]
async fn a_server_of_another_kind_is_an_error() {
    let server = Server::saying([(200, "<html>\u{1b}[2Jhello</html>".into())]).await;
    let output = server.run(&["task", "list"]).await;
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("cannot read") && !err(&output).contains('\u{1b}'), "{}", err(&output));
}

#[tokio::test]
async fn a_question_is_asked_again_while_the_server_refuses_load_and_a_submission_is_not() {
    let busy = || (503, error("BACKPRESSURE", "too busy", Value::Null));
    let server = Server::answering([busy(), busy(), (200, json!({"tasks": []}))]).await;
    assert_eq!(code(&server.run(&["task", "list"]).await), 0);
    assert_eq!(server.asked().len(), 3);

    let server = Server::answering([busy()]).await;
    let output = server.run(&["task", "create", "--name", "order"]).await;
    assert_eq!((code(&output), server.asked().len()), (1, 1));
    assert!(err(&output).starts_with("error: too busy\nTry again in"), "{}", err(&output));
}

#[tokio::test]
async fn a_wait_ends_with_its_task_and_says_nothing_off_a_terminal() {
    let server = Server::answering([(200, task("running")), (200, task("complete")), (200, steps("complete"))]).await;
    let output = server.run(&["task", "wait", TASK]).await;
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
    assert!(server.asked()[0].ends_with("?wait=25"), "{:?}", server.asked());
}

#[tokio::test]
async fn a_wait_for_a_task_that_fails_has_an_exit_code_of_its_own() {
    let server = Server::answering([(201, task("running")), (200, task("error"))]).await;
    let output = server.run(&["task", "create", "--name", "order", "--wait", "-o", "json"]).await;
    assert_eq!(code(&output), 7);
    assert_eq!(serde_json::from_str::<Value>(&out(&output)).unwrap()["status"], "error");
    assert!(err(&output).ends_with(&format!("error: task {TASK} ended as error\n")), "{}", err(&output));
}

#[tokio::test]
async fn a_wait_that_takes_too_long_is_a_time_out() {
    let server = Server::answering([(200, task("running"))]).await;
    let output = server.run(&["task", "wait", TASK, "--timeout", "0.1"]).await;
    assert_eq!(code(&output), 6);
    assert!(err(&output).contains("was not finished after 0.1 s and continues"), "{}", err(&output));
}

#[tokio::test]
async fn a_wait_outlives_a_server_that_is_away_for_a_moment() {
    let away = |_| (503, error("SERVICE_UNAVAILABLE", "starting", Value::Null));
    let answers = [(200, task("running"))].into_iter().chain((0..7).map(away)).chain([(200, task("complete"))]);
    let server = Server::answering(answers).await;
    let output = server.run(&["task", "wait", TASK, "-o", "json"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
}

/// The answer to an action: one step, from a state to another.
fn effect(action: &str, applied: bool, from: &str, to: &str) -> Value {
    json!({"action": action, "applied": applied, "seen": "5ee4", "warnings": [],
        "steps": [{"step_uuid": STEP, "name": "charge", "from_state": from, "to_state": to}]})
}

/// The lines of an output, without the blanks at their ends.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_end).collect()
}

#[tokio::test]
async fn a_step_is_retried_by_its_name() {
    let server = Server::answering([(200, steps("error")), (200, effect("retry", true, "error", "enqueued"))]).await;
    let output = server.run(&["step", "retry", TASK, "charge", "--reason", "the bank is back", "--actor", "me"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    let shown = out(&output);
    let expected = [
        "retry of step charge: done, 1 step changed",
        "",
        "STEP    FROM   TO        EFFECT",
        "charge  error  enqueued  reset and dispatched",
    ];
    assert_eq!(lines(&shown), expected);
    let action = r#"{"action":"retry","actor":"me","reason":"the bank is back"}"#;
    assert_eq!(server.asked()[1], format!("POST /v1/tasks/{TASK}/workflow_steps/{STEP}/actions {action}"));
}

#[tokio::test]
async fn every_action_on_a_step_sends_what_was_given() {
    let server = Server::answering([(200, effect("x", true, "error", "enqueued"))]).await;
    for (arguments, sent) in [
        (&["retry", "--inputs", r#"{"n":1.50}"#][..], r#""action":"retry",…,"inputs":{"n":1.50}"#),
        (&["redo", "--inputs", "{}", "--seen", "abc"], r#""action":"redo",…,"inputs":{},"seen":"abc""#),
        (&["resolve", "--result", "null"], r#""action":"resolve",…,"result":null"#),
        (&["resolve", "--result-of-lease", "3"], r#""action":"resolve",…,"result_of_lease":3"#),
        (&["skip", "--dry-run"], r#""action":"skip",…,"dry_run":true"#),
        (&["note"], r#""action":"note",…"#),
    ] {
        let (verb, options) = arguments.split_first().unwrap();
        let line = [&["step", verb, TASK, STEP, "--reason", "r", "--actor", "me"], options].concat();
        let output = server.run(&line).await;
        assert_eq!(code(&output), 0, "{}", err(&output));
        let body = sent.replace(",…", r#","actor":"me","reason":"r""#);
        let asked = server.asked().pop().unwrap();
        assert_eq!(asked, format!("POST /v1/tasks/{TASK}/workflow_steps/{STEP}/actions {{{body}}}"));
    }
    let file = file(r#"{"n": 1.50}"#);
    server.run(&["step", "retry", TASK, STEP, "--reason", "r", "--inputs", &format!("@{}", file.path().display())]).await;
    assert!(server.asked().pop().unwrap().ends_with(r#""inputs":{"n": 1.50}}"#));
}

#[tokio::test]
async fn every_action_on_a_task_is_sent_with_the_actor_at_its_host() {
    for action in ["cancel", "reopen", "resolve", "pause", "resume", "note"] {
        let server = Server::answering([(200, json!({"action": action, "applied": true, "seen": "5ee4", "steps": []}))]).await;
        let arguments = ["task", action, TASK, "--reason", "r"];
        let output = program(&arguments).env("TASKER_URL", &server.url).env("USER", "anna").output().await.unwrap();
        assert_eq!(out(&output), format!("{action} of task {TASK}: done, no step changed\n"), "{}", err(&output));
        let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
        let body = json!({"action": action, "actor": format!("anna@{host}"), "reason": "r"});
        assert_eq!(server.asked(), [format!("POST /v1/tasks/{TASK}/actions {body}")]);
    }
}

#[tokio::test]
async fn a_dry_run_ends_with_the_line_that_carries_it_out() {
    let mut answer = effect("cancel", false, "enqueued", "cancelled");
    answer["warnings"] = json!(["mind\u{1b}[2J the gap"]);
    let server = Server::answering([(200, answer)]).await;
    let output = server.run(&["task", "cancel", TASK, "--dry-run", "--reason", "it's over"]).await;
    let shown = out(&output);
    let again = format!(r"Nothing was done. To do it: tasker-ctl task cancel {TASK} --seen 5ee4 --reason 'it'\''s over'");
    let expected = [
        &format!("cancel of task {TASK}: would change 1 step, and the task would be cancelled"),
        "",
        "STEP    FROM      TO         EFFECT",
        "charge  enqueued  cancelled  cancelled",
        r"! mind\u{1b}[2J the gap",
        "",
        &again,
    ];
    assert_eq!(lines(&shown), expected);
}

#[tokio::test]
async fn a_change_since_the_dry_run_is_a_conflict_that_shows_the_new_effect() {
    let now = effect("cancel", false, "in_progress", "cancelled");
    let server = Server::answering([(409, error("CHANGED", "it has changed; nothing was done", now))]).await;
    let output = server.run(&["task", "cancel", TASK, "--reason", "r", "--seen", "old"]).await;
    assert_eq!(code(&output), 5);
    let said = err(&output);
    let expected = [
        "error: it has changed; nothing was done",
        "It would change 1 step now.",
        "STEP    FROM         TO         EFFECT",
        "charge  in_progress  cancelled  cancelled",
        "Look at it again with --dry-run.",
    ];
    assert_eq!(lines(&said), expected);
}

#[tokio::test]
async fn json_of_an_action_is_the_servers_own_answer() {
    let server = Server::answering([(200, effect("cancel", true, "enqueued", "cancelled"))]).await;
    for format in [&["--json"][..], &["-o", "json"]] {
        let output = server.run(&[&["task", "cancel", TASK, "--reason", "r"], format].concat()).await;
        let shown: Value = serde_json::from_str(&out(&output)).unwrap();
        assert_eq!(shown, effect("cancel", true, "enqueued", "cancelled"));
    }
}

#[tokio::test]
async fn a_namespace_and_a_template_are_paused_and_resumed() {
    let entry =
        json!({"namespace": "shop", "template": "order", "actor": "anna", "reason": "r", "created_at": "2026-01-02T03:04:05Z"});
    let answer =
        |action: &str| json!({"action": action, "applied": true, "pause": entry, "held_steps": 7, "warnings": ["is it?"]});
    let server = Server::answering([(200, answer("pause")), (200, answer("resume")), (200, json!({"pauses": [entry]}))]).await;
    let paused = server.run(&["pause", "shop/order", "--reason", "r", "--actor", "me"]).await;
    let since = "since 2026-01-02 03:04:05Z by anna: r";
    assert_eq!(out(&paused), format!("template shop/order is paused {since}; 7 steps held\n! is it?\n"), "{}", err(&paused));
    let resumed = server.run(&["resume", "shop", "--reason", "r", "--actor", "me"]).await;
    assert_eq!(out(&resumed), format!("namespace shop was paused {since}; 7 steps can go on\n! is it?\n"));
    let listed = out(&server.run(&["pauses"]).await);
    let expected =
        ["NAMESPACE  TEMPLATE  SINCE                 BY    REASON", "shop       order     2026-01-02 03:04:05Z  anna  r"];
    assert_eq!(lines(&listed), expected);
    let body = r#"{"actor":"me","reason":"r"}"#;
    let asked =
        [format!("PUT /v1/pauses/shop/order {body}"), format!("DELETE /v1/pauses/shop {body}"), "GET /v1/pauses".to_owned()];
    assert_eq!(server.asked(), asked);
}

#[tokio::test]
async fn an_unknown_step_is_not_found_and_the_known_ones_are_named() {
    let server = Server::answering([(200, steps("error"))]).await;
    let output = server.run(&["step", "resolve", TASK, "chrage", "--reason", "x"]).await;
    assert_eq!(code(&output), 3);
    assert!(err(&output).contains("has no step `chrage`; it has charge; did you mean charge?"), "{}", err(&output));
}

#[tokio::test]
async fn the_doctor_fails_when_counters_differ() {
    let report = json!({"checked": {"tasks": 1, "steps": 4}, "differences": [{"task_uuid": TASK, "step": null, "what": "active_steps", "stored": "1", "facts": "0"}]});
    let server = Server::answering([(200, report)]).await;
    let output = server.run(&["doctor"]).await;
    assert_eq!(
        (code(&output), err(&output).as_str()),
        (1, "error: stored counters that differ from their rows: 1; report this as a bug\n")
    );
    let healthy = Server::answering([(200, json!({"checked": {"tasks": 1, "steps": 4}, "differences": []}))]).await;
    assert_eq!(out(&healthy.run(&["doctor"]).await), "checked 1 tasks and 4 steps: no differences\n");
}

const TEMPLATE: &str =
    "name: order\nnamespace_name: shop\nversion: 1.0.0\nsteps:\n  - {name: charge, handler: {callable: charge}}\n";

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn templates_are_checked_without_a_server() {
    let (good, bad) = (file(TEMPLATE), file(&TEMPLATE.replace("callable: charge", "callable: ''")));
    let (good, bad) = (good.path().to_str().unwrap(), bad.path().to_str().unwrap());
    let output = program(&["template", "validate", good]).output().await.unwrap();
    assert_eq!((code(&output), out(&output)), (0, format!("{good}: valid\n")));
    let output = program(&["template", "validate", good, bad]).output().await.unwrap();
    assert_eq!(code(&output), 1);
    assert!(out(&output).contains(&format!("{bad}: /steps/0/handler/callable: ")), "{}", out(&output));
    assert_eq!(err(&output), "error: 1 of 2 templates cannot be registered\n");
}

#[tokio::test]
async fn one_bad_file_of_a_folder_hides_nothing_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("inner")).unwrap();
    std::fs::write(at("broken.yaml"), b"name: caf\xe9").unwrap();
    std::os::unix::fs::symlink(at("nowhere"), at("dangling.yaml")).unwrap();
    std::fs::write(at("good.yaml"), TEMPLATE.replace("order", "good")).unwrap();
    std::fs::write(at("inner/copy.yaml"), TEMPLATE.replace("callable: charge", "callable: other")).unwrap();
    std::fs::write(at("order.yaml"), TEMPLATE).unwrap();
    let shown = |name: &str| at(name).display().to_string();
    let output = program(&["template", "validate", dir.path().to_str().unwrap()]).output().await.unwrap();
    let expected = [
        format!("{}: is not UTF-8 from byte 9 on", shown("broken.yaml")),
        format!("{}: cannot be read: No such file or directory (os error 2)", shown("dangling.yaml")),
        format!("{}: valid", shown("good.yaml")),
        format!("{}: shop/order 1.0.0 is also in {}; none of them is registered", shown("inner/copy.yaml"), shown("order.yaml")),
        format!("{}: shop/order 1.0.0 is also in {}; none of them is registered", shown("order.yaml"), shown("inner/copy.yaml")),
    ];
    assert_eq!((code(&output), out(&output)), (1, expected.join("\n") + "\n"));
    assert_eq!(err(&output), "error: 4 of 5 templates cannot be registered\n");

    let answer = json!({"namespace": "shop", "name": "good", "version": "1.0.0", "revision": 1, "created": true, "notes": []});
    let server = Server::answering([(201, answer)]).await;
    let output = server.run(&["template", "register", dir.path().to_str().unwrap()]).await;
    assert_eq!((code(&output), out(&output).as_str()), (1, "registered: good 1.0.0 in shop, revision 1\n"));
    assert_eq!(server.asked().len(), 1, "nothing of the pair is sent");
    assert!(
        ["broken.yaml", "dangling.yaml", "inner/copy.yaml", "order.yaml"].iter().all(|name| err(&output).contains(&shown(name)))
    );
}

#[tokio::test]
async fn a_template_is_registered_as_it_is_written() {
    let answer = json!({"namespace": "shop", "name": "order", "version": "1.0.0", "revision": 1, "created": true,
        "notes": [{"place": "/schema", "message": "has no effect"}]});
    let server = Server::answering([(201, answer)]).await;
    let output = server.run(&["template", "register", file(TEMPLATE).path().to_str().unwrap()]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(out(&output), "registered: order 1.0.0 in shop, revision 1\n  note: /schema: has no effect\n");
    assert_eq!(server.asked(), [format!("POST /v1/templates {}", TEMPLATE.trim())]);
}

#[tokio::test]
async fn a_template_that_changed_under_its_version_is_a_conflict_with_the_difference() {
    let server =
        Server::answering([(409, error("CONFLICT", "order 1.0.0 has other content", json!({"diff": ["- /a: 1", "+ /a: 2"]})))])
            .await;
    let file = file(TEMPLATE);
    let output = server.run(&["template", "register", file.path().to_str().unwrap()]).await;
    assert_eq!(code(&output), 5);
    assert_eq!(err(&output), format!("error: {}: order 1.0.0 has other content\n  - /a: 1\n  + /a: 2\n", file.path().display()));
}

#[tokio::test]
async fn the_shown_version_of_a_template_is_the_highest_released_one() {
    let version = |version: &str| json!({"name": "order", "namespace": "shop", "version": version, "step_count": 1});
    let listed =
        json!({"templates": [version("1.9.0"), version("1.10.0"), version("2.0.0-rc.1")], "namespaces": [], "total_count": 3});
    let detail = json!({"name": "order", "namespace": "shop", "version": "1.10.0", "steps": [{"name": "charge", "default_retryable": true, "default_max_attempts": 3}]});
    let server = Server::answering([(200, listed), (200, detail)]).await;
    let output = server.run(&["template", "show", "order", "-n", "shop"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(server.asked()[1], "GET /v1/templates/shop/order/1.10.0");
}

#[tokio::test]
async fn an_empty_variable_is_an_unset_one() {
    for (line, name, expected) in [
        ("db status", "DATABASE_URL", "DATABASE_URL is not set: give the database's address, as postgres://"),
        ("queues", "TASKER_QUEUES", "no deployment is named: give --queues or TASKER_QUEUES, "),
    ] {
        let output = program(&line.split(' ').collect::<Vec<_>>()).env(name, "").output().await.unwrap();
        assert_eq!(code(&output), 2);
        assert!(err(&output).starts_with(&format!("error: {expected}")), "{}", err(&output));
    }
    // Whatever answers at the usual address, or nothing: it is where it looks.
    assert_ne!(code(&program(&["doctor"]).env("TASKER_URL", "").output().await.unwrap()), 2);
}

#[tokio::test]
async fn an_empty_variable_of_a_library_is_an_unset_one_too() {
    let server = Server::saying([(200, r#"{"QueueUrls":[]}"#.into())]).await;
    let queues = async |variables: &[(&str, &str)]| {
        let mut command = program(&["queues"]);
        let usual = [("AWS_REGION", "eu-central-1"), ("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hidden")];
        command.envs(usual).env("AWS_ENDPOINT_URL", &server.url).env("TASKER_QUEUES", format!("{}/000000000000/t-", server.url));
        err(&command.envs(variables.iter().copied()).output().await.unwrap())
    };
    let usual = queues(&[]).await;
    assert!(usual.starts_with("error: there are no queues of a deployment"), "{usual}");
    for name in
        ["AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_ENDPOINT_URL_SQS", "HOME", "PATH", "SSL_CERT_FILE", "TMPDIR", "HTTPS_PROXY"]
    {
        for empty in ["", " "] {
            assert_eq!(queues(&[(name, empty)]).await, usual, "{name}={empty:?}");
        }
    }
    assert_eq!(queues(&[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "eu-central-1")]).await, usual);
    let nowhere = queues(&[("AWS_ENDPOINT_URL", ""), ("AWS_REGION", "nowhere-1")]).await;
    assert!(nowhere.starts_with("error: cannot list the queues, because SQS did not answer"), "{nowhere}");
}

#[tokio::test]
async fn a_wrong_variable_is_named_with_what_was_expected_and_without_a_secret() {
    for (line, name, value, expected) in [
        ("db status", "DATABASE_URL", "mysql://me:s3cret@db/x", "the database URL cannot be read"),
        ("queues", "TASKER_QUEUES", "tasker-", "expected a URL such as "),
        ("dev", "TASKER_LOG", "info,s3cret", "expected levels, as debug or info,tasker_engine=debug"),
        ("doctor", "TASKER_URL", "ftp://me:s3cret@h", "expected http://HOST:PORT or https://HOST"),
    ] {
        let output = program(&line.split(' ').collect::<Vec<_>>()).env(name, value).output().await.unwrap();
        assert_eq!(code(&output), 2);
        let told = err(&output);
        assert!(told.starts_with(&format!("error: {name} is wrong: {expected}")) && !told.contains("s3cret"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_named_without_its_password() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for url in [format!("postgres://me:s3cret@{free}/x"), "postgres://me:s3cret@:x:/".into()] {
        let output = program(&["db", "status", "--database-url", &url]).output().await.unwrap();
        assert_eq!(code(&output), 1);
        assert!(!err(&output).contains("s3cret") && err(&output).lines().count() == 1, "{}", err(&output));
    }
}

#[tokio::test]
async fn an_explanation_is_shown_in_sentences_and_as_the_document() {
    let step = json!({"step_uuid": STEP, "name": "charge", "reason": "waiting_for_retry", "sentence": "charge failed.", "waits_for": [],
        "changes_at": "2026-01-02T03:04:05.000000Z", "act": null});
    let document = json!({"task_uuid": TASK, "namespace": "shop", "name": "order", "reason": "running", "sentence": "1 of 2 steps done.",
        "waits_for": ["charge"], "changes_at": null, "act": null, "steps": [step], "steps_omitted": 0});
    let server = Server::answering([(200, document.clone())]).await;
    let output = server.run(&["task", "explain", TASK]).await;
    assert_eq!(out(&output), "1 of 2 steps done.\n\ncharge failed.\n", "{}", err(&output));
    let output = server.run(&["task", "explain", TASK, "--output", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out(&output)).unwrap(), document);
    assert_eq!(server.asked(), [format!("GET /v1/tasks/{TASK}/explain"), format!("GET /v1/tasks/{TASK}/explain")]);
}
