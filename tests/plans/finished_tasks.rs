//! Inserts many finished tasks, as a year of operation would leave them.

use std::ops::Range;

use tasker_test_support::Database;
use tokio_postgres::Client;
use uuid::Uuid;

/// The number of a task determines its namespace, its name and whether it failed.
const TASKS: &str = "insert into tasker.tasks (task_id, template_id, namespace, name, version, environment, state, active_steps,
    failed_steps, total_steps, identity, context, tags, initiator, source_system, reason, correlation_id, created_at, finished_at)
  select lpad(to_hex(i), 32, '0')::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'ns' || i % 10, 'name' || i % 100, '1.0.0', 'test',
    case when i % 20 = 0 then 'error' else 'complete' end, 0, (i % 20 = 0)::int, $STEPS, sha256(i::text::bytea), '{}', '{}', 'a', 'b',
    'c', lpad(to_hex(i), 32, '0')::uuid, now(), now()
  from generate_series($FROM::bigint, $TO::bigint) i";
const DLQ_ENTRIES: &str = "insert into tasker.dlq_entries
    (task_id, namespace, template, original_state, reason, reason_detail, fingerprint, snapshot, created_at, updated_at)
  select lpad(to_hex(i), 32, '0')::uuid, 'ns' || i % 10, 'name' || i % 100, 'running', 'max_retries_exceeded', 'x', 'f' || i % 1000, '{}',
    now() - interval '1 hour' + i * interval '1 ms', now()
  from generate_series($FROM::bigint, $TO::bigint) i where i % 20 = 0";
const STEPS: &str = "insert into tasker.steps (task_id, no, name, state, lease, attempt, max_attempts, pending_parents, parents, children,
    further_ancestors, dispatched_at, finished_at, result, result_bytes, digest, duration_ms, worker)
  select lpad(to_hex(i), 32, '0')::uuid, (n + 1) * 16384, 's' || n, case when i % 20 = 0 then 'error' else 'complete' end, 1, 1, 3, 0, '{}', '{}',
    '{}', now(), now(), '1', 1, case when i % 20 > 0 then 1 end, 1, 'w'
  from generate_series($FROM::bigint, $TO::bigint) i, generate_series(0, $STEPS - 1) n";
const ATTEMPTS: &str = "insert into tasker.attempts
    (task_id, no, lease, attempt, outcome, applied, digest, worker, duration_ms, finished_at)
  select lpad(to_hex(i), 32, '0')::uuid, (n + 1) * 16384, 1, 1, 'failure', true, 1, 'w', 1, now()
  from generate_series($FROM::bigint, $TO::bigint) i, generate_series(0, $STEPS - 1) n where i % 20 = 0";
const AUDIT: &str = "insert into tasker.audit_log (task_id, action, actor, reason, from_state, to_state, created_at)
  select lpad(to_hex(i), 32, '0')::uuid, 'finish', 'tasker', 'x', 'running', case when i % 20 = 0 then 'error' else 'complete' end, now()
  from generate_series($FROM::bigint, $TO::bigint) i";

/// The id of the task with a number.
pub fn task(number: u64) -> Uuid {
    Uuid::from_u128(number.into())
}

/// How many tasks, and of how many steps.
pub fn size() -> (u64, u64) {
    let number = |name, otherwise| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    (number("TASKER_TEST_TASKS", 1_000_000), number("TASKER_TEST_STEPS", 1))
}

const TABLES: [&str; 5] = ["tasks", "steps", "attempts", "dlq_entries", "audit_log"];

/// Leaves statistics to the test.
pub async fn keep_statistics(client: &Client) {
    for table in TABLES {
        client.batch_execute(&format!("alter table tasker.{table} set (autovacuum_enabled = false)")).await.unwrap();
    }
}

/// Does not log the tables, which are thrown away anyway.
pub async fn do_not_log(client: &Client) {
    for table in TABLES {
        client.batch_execute(&format!("alter table tasker.{table} set unlogged")).await.unwrap();
    }
}

/// Gives the tasks of the workload a template with a threshold that none of them exceeds.
pub async fn watch(client: &Client) {
    let sql = "insert into tasker.templates (template_id, namespace, name, version, revision, definition, sha256, lifecycle, created_at)
      values ('00000000-0000-0000-0000-000000000000', 'ns3', 'name3', '1.0.0', 1, '{}', sha256(''),
        '{\"max_duration_minutes\": 100000000}', now())";
    client.batch_execute(sql).await.unwrap();
}

/// Inserts finished tasks row by row, as operation would, so that no query plan is invalidated.
pub async fn insert(client: &Client, tasks: Range<u64>, steps: u64) {
    for sql in [TASKS, DLQ_ENTRIES, STEPS, ATTEMPTS, AUDIT] {
        client.batch_execute(&filled(sql, &tasks, steps)).await.unwrap();
    }
}

/// Inserts finished tasks fast: indexes are created afterwards, and two connections share the tables.
pub async fn load(db: &Database, tasks: Range<u64>, steps: u64) {
    let one = db.client().await;
    let other = db.client().await;
    tokio::join!(
        async {
            without_indexes(&one, "tasks", &filled(TASKS, &tasks, steps)).await;
            one.batch_execute(&filled(DLQ_ENTRIES, &tasks, steps)).await.unwrap();
            without_indexes(&one, "audit_log", &filled(AUDIT, &tasks, steps)).await;
        },
        async {
            without_indexes(&other, "steps", &filled(STEPS, &tasks, steps)).await;
            without_indexes(&other, "attempts", &filled(ATTEMPTS, &tasks, steps)).await;
        }
    );
}

fn filled(sql: &str, tasks: &Range<u64>, steps: u64) -> String {
    let (first, last) = (tasks.start.to_string(), (tasks.end - 1).to_string());
    sql.replace("$FROM", &first).replace("$TO", &last).replace("$STEPS", &steps.to_string())
}

async fn without_indexes(client: &Client, table: &str, sql: &str) {
    let definitions =
        "select i.relname, x.indisprimary, pg_get_indexdef(x.indexrelid) from pg_index x join pg_class i on i.oid = x.indexrelid
        where x.indrelid = $1::text::regclass order by i.oid";
    let rows = client.query(definitions, &[&format!("tasker.{table}")]).await.unwrap();
    let indexes: Vec<(String, bool, String)> = rows.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect();
    for (name, primary, _) in &indexes {
        let drop = if *primary {
            format!("alter table tasker.{table} drop constraint {name}")
        } else {
            format!("drop index tasker.{name}")
        };
        client.batch_execute(&drop).await.unwrap();
    }
    client.batch_execute(sql).await.unwrap();
    for (name, primary, definition) in &indexes {
        client.batch_execute(definition).await.unwrap();
        if *primary {
            client
                .batch_execute(&format!("alter table tasker.{table} add constraint {name} primary key using index {name}"))
                .await
                .unwrap();
        }
    }
}
