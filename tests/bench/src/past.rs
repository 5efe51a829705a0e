//! Fills a database with finished workflows, and with some whose retry is due in an hour.

use anyhow::Result;
use tokio_postgres::Client;

/// Steps of each of them.
const STEPS: i64 = 4;

/// Inserts finished workflows of four steps each.
pub async fn finished(client: &Client, tasks: i64) -> Result<()> {
    let range = format!("generate_series(1, {tasks}::bigint) i");
    let id = "lpad(to_hex(i), 32, '0')::uuid";
    for sql in [
        format!(
            "insert into tasker.tasks (task_id, template_id, namespace, name, version, environment, state, active_steps,
               failed_steps, total_steps, identity, context, tags, initiator, source_system, reason, correlation_id, created_at,
               finished_at)
             select {id}, {id}, 'rust', 'linear4', '1.0.0', 'development', 'complete', 0, 0, {STEPS}, sha256(i::text::bytea), '{{}}',
               '{{}}', 'a', 'b', 'c', {id}, now(), now() from {range}"
        ),
        format!(
            "insert into tasker.steps (task_id, no, name, state, lease, attempt, max_attempts, pending_parents, parents, children,
               further_ancestors, dispatched_at, finished_at, result, result_bytes, digest, duration_ms, worker)
             select {id}, (n + 1) * 16384, 's' || n, 'complete', 1, 1, 3, 0, '{{}}', '{{}}', '{{}}', now(), now(),
               '{{\"order\": \"6b1f0c7e-52a1-4c58-9f3e-0d9a2a1f7b11\", \"status\": \"done\"}}', 66, 1, 1, 'w'
             from {range}, generate_series(0, {STEPS} - 1) n"
        ),
        format!(
            "insert into tasker.audit_log (task_id, action, actor, reason, from_state, to_state, created_at)
             select {id}, 'finish', 'tasker', 'x', 'running', 'complete', now() from {range}"
        ),
    ] {
        client.batch_execute(&sql).await?;
    }
    Ok(())
}

/// Inserts workflows whose first step waits for its retry, for an hour.
pub async fn waiting(client: &Client, tasks: i64) -> Result<()> {
    let range = format!("generate_series(1, {tasks}::bigint) i");
    let id = "('f' || lpad(to_hex(i), 31, '0'))::uuid";
    for sql in [
        format!(
            "insert into tasker.tasks (task_id, template_id, namespace, name, version, environment, state, active_steps,
               failed_steps, total_steps, context, tags, initiator, source_system, reason, correlation_id, created_at)
             select {id}, {id}, 'rust', 'linear4', '1.0.0', 'development', 'running', 1, 0, {STEPS}, '{{}}', '{{}}', 'a', 'b', 'c', {id},
               now() from {range}"
        ),
        format!(
            "insert into tasker.steps (task_id, no, name, state, lease, attempt, max_attempts, pending_parents, parents, children,
               further_ancestors, wake_at)
             select {id}, (n + 1) * 16384, 's' || n, case n when 0 then 'waiting_for_retry' else 'pending' end, (n = 0)::int, (n = 0)::int, 3,
               (n > 0)::int, case n when 0 then '{{}}'::int[] else array[n * 16384] end,
               case n when {STEPS} - 1 then '{{}}'::int[] else array[(n + 2) * 16384] end, '{{}}',
               case n when 0 then now() + interval '1 hour' end
             from {range}, generate_series(0, {STEPS} - 1) n"
        ),
    ] {
        client.batch_execute(&sql).await?;
    }
    // As autovacuum would have left them.
    Ok(client.batch_execute("vacuum analyze").await?)
}
