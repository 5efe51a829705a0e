-- Tasks, each with how its steps stand; see show_v1 in migrations.
-- $1 tasks
-- Answers one row for each task that exists, ascending.
select * from tasker.show_v1($1)
