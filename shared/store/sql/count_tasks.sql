-- Counts the tasks of a list, up to a bound.
-- $1..$5 as in list_tasks · $6 the bound
select count(*) from (
  select from tasker.tasks t
  where ($1::text is null or t.namespace = $1) and ($2::text is null or t.name = $2) and ($3::text[] is null or t.state = any ($3))
    and ($4::text is null or t.initiator = $4) and ($5::text is null or t.source_system = $5)
  limit $6) x
