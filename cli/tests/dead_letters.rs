//! `dlq` and `queues` against a server that speaks SQS, with queues of each test's own.

#![allow(clippy::unwrap_used)]

use std::process::Stdio;

use aws_sdk_sqs::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region},
    types::{Message, MessageAttributeValue, QueueAttributeName},
};
use serde_json::{Value, json};
use tasker_test_support::skip;
use tokio::process::Command;

const TASK: &str = "01990000-0000-7000-8000-000000000000";
const STEP: &str = "01990000-0000-7000-8000-000000004000";
/// Kinds of queues that each deployment here has, each with its dead-letter queue.
const QUEUES: [&str; 3] = ["intake", "completions", "worker-a"];

/// A deployment without functions.
struct Rig {
    sqs: Client,
    endpoint: String,
    prefix: String,
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err);
        serde_json::from_str(&self.out).unwrap()
    }
}

/// None, with one loud line, where no server is.
async fn rig(test: &str) -> Option<Rig> {
    let Some(endpoint) = std::env::var("TASKER_LOCALSTACK").ok().filter(|url| !url.is_empty()) else {
        skip("tasker-ctl dlq and queues on SQS: TASKER_LOCALSTACK is not set; scripts/with-localstack sets it");
        return None;
    };
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .http_client(tasker_aws::https());
    let config = config.endpoint_url(&endpoint).credentials_provider(Credentials::new("test", "test", None, None, "test"));
    let prefix = format!("{test}{}-", std::process::id());
    let rig = Rig { sqs: Client::from_conf(config.build()), endpoint, prefix };
    for name in QUEUES {
        rig.create(&format!("{name}-dlq")).await;
        let policy = json!({"deadLetterTargetArn": rig.arn(&format!("{name}-dlq")), "maxReceiveCount": 1});
        rig.create(name).await;
        rig.attribute(name, QueueAttributeName::RedrivePolicy, &policy.to_string()).await;
    }
    Some(rig)
}

impl Rig {
    fn url(&self, name: &str) -> String {
        format!("{}/000000000000/{}{name}", self.endpoint, self.prefix)
    }

    fn arn(&self, name: &str) -> String {
        format!("arn:aws:sqs:us-east-1:000000000000:{}{name}", self.prefix)
    }

    async fn create(&self, name: &str) {
        self.sqs.create_queue().queue_name(format!("{}{name}", self.prefix)).send().await.unwrap();
    }

    async fn attribute(&self, name: &str, attribute: QueueAttributeName, value: &str) {
        self.sqs.set_queue_attributes().queue_url(self.url(name)).attributes(attribute, value).send().await.unwrap();
    }

    /// Answers the message's id.
    async fn send(&self, name: &str, body: &str, attributes: &[(&str, &str)]) -> String {
        let mut request = self.sqs.send_message().queue_url(self.url(name)).message_body(body);
        for (name, value) in attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(*value).build().unwrap();
            request = request.message_attributes(*name, value);
        }
        request.send().await.unwrap().message_id.unwrap()
    }

    /// All messages that can be received now; they stay hidden.
    async fn take(&self, name: &str) -> Vec<Message> {
        let mut taken = Vec::new();
        loop {
            let request = self.sqs.receive_message().queue_url(self.url(name)).max_number_of_messages(10).visibility_timeout(600);
            let messages = request.message_attribute_names("All").send().await.unwrap().messages.unwrap_or_default();
            if messages.is_empty() {
                return taken;
            }
            taken.extend(messages);
        }
    }

    async fn run(&self, line: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-ctl"));
        command.args(line.split(' ')).env("TASKER_QUEUES", self.url("")).env("AWS_ENDPOINT_URL", &self.endpoint);
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test").env("AWS_REGION", "us-east-1");
        let output = command.stdin(Stdio::null()).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn step(name: &str) -> String {
    json!({"v": 1, "task_id": TASK, "step_id": STEP, "step_name": name, "namespace": "shop", "token": "s3cret", "handler": {"callable": name}}).to_string()
}

fn ids(dead_letters: &Value) -> Vec<&str> {
    dead_letters.as_array().unwrap().iter().map(|one| one["message_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn dead_letters_are_listed_with_their_reasons_and_stay_where_they_are() {
    let Some(rig) = rig("list").await else { return };
    let buried = rig.send("intake-dlq", "{", &[("reason", "no JSON: line 1\u{9}column 1")]).await;
    let given_up = rig.send("worker-a", &step("charge"), &[]).await;
    for _ in 0..2 {
        let request = rig.sqs.receive_message().queue_url(rig.url("worker-a")).visibility_timeout(0);
        request.send().await.unwrap();
    }
    for _ in 0..2 {
        let listed = rig.run("dlq list -o json").await.json();
        assert_eq!((ids(&listed["dead_letters"]), &listed["more"]), (vec![&*buried, &*given_up], &json!(false)));
        assert_eq!(
            (&listed["dead_letters"][0]["kind"], &listed["dead_letters"][1]["kind"]),
            (&json!("unreadable"), &json!("RunStep"))
        );
        assert_eq!((&listed["dead_letters"][1]["task_id"], &listed["dead_letters"][1]["step"]), (&json!(TASK), &json!("charge")));
        assert!(listed["dead_letters"][1]["reason"].as_str().unwrap().starts_with("moved by the redrive policy: "), "{listed}");
    }
    let shown = rig.run("dlq list --max 1").await.out;
    assert!(
        shown.contains("no JSON: line 1\\tcolumn 1")
            && shown.ends_with("1 dead letter; there are more: give a larger --max, or a --queue\n")
    );
    assert!(rig.run("dlq list --queue completions").await.out.starts_with("no dead letters in "));
    assert_eq!((rig.take("intake-dlq").await.len(), rig.take("worker-a-dlq").await.len()), (1, 1), "nothing stays hidden");
}

#[tokio::test]
async fn a_dead_letter_is_shown_without_its_contents_unless_they_are_asked_for() {
    let Some(rig) = rig("show").await else { return };
    let id = rig.send("worker-a-dlq", &step("a\u{9b}2Jb"), &[("reason", "dead"), ("card", "s3cret")]).await;
    let shown = rig.run(&format!("dlq show {id}")).await.out;
    assert!(shown.contains(TASK) && shown.contains("\"callable\"") && !shown.contains(['\u{9b}', '\u{1b}']), "{shown}");
    assert!(!shown.contains("s3cret") && shown.contains("\"token\": \"hidden: 8 bytes\""), "{shown}");
    let shown = rig.run(&format!("dlq show {id} --queue worker-a --body")).await.out;
    assert!(
        shown.contains("\"token\": \"hidden: 8 bytes\"") && shown.contains("card=s3cret") && !shown.contains('\u{9b}'),
        "{shown}"
    );
    let json = rig.run(&format!("dlq show {id} --body -o json")).await.json();
    let body = json["body"].as_str().unwrap();
    assert!(body.contains("hidden: 8 bytes") && !body.contains("s3cret") && body.contains("\"handler\""), "{body}");
    let missing = rig.run("dlq show nowhere").await;
    assert!(missing.code == 3 && missing.err.starts_with("error: there is no dead letter nowhere in "), "{}", missing.err);
}

#[tokio::test]
async fn matching_dead_letters_are_copied_back_and_the_others_become_visible_again() {
    let Some(rig) = rig("copy").await else { return };
    let mut charged = Vec::new();
    for n in 0..12 {
        let first = format!("first {n}");
        rig.send("worker-a-dlq", &step("ship"), &[("reason", "other")]).await;
        charged.push(
            rig.send(
                "worker-a-dlq",
                &step("charge"),
                &[("reason", "dead"), ("traceparent", "00-a"), ("source_message_id", &first)],
            )
            .await,
        );
    }
    let dry = rig.run("dlq redrive --step charge --dry-run -o json").await.json();
    assert_eq!((ids(&dry["items"]).len(), rig.take("worker-a").await.len()), (12, 0));
    let some = rig.run("dlq redrive --step charge --max 5 --rate 500 --mechanism copy -o json").await.json();
    assert_eq!((&some["mechanism"], &some["redriven"], &some["more"]), (&json!("copy"), &json!(5), &json!(true)));
    let rest = rig.run("dlq redrive --step charge --namespace shop --task 01990000-0000-7000-8000-000000000000").await;
    assert_eq!(rest.out.lines().next().unwrap(), "mechanism: copy (receive, send, delete)", "{}", rest.err);
    assert_eq!(rest.out.lines().filter(|line| line.ends_with("step charge  redriven")).count(), 7, "{}", rest.out);
    assert!(rest.out.ends_with("7 dead letters redriven\n"), "{}", rest.out);
    let again = rig.run("dlq redrive --step charge").await;
    assert_eq!((again.code, again.out.lines().last().unwrap()), (0, "no dead letter matches: nothing was done"));
    let copies = rig.take("worker-a").await;
    assert_eq!(copies.len(), 12);
    for copy in &copies {
        let attributes = copy.message_attributes.as_ref().unwrap();
        assert!(attributes["source_message_id"].string_value().unwrap().starts_with("first "), "{attributes:?}");
        assert!(attributes.contains_key("traceparent") && !attributes.contains_key("reason"), "{attributes:?}");
    }
    assert_eq!(rig.take("worker-a-dlq").await.len(), 12);
}

#[tokio::test]
async fn a_whole_queue_is_moved_by_sqs_except_that_of_intake() {
    let Some(rig) = rig("move").await else { return };
    for _ in 0..3 {
        rig.send("worker-a-dlq", &step("a"), &[]).await;
    }
    let request = rig.send("intake-dlq", r#"{"name": "order"}"#, &[]).await;
    let dry = rig.run("dlq redrive --queue worker-a --dry-run").await.out;
    assert!(dry.ends_with("3 dead letters would be redriven, by move\n"), "{dry}");
    let moved = rig.run("dlq redrive --queue worker-a --yes").await;
    assert_eq!(moved.code, 0, "{}", moved.err);
    assert!(moved.out.starts_with("mechanism: move (StartMessageMoveTask)\n3 dead letters moved from "), "{}", moved.out);
    assert_eq!((rig.take("worker-a").await.len(), rig.take("worker-a-dlq").await.len()), (3, 0));
    let copied = rig.run("dlq redrive --queue intake -o json").await.json();
    assert_eq!((&copied["mechanism"], &copied["redriven"]), (&json!("copy"), &json!(1)));
    let copy = rig.take("intake").await.remove(0).message_attributes.unwrap();
    assert_eq!(copy["source_message_id"].string_value(), Some(&*request), "by it the request is known");
}

#[tokio::test]
async fn dead_letters_that_sqs_does_not_move_are_copied_with_the_reason() {
    let Some(rig) = rig("fallback").await else { return };
    rig.attribute("worker-a", QueueAttributeName::RedrivePolicy, "").await;
    rig.send("worker-a-dlq", &step("a"), &[]).await;
    let refused = rig.run("dlq redrive --queue worker-a --mechanism move").await;
    assert!(refused.code == 1 && refused.err.starts_with("error: cannot have SQS move "), "{}", refused.err);
    let copied = rig.run("dlq redrive --queue worker-a").await;
    assert_eq!(copied.code, 0, "{}", copied.err);
    assert!(copied.out.starts_with("mechanism: copy (receive, send, delete); SQS does not move the queue: "), "{}", copied.out);
    assert_eq!(rig.take("worker-a").await.len(), 1);
}

#[tokio::test]
async fn a_purge_deletes_what_matches_and_nothing_else() {
    let Some(rig) = rig("purge").await else { return };
    let (gone, kept) = (rig.send("worker-a-dlq", "x", &[]).await, rig.send("intake-dlq", "y", &[]).await);
    let dry = rig.run(&format!("dlq purge --message {gone} --dry-run")).await.out;
    assert!(dry.ends_with("1 dead letter would be deleted\n") && dry.contains(&gone) && !dry.contains(&kept), "{dry}");
    let purged = rig.run(&format!("dlq purge --message {gone} --yes")).await;
    assert!(purged.code == 0 && purged.out.ends_with("deleted\n1 dead letter deleted\n"), "{}{}", purged.out, purged.err);
    assert_eq!(rig.take("worker-a-dlq").await.len(), 0);
    assert_eq!(rig.take("intake-dlq").await[0].message_id(), Some(&*kept));
}

#[tokio::test]
async fn queues_are_shown_and_those_with_dead_letters_are_named() {
    let Some(rig) = rig("queues").await else { return };
    rig.create("test-intake-dlq").await;
    rig.send("intake", "{}", &[]).await;
    rig.send("intake-dlq", "{}", &[]).await;
    let shown = rig.run("queues").await.out;
    let prefix = &rig.prefix;
    let rows: Vec<String> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        rows[1..5],
        [
            format!("{prefix}completions 0 0 0 0 30 s 1"),
            format!("{prefix}intake 1 0 0 1 ! 30 s 1"),
            format!("{prefix}worker-a 0 0 0 0 30 s 1"),
            String::new()
        ],
        "{shown}"
    );
    assert!(
        rows.len() == 6 && rows[5].starts_with(&format!("! {prefix}intake-dlq holds 1 dead letter, the oldest sent ")),
        "{shown}"
    );
    assert_eq!(rig.take("intake").await.len(), 1, "its only receive is left");
}

#[tokio::test]
async fn queues_that_are_unknown_have_a_redrive_policy_or_no_source_queue_are_rejected() {
    let Some(rig) = rig("refused").await else { return };
    let unknown = rig.run("dlq redrive --queue worker-b").await;
    assert!(
        unknown.code == 3 && unknown.err.contains("`worker-b`; there are: ") && unknown.err.contains("worker-a-dlq"),
        "{}",
        unknown.err
    );
    rig.create("worker-gone-dlq").await;
    let homeless = rig.run("dlq redrive --queue worker-gone").await;
    assert!(homeless.code == 5 && homeless.err.contains("there is no queue "), "{}", homeless.err);
    let policy = json!({"deadLetterTargetArn": rig.arn("intake-dlq"), "maxReceiveCount": 5}).to_string();
    rig.attribute("worker-a-dlq", QueueAttributeName::RedrivePolicy, &policy).await;
    for line in ["dlq list", "dlq show x", "dlq purge --queue worker-a --yes"] {
        let ran = rig.run(line).await;
        assert!(ran.code == 5 && ran.err.contains("worker-a-dlq has a redrive policy"), "{}", ran.err);
    }
    let nobody = Rig { prefix: "nobody-".into(), ..rig }.run("queues").await;
    assert!(nobody.code == 3 && nobody.err.starts_with("error: there are no queues of a deployment `nobody-`"), "{}", nobody.err);
}
