//! What every session gets before its first statement: the settings that our statements rely on, and the checks that may refuse it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::SeqCst},
};

use uuid::Uuid;

/// The SQLSTATE of a check that no repetition can pass. Its message is a sentence for the operator.
pub(crate) const REFUSED: &str = "TK001";

/// A role or a database may set other values. Our invariants hold at this isolation level: a statement that waited for a lock reads the
/// row again. Keep-alives let the server end the session of a machine that is gone, with its locks.
const SETTINGS: &str = "
set default_transaction_isolation = 'read committed';
set default_transaction_deferrable = off;
set idle_session_timeout = 0;
set tcp_keepalives_idle = 10;
set tcp_keepalives_interval = 5;
set tcp_keepalives_count = 3;
set tcp_user_timeout = 25000;
do $$ begin
  if pg_catalog.getdatabaseencoding() <> 'UTF8' then
    raise exception using errcode = 'TK001', message = pg_catalog.format(
      'the encoding of the database %I is %s, which cannot store every text; use a database that was created with '
      '`create database NAME encoding ''UTF8'' template template0`',
      pg_catalog.current_database(), pg_catalog.getdatabaseencoding());
  end if;
end $$;
";

/// The statements that begin each session of a connector.
#[derive(Clone, Default)]
pub(crate) struct Session {
    /// Settings beyond those of every session. They come first, because they may be timeouts.
    pub more: String,
    /// Without that ownership a session does not begin.
    pub fence: Option<Fence>,
}

impl Session {
    pub fn statements(&self) -> String {
        let fence = self.fence.as_ref().map(Fence::check).unwrap_or_default();
        format!("{}{SETTINGS}{fence}", self.more)
    }
}

/// The mark of the current ownership: an advisory lock that only its session holds. Clones share it.
///
/// A session of the owner's pool begins only while the server knows the mark. So no session can begin after another process took the
/// ownership, and the other process ends those that had begun before: nothing of a past owner commits any more, whatever it believes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fence(Arc<AtomicI64>);

impl Fence {
    pub fn set(&self, mark: i64) {
        self.0.store(mark, SeqCst);
    }

    fn check(&self) -> String {
        let mark = self.0.load(SeqCst);
        format!(
            "do $$ begin
               if not exists (
                 select from pg_catalog.pg_locks l where l.locktype = 'advisory' and l.granted and l.objsubid = 1
                   and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
                   and l.classid::bigint << 32 | l.objid::bigint = {mark}) then
                 raise exception using errcode = '57T01', message = 'this process does not hold the ownership of the database';
               end if;
             end $$;"
        )
    }
}

/// The key of an advisory lock that nobody else takes.
pub(crate) fn fresh_mark() -> i64 {
    (Uuid::new_v4().as_u128() as i64) & i64::MAX
}
