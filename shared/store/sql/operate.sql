-- Carries out an operator's action; see operate_v1 in migrations.
-- $1 verb · $2 task · $3 step number or null · $4 further arguments as JSON · $5 actor · $6 reason · $7 what the caller saw, or null
-- $8 dry run · $9 send lease in ms · $10 bodies · $11 bytes of inputs
select * from tasker.operate_v1($1, $2, $3, $4::text::json, $5, $6, $7, $8, $9, $10, $11)
