//! What every session gets before its first statement: the settings that our statements rely on, and the checks that may refuse it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::SeqCst},
};

use uuid::Uuid;

use crate::store::sql;

/// The SQLSTATE of a check that no repetition can pass. Its message is a sentence for the operator.
pub(crate) const REFUSED: &str = "TK001";

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
        format!("{}{}{fence}", self.more, sql!("session"))
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
