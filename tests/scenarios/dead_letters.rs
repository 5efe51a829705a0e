//! DLQ entries for dead letters: when they are opened, removed and closed.

use serde_json::{Value, json};

use tasker_domain::dlq::FINGERPRINT_DIGITS;

use crate::rig::{Rig, permanent, success, template};

async fn rig() -> Rig {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    rig
}

async fn entries(rig: &Rig) -> Vec<Value> {
    rig.rows("select reason, reason_detail, status, no, lease from tasker.dlq_entries order by created_at").await
}

#[tokio::test]
async fn a_message_that_was_given_up_is_noted_once_and_closed_when_its_step_moved_on() {
    let rig = rig().await;
    let task = rig.submit("w", json!({})).await;
    let step = rig.step_id(task, "a").await;
    let store = rig.engine.store();
    let known = json!({"lease": 1, "message_id": "m"}).to_string();
    assert!(store.open_dlq_entry(step, "poison_message", &known).await.unwrap().is_some());
    assert_eq!(store.open_dlq_entry(step, "poison_message", &known).await.unwrap(), None, "it stands there already");
    store.close_dlq_entries().await.unwrap();
    let open = json!({"reason": "manual_dlq", "reason_detail": "poison_message", "status": "pending", "no": step.no, "lease": 1});
    assert_eq!(entries(&rig).await, std::slice::from_ref(&open), "the step still waits for the message");

    rig.answer(&rig.receive().await, success(json!(1))).await;
    store.close_dlq_entries().await.unwrap();
    let mut closed = open;
    closed["status"] = json!("manually_resolved");
    assert_eq!(entries(&rig).await, [closed]);
}

#[tokio::test]
async fn a_note_is_removed_when_the_last_try_succeeded() {
    let rig = rig().await;
    let task = rig.submit("w", json!({})).await;
    let step = rig.step_id(task, "a").await;
    let entry = rig.engine.store().open_dlq_entry(step, "poison_message", r#"{"lease": 1}"#).await.unwrap().unwrap();
    rig.engine.store().remove_dlq_entry(entry).await.unwrap();
    assert_eq!(entries(&rig).await, Vec::<Value>::new());
}

#[tokio::test]
async fn of_a_task_that_is_not_there_nothing_is_noted() {
    let rig = rig().await;
    let task = rig.submit("w", json!({})).await;
    let step = rig.step_id(task, "a").await;
    rig.execute("delete from tasker.steps; delete from tasker.tasks").await;
    assert_eq!(rig.engine.store().open_dlq_entry(step, "malformed_message", "{}").await.unwrap(), None);
}

/// Messages of one cause in a row, and one of another cause.
const CAUSES: [(&str, &[&str], &str); 9] = [
    ("numbers", &["row 17 of 20 has 3.5 columns", "row 9 of 1,200 has 2 columns"], "row 9 of 20 has 3.5 rows"),
    ("UUIDs", &["no order 01990000-0000-7000-8000-000000000001", "no order 0199AAAA00007000800000000000000f"], "no orders"),
    ("hex", &["at 0x7ffe12 in deadbeef01", "at 0x1 in 0badc0de"], "at facade in added"),
    ("double quotes", &[r#"no column "a b""#, r#"no column "id""#], "no column id"),
    ("single quotes and backticks", &["no key 'x' in `map`", "no key '' in `list of 3`"], "no key in map"),
    ("apostrophes", &["can't read the user's file 1", "can't read the user's file 22"], "can't write the user's file 1"),
    ("times", &["at 2026-01-02T03:04:05.678Z: late", "at 2027-11-12 13:14:15+02:00: late", "at 12:30: late"], "at noon: late"),
    ("ids of letters and digits", &["customer cus_9aX3k failed", "customer cus_1bY7z failed"], "customer failed"),
    ("white space", &["a  b\nc", "a b c"], "a bc"),
];

#[tokio::test]
async fn messages_that_differ_only_in_numbers_ids_quotes_and_times_have_one_cause() {
    let rig = Rig::still().await;
    let fingerprint = async |message: &str| -> String {
        let sql = "select tasker.fingerprint('ns', 'order', 'charge', 'timeout', $1)";
        rig.sql.query_one(sql, &[&message]).await.unwrap().get(0)
    };
    for (what, same, other) in CAUSES {
        let first = fingerprint(same[0]).await;
        assert_eq!(first.len(), FINGERPRINT_DIGITS);
        for message in same {
            assert_eq!(fingerprint(message).await, first, "{what}: {message}");
        }
        assert_ne!(fingerprint(other).await, first, "{what}: {other}");
    }
    let sql = "select count(distinct f) from unnest(array[tasker.fingerprint('ns', 'order', 'charge', 'timeout', 'x'),
        tasker.fingerprint('n', 'sorder', 'charge', 'timeout', 'x'), tasker.fingerprint('ns', 'order', 'ship', 'timeout', 'x'),
        tasker.fingerprint('ns', 'order', 'charge', 'refused', 'x'), tasker.fingerprint('ns', 'order', null, 'timeout', 'x'),
        tasker.fingerprint('ns', 'order', 'charge', 'timeout', null)]) f";
    assert_eq!(rig.count(sql).await, 6, "each part counts");
}

#[tokio::test]
async fn entries_of_tasks_that_failed_alike_share_their_cause_and_tell_what_failed() {
    let rig = rig().await;
    for order in [17, 4711] {
        rig.submit("w", json!({})).await;
        rig.answer(&rig.receive().await, permanent(&format!("no order {order}"))).await;
    }
    rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, permanent("no customer 1")).await;
    let causes = rig
        .rows(
            "select count(*) as entries, min(namespace) as ns, min(template) as template, min(step) as step \
                           from tasker.dlq_entries group by fingerprint order by 1",
        )
        .await;
    let cause = |entries| json!({"entries": entries, "ns": "default", "template": "w", "step": "a"});
    assert_eq!(causes, [cause(1), cause(2)]);
    let snapshot =
        rig.rows("select snapshot from tasker.dlq_entries order by created_at limit 1").await.remove(0)["snapshot"].take();
    assert_eq!(snapshot["steps"], json!({"error": 1}));
    let failed = &snapshot["failed_steps"][0];
    assert_eq!((&failed["worker"], &failed["error"]["message"]), (&json!("scripted"), &json!("no order 17")));
}
