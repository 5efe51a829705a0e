//! A deployment in LocalStack with a database of its own: queues, functions, workers and a gateway under a prefix.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use aws_sdk_sqs::types::{Message, MessageAttributeValue, QueueAttributeName};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tasker_test_support::{Database, PATIENCE, binary, poll, root, skip};

/// The environment that `scripts/with-localstack` sets.
#[derive(Clone)]
pub struct Emulator {
    pub endpoint: String,
    pub folder: PathBuf,
    python: String,
    /// Host and port of the database, by TLS.
    pub database: String,
    pub authority: PathBuf,
}

/// None if there is no LocalStack; the skip is reported.
pub fn emulator() -> Option<Emulator> {
    let given = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let Some(endpoint) = given("TASKER_LOCALSTACK") else {
        skip("the functions on LocalStack: TASKER_LOCALSTACK is not set; scripts/test sets it where there is Python 3.11");
        return None;
    };
    let given = |name: &str| given(name).unwrap_or_else(|| panic!("{name} is not set; scripts/with-localstack sets it"));
    Some(Emulator {
        endpoint,
        folder: given("TASKER_LOCALSTACK_DIR").into(),
        python: given("TASKER_LOCALSTACK_PYTHON"),
        database: given("TASKER_TEST_DATABASE_TLS"),
        authority: given("TASKER_TEST_DATABASE_CA").into(),
    })
}

/// Options of a deployment.
#[derive(Default)]
pub struct Options<'a> {
    /// Changed values of the topology.
    pub set: &'a [&'a str],
    /// Another host and port of the database, for the functions.
    pub database: Option<String>,
    /// Whether the rule that sweeps each minute is deployed.
    pub schedule: bool,
    /// Whether functions are uploaded as zips, as on AWS. It takes longer.
    pub zips: bool,
}

/// A deployment. Dropping it removes it.
pub struct Deployment {
    pub emulator: Emulator,
    pub prefix: String,
    pub database: Database,
    pub sqs: aws_sdk_sqs::Client,
    /// The role of the functions, and its password.
    pub login: Login,
    /// Where the API of the deployment is.
    pub api: String,
    http: reqwest::Client,
    failpoints: tempfile::TempDir,
    queues: String,
}

/// Used by one deployment only, so that a test can search for it, and change it.
pub struct Login {
    pub user: String,
    pub password: String,
}

impl Deployment {
    /// Deploys, and registers the sample workflows.
    pub async fn deploy(emulator: Emulator, options: Options<'_>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let database = tasker_test_support::database().await;
        let login = Login { user: prefix.replace('-', "_"), password: format!("planted-password-{prefix}") };
        let role = format!("create role {} superuser login password '{}'", login.user, login.password);
        database.execute(&role).await;
        let failpoints = tempfile::tempdir().unwrap();
        let deployed = run_deploy(&emulator, &prefix, &database, &login, failpoints.path(), &options);
        let deployed: Value = match deployed {
            Ok(json) => serde_json::from_str(&json).unwrap(),
            Err(output) => panic!("the deployment failed: {output}\n{}", logs(&emulator, &prefix)),
        };
        let text = |key: &str| deployed[key].as_str().unwrap_or_else(|| panic!("{key} in {deployed}")).to_owned();
        let deployment = Self {
            sqs: sqs(&emulator.endpoint),
            api: text("api"),
            queues: text("queue_url_prefix"),
            http: tasker_test_support::http_client().timeout(Duration::from_secs(40)).no_proxy().build().unwrap(),
            emulator,
            prefix,
            database,
            login,
            failpoints,
        };
        for template in ["order_fulfillment", "diamond"] {
            let yaml = fs::read_to_string(root().join(format!("config/templates/{template}.yaml"))).unwrap();
            deployment.register(&yaml).await;
        }
        deployment
    }

    pub async fn register(&self, yaml: &str) {
        let request = self.http.post(format!("{}/v1/templates", self.api)).header("content-type", "application/yaml");
        let response = request.body(yaml.to_owned()).send().await.unwrap();
        let status = response.status();
        assert!(status.is_success(), "{status}: {}", response.text().await.unwrap());
    }

    /// Posts to the API.
    pub async fn post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> (StatusCode, Value) {
        let mut request = self.http.post(format!("{}{path}", self.api)).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request).await
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.http.get(format!("{}{path}", self.api))).await
    }

    /// Submits a task by HTTP; its id.
    pub async fn submit(&self, request: &Value) -> String {
        let (status, task) = self.post("/v1/tasks", request, &[]).await;
        assert_eq!(status, StatusCode::CREATED, "{task}");
        task["task_uuid"].as_str().unwrap().to_owned()
    }

    /// A task once it has ended.
    pub async fn finished(&self, task: &str) -> Value {
        self.until(&format!("task {task} has ended"), || async {
            let (status, shown) = self.get(&format!("/v1/tasks/{task}?wait=20")).await;
            (status == StatusCode::OK && shown["status"] != "running").then_some(shown)
        })
        .await
    }

    /// The only value of a query, as text.
    pub async fn value(&self, sql: &str) -> Option<String> {
        let rows = self.database.client().await.query(&format!("select ({sql})::text"), &[]).await.unwrap();
        rows.first().and_then(|row| row.get(0))
    }

    /// Waits until `look` finds something.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
        let found = poll(Duration::from_millis(100), look).await;
        found.unwrap_or_else(|| panic!("not within {PATIENCE:?}: {what}\n{}", logs(&self.emulator, &self.prefix)))
    }

    /// Waits until a query is true.
    pub async fn until_true(&self, sql: &str) {
        self.until(sql, || async { self.value(sql).await.filter(|v| v == "true") }).await;
    }

    pub fn queue(&self, name: &str) -> String {
        format!("{}{name}", self.queues)
    }

    /// Sends texts to a queue, all at once.
    pub async fn send(&self, queue: &str, bodies: &[String]) {
        for (i, chunk) in bodies.chunks(10).enumerate() {
            let entry = |(n, body): (usize, &String)| {
                let id = format!("{i}-{n}");
                aws_sdk_sqs::types::SendMessageBatchRequestEntry::builder().id(id).message_body(body).build().unwrap()
            };
            let entries = chunk.iter().enumerate().map(entry).collect();
            let sent =
                self.sqs.send_message_batch().queue_url(self.queue(queue)).set_entries(Some(entries)).send().await.unwrap();
            assert!(sent.failed().is_empty(), "{sent:?}");
        }
    }

    /// Receives from the dead-letter queue of a queue until there are so many messages.
    pub async fn dead_letters(&self, queue: &str, count: usize) -> Vec<DeadLetter> {
        let url = self.queue(&format!("{queue}-dlq"));
        let mut found = HashMap::new();
        self.until(&format!("{queue} has {count} dead letters"), async || {
            let request = self.sqs.receive_message().queue_url(&url).max_number_of_messages(10).visibility_timeout(1);
            let request = request.message_attribute_names("All").wait_time_seconds(1);
            for message in request.send().await.unwrap().messages.unwrap_or_default() {
                found.insert(message.message_id.clone().unwrap(), DeadLetter::from(message));
            }
            (found.len() >= count).then_some(())
        })
        .await;
        found.into_values().collect()
    }

    /// How many messages a queue holds: visible, in flight and delayed together.
    pub async fn depth(&self, queue: &str) -> u32 {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let request = self.sqs.get_queue_attributes().queue_url(self.queue(queue)).set_attribute_names(Some(names.to_vec()));
        let attributes = request.send().await.unwrap().attributes.unwrap_or_default();
        attributes.values().map(|n| n.parse::<u32>().unwrap()).sum()
    }

    /// Invokes a function and waits for its answer.
    pub async fn invoke(&self, function: &str, event: &Value) -> Value {
        let url = format!("{}/2015-03-31/functions/{}-{function}/invocations", self.emulator.endpoint, self.prefix);
        self.http.post(url).json(event).send().await.unwrap().json().await.unwrap()
    }

    /// Runs the scheduled sweep now.
    pub async fn sweep(&self) -> Value {
        self.invoke("step-readiness", &json!({"source": "aws.events", "detail-type": "Scheduled Event"})).await
    }

    /// The log of a function.
    pub fn log(&self, function: &str) -> String {
        fs::read_to_string(self.emulator.folder.join(format!("logs/{}-{function}.log", self.prefix))).unwrap_or_default()
    }

    /// Arms a failpoint of the orchestrator's functions.
    pub fn arm(&self, point: &str, says: &str) {
        fs::write(self.failpoints.path().join(point), says).unwrap();
    }

    pub fn is_armed(&self, point: &str) -> bool {
        self.failpoints.path().join(point).exists()
    }

    pub fn disarm(&self, point: &str) {
        fs::remove_file(self.failpoints.path().join(point)).unwrap();
    }

    /// The processes of a function that ask for events, without their children.
    pub fn processes(&self, function: &str) -> Vec<i32> {
        let name = format!("AWS_LAMBDA_FUNCTION_NAME={}-{function}", self.prefix);
        let is_ours = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut variables = environment.split(|b| *b == 0);
            let asks = environment.windows(22).any(|w| w == b"AWS_LAMBDA_RUNTIME_API");
            asks && variables.any(|v| v == name.as_bytes())
        };
        let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(is_ours).collect()
    }

    /// `tasker-ctl` against this deployment.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary("tasker-ctl"));
        command.args(arguments).env("TASKER_URL", &self.api).env("TASKER_QUEUES", &self.queues);
        for (name, value) in credentials(&self.emulator.endpoint) {
            command.env(name, value);
        }
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// The end of every test: the stored values agree with the facts, and no log contains a secret.
    pub async fn check(&self) {
        let (status, examined) = self.get("/v1/doctor").await;
        assert_eq!((status, &examined["total"]), (StatusCode::OK, &json!(0)), "{examined}");
        let signing = format!("{}/signing", self.prefix);
        let keys = self.secret(&signing).await;
        let key: Value = serde_json::from_str(&keys).unwrap();
        let secrets = [self.login.password.as_str(), key["keys"][0]["secret"].as_str().unwrap(), PLANTED];
        for file in fs::read_dir(self.emulator.folder.join("logs")).unwrap() {
            let path = file.unwrap().path();
            let is_ours = path.file_name().unwrap().to_string_lossy().starts_with(&self.prefix);
            // The log of the emulator is not checked: it contains every request.
            if is_ours {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                for secret in secrets {
                    assert!(!text.contains(secret), "{} contains {secret}", path.display());
                }
            }
        }
    }

    pub async fn secret(&self, name: &str) -> String {
        let answer = self.aws_json("secretsmanager.GetSecretValue", &json!({"SecretId": name})).await;
        answer["SecretString"].as_str().unwrap().to_owned()
    }

    /// A call of a service for which this test has no client.
    pub async fn aws_json(&self, target: &str, body: &Value) -> Value {
        let scope =
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/secretsmanager/aws4_request, SignedHeaders=host, Signature=x";
        let request = self.http.post(&self.emulator.endpoint).header("x-amz-target", target).header("authorization", scope);
        let request = request.header("content-type", "application/x-amz-json-1.1").body(body.to_string());
        request.send().await.unwrap().json().await.unwrap()
    }
}

/// A secret in a header and a payload of a test. No log may contain it.
pub const PLANTED: &str = "planted-secret-5f0c";

impl Drop for Deployment {
    fn drop(&mut self) {
        let arguments = ["remove", "--endpoint", &self.emulator.endpoint, "--prefix", &self.prefix];
        // Whatever is left ends with the emulator.
        let _ = Command::new(&self.emulator.python).args(["-m", "tasker_localstack"]).args(arguments).output();
    }
}

#[derive(Debug)]
pub struct DeadLetter {
    pub body: String,
    pub reason: Option<String>,
}

impl From<Message> for DeadLetter {
    fn from(mut message: Message) -> Self {
        let attribute = |a: MessageAttributeValue| a.string_value;
        let reason = message.message_attributes.as_mut().and_then(|all| all.remove("reason")).and_then(attribute);
        Self { body: message.body.unwrap_or_default(), reason }
    }
}

fn run_deploy(
    emulator: &Emulator,
    prefix: &str,
    database: &Database,
    login: &Login,
    failpoints: &Path,
    options: &Options<'_>,
) -> Result<String, String> {
    let name = database.url.split("://").nth(1).unwrap().split('/').nth(1).unwrap().split('?').next().unwrap();
    let host = options.database.as_deref().unwrap_or(&emulator.database);
    let programs = std::env::var("TASKER_PROGRAMS").expect("scripts/with-localstack sets TASKER_PROGRAMS");
    let mut command = Command::new(&emulator.python);
    command.args(["-m", "tasker_localstack", "deploy", "--endpoint", &emulator.endpoint, "--prefix", prefix]);
    command.args(["--programs", &programs, "--database", &format!("postgres://{host}/{name}"), "--user", &login.user]);
    command.arg("--authority").arg(&emulator.authority).arg("--images").arg(emulator.folder.join("images.json"));
    command.args(["--set", &format!("orchestrator_environment.TASKER_FAILPOINTS={}", failpoints.display())]);
    for set in options.set {
        command.args(["--set", set]);
    }
    if options.zips {
        command.arg("--zips");
    }
    if !options.schedule {
        command.arg("--no-schedule");
    }
    let output = command.env("TASKER_DATABASE_PASSWORD", &login.password).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Deploys with an expected failure. Answers the error and the logs.
pub async fn refused_deployment(emulator: &Emulator) -> (String, String) {
    let database = tasker_test_support::database().await;
    let prefix = format!("refused{}", std::process::id());
    let login = Login { user: "tasker".into(), password: "planted-password-refused".into() };
    let failpoints = tempfile::tempdir().unwrap();
    let said = run_deploy(emulator, &prefix, &database, &login, failpoints.path(), &Options::default()).unwrap_err();
    let log = logs(emulator, &prefix);
    let arguments = ["remove", "--endpoint", &emulator.endpoint, "--prefix", &prefix];
    let _ = Command::new(&emulator.python).args(["-m", "tasker_localstack"]).args(arguments).output();
    (said, log)
}

/// The last lines of all logs of a deployment, for the message of a test that fails.
fn logs(emulator: &Emulator, prefix: &str) -> String {
    let mut all = String::new();
    for file in fs::read_dir(emulator.folder.join("logs")).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with(prefix) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(15).collect();
            all += &format!("== {}\n", path.display());
            lines.iter().rev().for_each(|line| all += &format!("{line}\n"));
        }
    }
    all
}

async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub fn sqs(endpoint: &str) -> aws_sdk_sqs::Client {
    use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(endpoint)
        .http_client(tasker_aws::https())
        .build();
    aws_sdk_sqs::Client::from_conf(config)
}

fn credentials(endpoint: &str) -> [(&'static str, String); 4] {
    let text = |s: &str| s.to_owned();
    [
        ("AWS_ENDPOINT_URL", text(endpoint)),
        ("AWS_REGION", text("us-east-1")),
        ("AWS_ACCESS_KEY_ID", text("test")),
        ("AWS_SECRET_ACCESS_KEY", text("test")),
    ]
}

/// A request for an order whose steps all succeed, with changes.
pub fn order(id: &str, different: Value) -> Value {
    let mut order = json!({
        "order_id": id,
        "customer": {"name": "Ada Lovelace", "email": "ada.lovelace@example.com"},
        "items": [{"sku": "DESK-2", "quantity": 2, "unit_price_cents": 32_900}],
        "payment": {"card": "4000-0000-0000-1037"},
    });
    for (key, value) in different.as_object().unwrap() {
        order[key] = value.clone();
    }
    json!({"name": "order_fulfillment", "namespace": "shop", "context": order})
}
