-- Fails unless the database is reachable and has the schema.
select tasker.clock()
