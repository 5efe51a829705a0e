//! Two databases with the same ids and the same clock. One has the functions as they are; in the other each function for ordinary
//! calls only calls the general one. Every call is made in both, and must return the same.

use std::collections::{BTreeMap, HashSet};

use serde_json::value::RawValue;
use tasker_store::{Change, Store, StoreError};
use tasker_test_support::{Database, database};
use tokio_postgres::Client;

/// The functions for ordinary calls, and the general one of each, whose arguments have the same names.
pub const ORDINARY: &[(&str, &str)] =
    &[("complete_one_v1", "complete_v1"), ("complete_many_v1", "complete_v1"), ("submit_one_v1", "submit_v1")];

pub struct Side {
    pub store: Store,
    pub sql: Client,
    db: Database,
}

pub struct Twins {
    /// As the product has it.
    pub product: Side,
    /// With the general functions only.
    pub general: Side,
    now: i64,
}

impl Side {
    async fn new() -> Self {
        let db = database().await;
        let sql = db.client().await;
        // A table, because a clock that is a constant would be planned anew after each move.
        let clock = "create table public.clock (at timestamptz); insert into public.clock values ('2026-01-01');
          grant select on public.clock to public;
          create or replace function tasker.clock() returns timestamptz language sql stable as 'select at from public.clock';
          do $$ begin execute format('alter database %I set track_functions = ''all''', current_database()); end $$";
        sql.batch_execute(clock).await.unwrap();
        Self { store: Store::new(&db.url, 1).unwrap(), sql, db }
    }

    /// Changes the text of a function.
    pub async fn replace_in(&self, function: &str, right: &str, wrong: &str) {
        let text = self.definition(function).await;
        let text = text.unwrap_or_else(|| panic!("there is no function {function} any more"));
        assert!(text.contains(right), "{function} does not say {right:?} any more");
        self.sql.batch_execute(&text.replace(right, wrong)).await.unwrap();
    }

    async fn definition(&self, function: &str) -> Option<String> {
        let sql = "select pg_get_functiondef(oid) from pg_proc where pronamespace = 'tasker'::regnamespace and proname = $1";
        self.sql.query_opt(sql, &[&function]).await.unwrap().map(|row| row.get(0))
    }

    /// The arguments of a function, and the columns that it returns: names and types.
    async fn arguments(&self, function: &str) -> [BTreeMap<String, (i64, String)>; 2] {
        let sql = "select a.name, format_type(a.type, null), a.mode = 't', a.place
          from pg_proc p, unnest(p.proargnames, coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargmodes)
            with ordinality a(name, type, mode, place)
          where p.pronamespace = 'tasker'::regnamespace and p.proname = $1";
        let mut all = [BTreeMap::new(), BTreeMap::new()];
        for row in self.sql.query(sql, &[&function]).await.unwrap() {
            let is_returned = row.get::<_, Option<bool>>(2) == Some(true);
            all[usize::from(is_returned)].insert(row.get(0), (row.get(3), row.get(1)));
        }
        all
    }

    /// Makes a function for ordinary calls call the general one.
    async fn generalize(&self, ordinary: &str, general: &str) {
        let text = self.definition(ordinary).await.unwrap_or_else(|| panic!("there is no function {ordinary}"));
        let [mut given, returned] = self.arguments(ordinary).await;
        let [wanted, _] = self.arguments(general).await;
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        wanted.sort_by_key(|(_, (place, _))| *place);
        let mut arguments = Vec::new();
        for (name, (_, of)) in wanted {
            arguments.push(match (given.remove(&name), name.as_str()) {
                (Some((_, is)), _) if is == of && !(of.ends_with("[]") && name == "t_tags") => name,
                (Some(_), _) => format!("array[{name}::{}]", of.trim_end_matches("[]")),
                (None, "p_verdict") => "array_fill('complete'::text, array[cardinality(array[p_task])])".into(),
                (None, "p_delay_ms") => "array_fill(0::bigint, array[cardinality(array[p_task])])".into(),
                (None, "p_error") => "array_fill(null::text, array[cardinality(array[p_task])])".into(),
                (None, "p_if_due") => "array_fill(false, array[cardinality(array[p_task])])".into(),
                (None, "t_template" | "w_template") => "array[0]".into(),
                (None, "s_template") => "array_fill(0, array[cardinality(s_no)])".into(),
                (None, other) => panic!("{ordinary} has no argument {other}"),
            });
        }
        assert!(given.is_empty(), "{general} has no arguments {given:?}");
        let mut columns: Vec<_> = returned.into_iter().map(|(name, (place, _))| (place, format!("g.{name}"))).collect();
        columns.sort();
        let columns: Vec<String> = columns.into_iter().map(|(_, name)| name).collect();
        let columns = if columns.is_empty() { "g.*".into() } else { columns.join(", ") };
        let (head, _) = text.split_once("AS $function$").expect("a function has a body");
        let call = format!("return query select {columns} from tasker.{general}({}) g;", arguments.join(", "));
        self.sql.batch_execute(&format!("{head} AS $function$ begin {call} end $function$")).await.unwrap();
    }

    /// How often each function was called. Ends the connections of the store, because only their end tells.
    pub async fn calls(self) -> BTreeMap<String, i64> {
        let Self { store, sql, db: _db } = self;
        drop(store);
        let open = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
          and backend_type = 'client backend'";
        while sql.query_one(open, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::task::yield_now().await;
        }
        let calls = "select funcname, calls from pg_stat_user_functions where schemaname = 'tasker'";
        sql.query(calls, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

impl Twins {
    pub async fn new() -> Self {
        let (product, general) = tokio::join!(Side::new(), Side::new());
        for (ordinary, of) in ORDINARY {
            general.generalize(ordinary, of).await;
        }
        Self { product, general, now: 0 }
    }

    /// Moves both clocks on.
    pub async fn pass(&mut self, ms: i64) {
        self.now += ms;
        self.execute(&format!("update public.clock set at = '2026-01-01'::timestamptz + interval '{} ms'", self.now)).await;
    }

    /// Runs statements of the test in both.
    pub async fn execute(&self, sql: &str) {
        for side in [&self.product, &self.general] {
            side.sql.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        }
    }

    /// What both returned for one call, if it is the same but for the order.
    pub fn same(&self, call: &str, of: [Result<Vec<Change>, StoreError>; 2]) -> Vec<Change> {
        let [product, general] = of.map(|changes| changes.unwrap_or_else(|e| panic!("{call}: {e:?}")));
        headers_come_first(&product, call);
        let [one, other] = [&product, &general].map(|changes| {
            let mut lines: Vec<String> = changes.iter().map(shown).collect();
            lines.sort();
            lines
        });
        let only = |one: &[String], other: &[String]| {
            one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>().join("\n")
        };
        let (more, fewer) = (only(&one, &other), only(&other, &one));
        assert!(one == other, "{call}\nreturned\n{more}\n-- but the general function\n{fewer}");
        product
    }

    /// Every row of every table is the same. Ids that the database draws aside.
    pub async fn compare(&self, after: &str) {
        let columns = "select c.relname, string_agg(quote_ident(a.attname), ', ' order by a.attnum)
          from pg_class c join pg_attribute a on a.attrelid = c.oid
          where c.relnamespace = 'tasker'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
            and a.attname not in ('audit_id', 'dlq_entry_id') and c.relname not like '%schema_history%' group by 1";
        for row in self.product.sql.query(columns, &[]).await.unwrap() {
            let (table, columns): (String, String) = (row.get(0), row.get(1));
            let rows = format!("select row({columns})::text from tasker.{table} order by 1");
            let rows = rows.as_str();
            let (one, other) =
                tokio::join!(async { texts(&self.product.sql, rows).await }, async { texts(&self.general.sql, rows).await });
            let differs = one.iter().zip(&other).find(|(one, other)| one != other);
            assert!(
                one == other,
                "after {after}: {table} has {} and {} rows ({columns}); first difference:\n{differs:?}",
                one.len(),
                other.len()
            );
        }
    }

    /// The doctor finds no difference in all rows.
    pub async fn examine(&self) {
        let report = self.product.store.examine().await.unwrap();
        let differences: Vec<_> = report.differences.iter().filter(|d| d.what != "template").collect();
        assert!(differences.is_empty(), "{differences:#?}");
    }
}

async fn texts(client: &Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// A row of an answer. Results are an object, whose order says nothing.
fn shown(change: &Change) -> String {
    let Change::Run(run) = change else { return format!("{change:?}") };
    let results: Option<BTreeMap<String, Box<RawValue>>> =
        run.results.as_deref().map(|results| serde_json::from_str(results).expect("results are an object"));
    let rest = (run.lease, run.attempt, run.max_attempts, run.resends, run.result_bytes, &run.inputs, &run.checkpoint);
    format!("run {rest:?} {results:?}")
}

/// A message follows the part that all messages of its task share.
fn headers_come_first(changes: &[Change], call: &str) {
    let mut known = HashSet::new();
    for change in changes {
        match change {
            Change::Task(header) => drop(known.insert(header.task)),
            Change::Run(run) => assert!(known.contains(&run.lease.step.task), "{call}: {:?} before its task", run.lease),
            _ => {}
        }
    }
}
