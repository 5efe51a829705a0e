-- The next page of the pending DLQ entries, oldest first: those that match.
-- $1 reason or null · $2 namespace or null · $3 template or null · $4 step or null · $5 fingerprint or null · $6 entries or null
-- $7 at least so old, in seconds · $8 created at most then, or null: now · $9 created_at and $10 id of the last entry of the previous page,
-- or '-infinity' and the nil UUID · $11 entries to look at · $12 rows
-- Returns the matching entries. With each, and once without an entry if none matches: `before`, which is $8 or the time now;
-- (last_created, last_id), the last entry that was looked at; and `more`, whether others may come after it.
-- Never prepared: each call is planned for its values.
with bounds as materialized (
  select coalesce($8::text::timestamptz, tasker.clock()) as before
), looked as materialized (
  select e.* from tasker.dlq_entries e
  where e.status = 'pending' and ($5::text is null or e.fingerprint = $5) and ($6::uuid[] is null or e.dlq_entry_id = any ($6))
    and e.created_at <= (select least(b.before, tasker.clock() - $7 * interval '1 s') from bounds b)
    and e.created_at >= $9::text::timestamptz and (e.created_at, e.dlq_entry_id) > ($9::text::timestamptz, $10)
  order by e.created_at, e.dlq_entry_id limit $11
)
select d.*, d.created_at::text as created_text, b.before::text as before, l.created_at::text as last_created, l.dlq_entry_id as last_id,
  (select count(*) from looked) = $11 as more
from bounds b
  left join lateral (select q.created_at, q.dlq_entry_id from looked q order by q.created_at desc, q.dlq_entry_id desc limit 1) l on true
  left join lateral (
    select q.dlq_entry_id, q.task_id, q.namespace, q.template, q.step, q.reason, q.reason_detail, q.fingerprint, q.created_at from looked q
    where ($1::text is null or q.reason = $1) and ($2::text is null or q.namespace = $2) and ($3::text is null or q.template = $3)
      and ($4::text is null or q.step = $4)
    order by q.created_at, q.dlq_entry_id limit $12) d on true
order by d.created_at, d.dlq_entry_id
