-- Tasks with the state of each step; see task_detail_v1 in migrations.
-- $1 tasks
-- Returns one row per existing task, ascending.
select * from tasker.task_detail_v1($1)
