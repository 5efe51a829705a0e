-- What explains why a task and its steps are where they are; see explain_v1 in migrations.
-- $1 task · $2 steps at most
-- Returns one row; none if the task does not exist.
select * from tasker.explain_v1($1, $2)
