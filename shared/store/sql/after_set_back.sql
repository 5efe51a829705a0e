-- After the clock was set back: what was due soon may now be due in hours. A step was recorded in the future if its dispatch, start or last
-- failure is later than now. Such a retry or held step is due; a deadline is as long from now as it was from its start.
-- $1 rows
-- Returns the number of changed steps. Skips locked rows. Materialized, so that it reads the index steps_wake, whatever the statistics.
with live as materialized (
  select s.task_id, s.no, greatest(s.dispatched_at, s.started_at, f.finished_at) as recorded
  from tasker.steps s
  left join lateral (select a.finished_at from tasker.attempts a where s.state = 'waiting_for_retry'
    and a.task_id = s.task_id and a.no = s.no and a.lease = s.lease offset 0) f on true
  where s.wake_at is not null
), back as (
  select s.task_id, s.no, l.recorded from live l join tasker.steps s on s.task_id = any (array[l.task_id]) and s.no = l.no
  where s.wake_at > tasker.clock() and case when s.state = 'pending' then s.wake_at > tasker.clock_after(tasker.hold_ms() + 1000)
    else l.recorded > tasker.clock_after(1000) end
  order by s.task_id, s.no limit $1 for update of s skip locked
), moved as (
  update tasker.steps s set
    wake_at = case when s.state in ('pending', 'waiting_for_retry') then tasker.clock() else tasker.clock() + (s.wake_at - b.recorded) end,
    dispatched_at = least(s.dispatched_at, tasker.clock()),
    started_at = least(s.started_at, tasker.clock())
  from back b where s.task_id = any (array[b.task_id]) and s.no = b.no
  returning 1
)
select count(*) from moved
