-- Tasks whose counters or state disagree with their steps, and tasks whose template is missing.
-- $1 after this task · $2 up to this one · $3 differences at most
-- Returns (task_id, no, step, what, stored, facts, total); `total` includes differences beyond $3.
select t.task_id, null::int as no, null::text as step, d.what, d.stored, d.facts, count(*) over () as total
from tasker.tasks t
  left join lateral (
    select count(*) as steps,
      count(*) filter (where s.state in ('enqueued', 'in_progress', 'waiting_for_retry')
        or s.state = 'pending' and s.wake_at is not null) as active,
      count(*) filter (where s.state = 'cancelled' or s.state = 'error' and not s.tolerated) as failed,
      count(*) filter (where s.state = 'pending') as pending
    from tasker.steps s where s.task_id = t.task_id) c on true
  cross join lateral (values
    ('total_steps', t.total_steps::text, c.steps::text),
    ('active_steps', t.active_steps::text, c.active::text),
    ('failed_steps', t.failed_steps::text, c.failed::text),
    ('state', t.state, case when c.active > 0 then 'running'
                            when t.state in ('cancelled', 'resolved_manually') then t.state
                            when c.failed > 0 then 'error' else 'complete' end),
    ('pending steps of a complete task', '0', case t.state when 'complete' then c.pending::text else '0' end),
    ('template', t.template_id::text, (select q.template_id::text from tasker.templates q where q.template_id = t.template_id))
  ) d(what, stored, facts)
where t.task_id > $1 and t.task_id <= $2 and d.stored is distinct from d.facts
order by t.task_id limit $3
