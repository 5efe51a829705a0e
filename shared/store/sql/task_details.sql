-- Tasks, each with how its steps stand; see task_detail_v1 in migrations.
-- $1 tasks
-- Answers one row for each task that exists, ascending.
select * from tasker.task_detail_v1($1)
