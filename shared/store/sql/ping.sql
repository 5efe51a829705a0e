-- Whether the database answers and has our schema.
select tasker.clock()
