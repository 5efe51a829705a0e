-- The sessions that have held locks on our tables for more than a second, and may block our statements. Those of our own pools end by
-- themselves within 5 s, or hang.
-- A lock on a whole table that excludes writers blocks every statement, also while its session still waits for it.
-- Returns (text, all), the oldest transaction first. Sessions of other users show their columns only to pg_read_all_stats.
with locks as (
  select l.pid, c.relname, l.granted, l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') as whole
  from pg_locks l join pg_class c on c.oid = l.relation
  where l.database = (select oid from pg_database where datname = current_database())
    and c.relnamespace = 'tasker'::regnamespace and c.relkind = 'r'
    and l.mode not in ('AccessShareLock', 'ShareUpdateExclusiveLock') and l.pid <> pg_backend_pid()
), held as (
  select k.pid, bool_or(k.whole) as whole, string_agg(distinct k.relname, ', ' order by k.relname) as tables
  from locks k where k.granted or k.whole group by k.pid
)
select format('%s of %s: pid %s%s%s%s', case when h.whole then 'a lock' else 'locked rows' end, h.tables, h.pid,
    ', application ' || nullif(a.application_name, ''), ', ' || a.state,
    to_char(a.xact_start at time zone 'UTC', '", since "YYYY-MM-DD"T"HH24:MI:SS"Z"')) as text,
  h.whole as "all"
from held h join pg_stat_activity a on a.pid = h.pid
where coalesce(a.xact_start < clock_timestamp() - case a.application_name when 'tasker' then interval '5 s' else interval '1 s' end, true)
order by a.xact_start nulls last limit 20
