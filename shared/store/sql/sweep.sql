-- Takes up steps whose time has passed; see sweep_v1 in migrations.
-- $1 rows at most · $2 send lease in ms · $3 bodies · $4 bytes of inputs
-- Answers what must be sent, and what the caller must decide.
select * from tasker.sweep_v1($1, $2, $3, $4)
