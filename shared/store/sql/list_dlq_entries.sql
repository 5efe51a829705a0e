-- A page of DLQ entries, newest first.
-- $1 status or null · $2 reason or null · $3 namespace or null · $4 template or null · $5 step or null · $6 fingerprint or null
-- $7 at least so old, in seconds · $8 rows · $9 rows to skip · $10 bytes of snapshots · $11 entries to look at
-- Never prepared: each call is planned for its values. The snapshots of further rows are null.
select d.*, case when sum(octet_length(d.text)) over (order by d.created_at desc, d.dlq_entry_id desc) <= $10 then d.text end as snapshot_text
from (
  select e.*, e.snapshot::text as text, e.metadata::text as metadata_text from (
    select q.* from tasker.dlq_entries q
    where ($1::text is null or q.status = $1) and ($6::text is null or q.fingerprint = $6)
      and q.created_at <= tasker.clock() - $7 * interval '1 s'
    order by q.created_at desc, q.dlq_entry_id desc limit $11) e
  where ($2::text is null or e.reason = $2) and ($3::text is null or e.namespace = $3)
    and ($4::text is null or e.template = $4) and ($5::text is null or e.step = $5)
  order by e.created_at desc, e.dlq_entry_id desc limit $8 offset $9) d
order by d.created_at desc, d.dlq_entry_id desc
