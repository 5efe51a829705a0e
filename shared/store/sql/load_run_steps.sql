-- Loads the messages of dispatched steps; see load_run_steps_v1 in migrations.
-- $1 tasks · $2 step numbers · $3 bytes of inputs
-- Returns one row per task with the shared data, then one row per step that is still enqueued.
select * from tasker.load_run_steps_v1($1, $2, $3)
