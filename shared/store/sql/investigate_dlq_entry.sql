-- Writes down what an investigation of a DLQ entry found.
-- $1 entry · $2 status or null · $3 notes or null · $4 who or null · $5 metadata as JSON or null
-- What is null stays as it is. Returns a row if there is such an entry, and whether it was changed: an entry does not wait again while its
-- task has another one of its reason that waits, or has ended for good (ended: its state).
with was as (
  select d.* from tasker.dlq_entries d where d.dlq_entry_id = $1 for update
), ended as (
  select t.state from was w, tasker.tasks t where t.task_id = w.task_id and $2 is not distinct from 'pending'
    and t.state in ('complete', 'resolved_manually')
), changed as (
  update tasker.dlq_entries d set status = coalesce($2, d.status), notes = coalesce($3, d.notes), resolved_by = coalesce($4, d.resolved_by),
    metadata = coalesce($5::text::json, d.metadata), updated_at = tasker.clock(),
    resolved_at = case when coalesce($2, d.status) = 'pending' then null when $2 is null then d.resolved_at else tasker.clock() end
  from was w where d.dlq_entry_id = w.dlq_entry_id and not exists (select from ended) and not ($2 is not distinct from 'pending' and exists (
    select from tasker.dlq_entries o where o.task_id = w.task_id and o.reason = w.reason and o.status = 'pending'
      and o.dlq_entry_id <> w.dlq_entry_id))
  returning d.dlq_entry_id, d.status
), audited as (
  insert into tasker.audit_log (task_id, no, action, actor, reason, from_state, to_state, metadata, created_at)
  select w.task_id, w.no, 'investigate', coalesce($4, 'unknown'), coalesce($3, ''), w.status, c.status,
    json_build_object('dlq_entry_id', w.dlq_entry_id, 'metadata', $5::text::json), tasker.clock() from was w, changed c
)
select exists (select from changed) as changed, (select e.state from ended e) as ended from was
