-- Begins every session of the pool: the times after which the server itself ends a statement. A lock is given up after deadlock_timeout
-- (1 s) has passed, a statement before its caller gives it up.
set lock_timeout = '2s';
set statement_timeout = '25s';
set idle_in_transaction_session_timeout = 0;
-- From PostgreSQL 17 on.
select set_config('transaction_timeout', '0', false) where current_setting('transaction_timeout', true) is not null;
