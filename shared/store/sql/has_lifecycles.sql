-- Whether any template has a threshold, so that a task may be stale.
select exists (select from tasker.templates t where t.lifecycle is not null) as any
