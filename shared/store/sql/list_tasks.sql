-- A page of tasks, newest first.
-- $1 namespace or null · $2 name or null · $3 states or null · $4 initiator or null · $5 source system or null · $6 rows · $7 rows to skip
-- Returns ids. Never prepared: each call is planned for its values, so a filter that is null costs nothing. Both sort keys give the
-- same order; the first one is constant unless namespace and name are given, when it selects the index tasks_by_template.
select t.task_id from tasker.tasks t
where ($1::text is null or t.namespace = $1) and ($2::text is null or t.name = $2) and ($3::text[] is null or t.state = any ($3))
  and ($4::text is null or t.initiator = $4) and ($5::text is null or t.source_system = $5)
order by case when $1 is not null and $2 is not null then uuid_send(t.task_id) end desc, t.task_id desc limit $6 offset $7
