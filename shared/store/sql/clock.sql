-- The time that all decisions use.
select tasker.clock()
