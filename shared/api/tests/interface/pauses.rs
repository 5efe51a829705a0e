//! Pauses of namespaces and templates over HTTP.

use serde_json::{Value, json};

use crate::rig::{Answer, Rig};

fn why(more: Value) -> String {
    let mut body = json!({"actor": "anna", "reason": "the bank is away"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

async fn ask(rig: &Rig, method: &str, scope: &str, more: Value) -> Answer {
    let answer = rig.with_body(method, &format!("/v1/pauses/{scope}"), why(more)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

fn entry(answer: &Value) -> [&Value; 4] {
    [&answer["namespace"], &answer["template"], &answer["actor"], &answer["reason"]]
}

#[tokio::test]
async fn a_pause_is_listed_until_it_is_resumed_and_kept_afterwards() {
    let rig = Rig::new().await;
    assert_eq!(rig.get("/v1/pauses").await.body, json!({"pauses": []}));
    let paused = ask(&rig, "PUT", "ns/small", json!({})).await.body;
    assert_eq!((&paused["action"], &paused["applied"], &paused["held_steps"]), (&json!("pause"), &json!(true), &json!(0)));
    let expected = [json!("ns"), json!("small"), json!("anna"), json!("the bank is away")];
    assert_eq!(entry(&paused["pause"]), expected.each_ref());
    ask(&rig, "PUT", "ns", json!({})).await;
    let listed = rig.get("/v1/pauses").await.body;
    assert_eq!((&listed["pauses"][0]["template"], &listed["pauses"][1]), (&Value::Null, &paused["pause"]));
    let resumed = ask(&rig, "DELETE", "ns/small", json!({"actor": "otto", "reason": "it is back"})).await.body;
    assert_eq!((&resumed["action"], &resumed["pause"]), (&json!("resume"), &paused["pause"]));
    assert_eq!(rig.get("/v1/pauses").await.body["pauses"].as_array().unwrap().len(), 1);
    let sql = "select json_build_array(namespace, template, actor, reason, resumed_by, resume_reason) from tasker.past_pauses";
    let past: Vec<Value> = rig.database.client().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(past, [json!(["ns", "small", "anna", "the bank is away", "otto", "it is back"])]);
}

#[tokio::test]
async fn a_second_pause_leaves_the_first_as_it_is() {
    let rig = Rig::new().await;
    let first = ask(&rig, "PUT", "ns", json!({})).await.body;
    rig.database.advance_clock(std::time::Duration::from_secs(60)).await;
    let second = ask(&rig, "PUT", "ns", json!({"actor": "otto", "reason": "me too"})).await.body;
    assert_eq!(second["pause"], first["pause"]);
    assert_eq!(rig.count("pauses").await, 1);
}

#[tokio::test]
async fn the_end_of_a_pause_says_how_many_steps_it_made_due_and_may_be_repeated() {
    let rig = Rig::new().await;
    ask(&rig, "PUT", "ns", json!({})).await;
    for n in 0..3 {
        rig.submit(json!({"n": n})).await;
    }
    assert_eq!(rig.engine.queue().waiting(), 0);
    assert_eq!(ask(&rig, "PUT", "ns", json!({})).await.body["held_steps"], 3);
    let before = rig.all_rows().await;
    let promised = ask(&rig, "DELETE", "ns", json!({"dry_run": true})).await.body;
    assert_eq!((&promised["applied"], &promised["held_steps"]), (&json!(false), &json!(3)));
    assert_eq!(rig.all_rows().await, before);
    let resumed = ask(&rig, "DELETE", "ns", json!({})).await.body;
    assert_eq!((&resumed["applied"], &resumed["held_steps"]), (&json!(true), &json!(3)));
    let again = ask(&rig, "DELETE", "ns", json!({})).await.body;
    assert_eq!((&again["pause"], &again["held_steps"]), (&Value::Null, &json!(3)), "they are due still");
    rig.engine.sweep().await.unwrap();
    assert_eq!(rig.engine.queue().waiting(), 3);
    assert_eq!(ask(&rig, "DELETE", "ns", json!({})).await.body["held_steps"], 0);
    assert_eq!(rig.count("past_pauses").await, 1);
}

#[tokio::test]
async fn a_dry_run_of_a_pause_changes_no_row() {
    let rig = Rig::new().await;
    let before = rig.all_rows().await;
    let promised = ask(&rig, "PUT", "ns/small", json!({"dry_run": true})).await.body;
    assert_eq!((&promised["applied"], &promised["pause"]), (&json!(false), &Value::Null));
    assert_eq!(rig.all_rows().await, before);
}

#[tokio::test]
async fn a_pause_or_its_end_that_would_do_something_else_than_was_seen_is_refused() {
    let rig = Rig::new().await;
    for method in ["PUT", "DELETE"] {
        let seen = ask(&rig, method, "ns/small", json!({"dry_run": true})).await.body["seen"].clone();
        let refused = rig.with_body(method, "/v1/pauses/ns/small", why(json!({"seen": "other"}))).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (409, "CHANGED"), "{method}");
        assert_eq!((&refused.body["error"]["details"]["seen"], rig.count("past_pauses").await), (&seen, 0), "{method}");
        assert_eq!(ask(&rig, method, "ns/small", json!({"seen": seen})).await.body["applied"], true, "{method}");
    }
    assert_eq!(rig.count("past_pauses").await, 1);
}

#[tokio::test]
async fn a_pause_of_what_no_template_is_registered_for_is_a_warning_with_a_near_name() {
    let rig = Rig::new().await;
    for (scope, warnings) in [
        ("ns", json!([])),
        ("ns/small", json!([])),
        ("ns/smal", json!(["no template ns/smal is registered; did you mean ns/small?"])),
        ("elsewhere", json!(["no template is registered in namespace elsewhere"])),
    ] {
        assert_eq!(ask(&rig, "PUT", scope, json!({})).await.body["warnings"], warnings, "{scope}");
    }
}

#[tokio::test]
async fn every_fault_of_a_pause_is_named_and_nothing_is_paused() {
    let rig = Rig::new().await;
    for method in ["PUT", "DELETE"] {
        for (scope, body, places) in [
            ("ns", "{}".to_owned(), vec!["/actor", "/reason"]),
            (
                "ns/small",
                r#"{"actor": "", "reason": "x", "dry_run": 1, "resaon": "x"}"#.into(),
                vec!["/actor", "/dry_run", "/resaon"],
            ),
            ("Upper", why(json!({})), vec!["namespace"]),
            ("Upper/a%00b", why(json!({})), vec!["namespace", "template"]),
            (&"n".repeat(30), why(json!({})), vec!["namespace"]),
        ] {
            let answer = rig.with_body(method, &format!("/v1/pauses/{scope}"), body).await;
            assert_eq!((answer.status.as_u16(), answer.places()), (400, places), "{method} {scope}");
        }
    }
    assert_eq!(rig.count("pauses").await, 0);
    assert_eq!(rig.get("/v1/pauses/ns").await.status, 405);
}
